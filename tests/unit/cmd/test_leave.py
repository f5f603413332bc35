# SPDX-License-Identifier: Apache-2.0
"""`target drain`, `remove` and `restore`: what they ask for, and how they wait for it."""

import pytest

from glance_repl_mw.cmd import leave
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.model import Image, ReplicaStatus, Wish
from glance_repl_mw.reconciler.leaving import CANNOT_LEAVE
from glance_repl_mw.reconciler.place import marked_fact
from glance_repl_mw.spool.directory import Spool

ORDERS = {
    "drain": ("target", "drain", "site-c"),
    "remove": ("target", "remove", "site-c", "--force"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leave, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(leave, "_SHOW_SECONDS", 0)


@pytest.fixture
def after_each_line(monkeypatch):
    """Let one of these happen after each line of progress."""

    def use(*events):
        progress, coming = leave._progress, list(events)

        def show(*arguments):
            line = progress(*arguments)
            coming.pop(0)()
            return line

        monkeypatch.setattr(leave, "_progress", show)

    return use


@pytest.fixture
def change(records):
    def change(image, status=None, **values):
        row = records.survey.of_images([image])[image][-1]
        assert records.survey.change(row, status, **values)

    return change


@pytest.mark.parametrize("order", ORDERS)
def test_wish_is_recorded_and_not_waited_for(node, add, records, order):
    add("one", "site-c")
    status, out, err = node.run(*ORDERS[order], "--no-wait")
    assert (status, err) == (0, "")
    assert "in the background" in out
    assert records.wishes.all() == {"site-c": Wish(order)}


@pytest.mark.parametrize("order", ORDERS)
def test_progress_is_shown_until_the_target_is_empty(node, add, change, after_each_line, order):
    for image in ("one", "two"):
        add(image, "site-c")
    after_each_line(
        lambda: change("one", ReplicaStatus.DELETING),
        lambda: change("two", ReplicaStatus.DELETING),
        lambda: change("one", ReplicaStatus.DELETED),
        lambda: change("two", ReplicaStatus.DELETED),
    )
    status, out, err = node.run(*ORDERS[order])
    assert (status, err) == (0, "")
    assert out.splitlines()[1:] == [
        "Replicas left: 2 (2 active)",
        "Replicas left: 2 (1 active, 1 deleting)",
        "Replicas left: 2 (2 deleting)",
        "Replicas left: 1 (1 deleting)",
        "Target site-c is empty.",
    ]


def test_drain_ends_when_only_replicas_are_left_that_cannot_leave(
    node, add, change, after_each_line
):
    add("one", "site-c")
    stays = f"{CANNOT_LEAVE}it is the only location of the image"
    after_each_line(lambda: change("one", error=stays))
    status, out, _ = node.run(*ORDERS["drain"])
    assert status == 1
    assert f"image one {stays}" in out


def test_what_could_not_leave_is_looked_at_anew(node, add, records):
    add("one", "site-c", error=f"{CANNOT_LEAVE}because")
    for order in (*ORDERS.values(), ("target", "restore", "site-c")):
        node.run(*order, *(() if "restore" in order else ("--no-wait",)))
        (row,) = records.survey.of_images(["one"])["one"]
        assert row.error is None
        records.survey.change(row, error=f"{CANNOT_LEAVE}because")


def test_reason_why_objects_stay_for_now_is_shown(node, add, change, after_each_line):
    add("one", "site-c", [ReplicaStatus.DELETING], attempts=3, error="refused")
    after_each_line(lambda: change("one", ReplicaStatus.DELETED))
    _, out, _ = node.run(*ORDERS["drain"])
    assert "Replicas left: 1 (1 deleting); the target is asked again: refused" in out


@pytest.mark.parametrize("order", ORDERS)
def test_interrupted_wait_leaves_the_wish(node, add, records, monkeypatch, order):
    add("one", "site-c")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(leave, "_progress", interrupt)
    status, out, _ = node.run(*ORDERS[order])
    assert status == leave.INTERRUPTED
    assert "goes on in the background" in out.splitlines()[-1]
    assert records.wishes.all() == {"site-c": Wish(order)}


@pytest.mark.parametrize(
    "order", [*ORDERS.values(), ("target", "restore", "site-c")], ids=" ".join
)
def test_unknown_target_is_an_error_that_names_the_known_ones(node, add, records, order):
    add("one", "gone")
    unknown = ["nope" if word == "site-c" else word for word in order]
    status, out, err = node.run(*unknown)
    assert (status, out) == (2, "")
    assert "target nope" in err
    assert "known: gone, site-a, site-c" in err
    assert records.wishes.all() == {}


def test_remove_without_force_explains_and_asks_for_nothing(node, records):
    status, out, err = node.run("target", "remove", "site-c")
    assert (status, out) == (2, "")
    assert "--force" in err
    assert "target drain" in err
    assert records.wishes.all() == {}


def test_drain_of_a_target_that_is_not_configured_is_refused(node, add, records):
    add("one", "gone")
    status, _, err = node.run("target", "drain", "gone")
    assert status == 2
    assert "target gone" in err
    assert "remove --force" in err
    assert records.wishes.all() == {}


def test_restore_takes_the_wish_back(node, records):
    records.wishes.ask("site-c", Wish.DRAIN)
    for _ in range(2):
        status, out, _ = node.run("target", "restore", "site-c")
        assert status == 0
        assert "holds replicas again" in out
        assert records.wishes.all() == {}


def test_restored_target_may_have_another_disk(node, records):
    known = DeletionRecords(records.database)
    for target in ("site-a", "site-c"):
        known.set_fact(marked_fact(target), node.url)
    node.run("target", "restore", "site-c")
    assert known.fact(marked_fact("site-c")) is None
    assert known.fact(marked_fact("site-a")) == node.url


@pytest.mark.parametrize("order", ORDERS.values(), ids=" ".join)
def test_database_that_is_not_there_is_one_line(node, order):
    status, out, err = node.run(*order)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "glance-repl-manage db sync" in err


class Images:
    """Glance's images, of which `active` has a replica at site-c."""

    def __init__(self, conf):
        pass

    def page(self, after, limit, *, hidden=False):
        names = [] if hidden or after else ["active", "one", "two", "queued"]
        hashes = dict.fromkeys(("checksum", "os_hash_algo", "os_hash_value"))
        return [
            Image(
                name,
                status="queued" if name == "queued" else "active",
                size=5,
                locations=("file:///x",),
                **hashes,
            )
            for name in names
        ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "The writer makes what is missing there"),
        ({"automatic_backfill": "false"}, "Images missing there: 2; "),
        ({"automatic_backfill": "false", "mode": "lazy"}, "it gets what is asked for"),
    ],
)
def test_restore_says_what_becomes_of_what_the_target_lost(
    node, add, records, configure, monkeypatch, options, words
):
    monkeypatch.setattr(leave, "ImageService", Images)
    if mode := options.pop("mode", None):
        configure("replication:site-c", mode=mode)
    configure("replication", **options)
    Spool(str(node.spool)).prepare()
    add("active", "site-c")
    records.wishes.ask("site-c", Wish.DRAIN)
    status, out, _ = node.run("target", "restore", "site-c")
    assert (status, words in out) == (0, True), out
    is_to_be_asked_for = words.startswith("Images")
    assert ("glance-repl-manage backfill --target site-c" in out) is is_to_be_asked_for


def test_restore_goes_on_where_glance_does_not_answer(node, records, configure):
    url = "http://127.0.0.1:1/"
    configure("replication", automatic_backfill="false", auth_type="none", endpoint_override=url)
    Spool(str(node.spool)).prepare()
    status, out, _ = node.run("target", "restore", "site-c")
    assert (status, "is not known" in out) == (0, True)
    assert "backfill --target site-c" in out
