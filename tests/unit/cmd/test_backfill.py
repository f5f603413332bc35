# SPDX-License-Identifier: Apache-2.0
"""`backfill`: which images lack a replica at a target, and what is planned for them."""

import dataclasses

import pytest

from glance_repl_mw.cmd import backfill
from glance_repl_mw.model import Image, Priority, ReplicaStatus, Wish
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin, Upload, UploadState

NAMES = ("new", "active", "planned", "closed", "withheld", "in-spool", "empty", "queued", "named")


@pytest.fixture
def glance(node, monkeypatch):
    """One image of every kind; those to be backfilled are `new`, `closed` and `hidden`."""

    def image(name, **values):
        record = {"status": "active", "size": 5, "locations": ("file:///x",), **values}
        return Image(name, checksum=None, os_hash_algo=None, os_hash_value=None, **record)

    special = {
        "empty": {"size": 0},
        "queued": {"status": "queued", "size": None},
        "named": {"locations": (f"{node.url}c/named.u.1",)},
        "closed": {"visibility": "public"},
    }
    shown = [image(name, **special.get(name, {})) for name in NAMES]

    class Images:
        def __init__(self, conf):
            pass

        def page(self, after, limit, *, hidden=False):
            if after is not None:
                return []
            return [image("hidden", status="deactivated", size=7)] if hidden else shown

    monkeypatch.setattr(backfill, "ImageService", Images)


@pytest.fixture
def deployment(node, glance, add, records):
    add("active", "site-c")
    add("new", "site-a")
    add("planned", "site-c", [])
    add("closed", "site-c", [ReplicaStatus.DELETED])
    add("withheld", "site-c", [ReplicaStatus.DELETED], withheld=True)
    spool = Spool(str(node.spool))
    spool.prepare()
    spool.write_sidecar(Upload("0" * 32, "in-spool", 5, UploadState.ACCEPTED, 0.0))


def planned(records):
    names = (*NAMES, "hidden")
    return {
        image
        for image, rows in records.survey.of_images(names).items()
        if any(row.priority == Priority.BACKFILL for row in rows)
    }


def test_dry_run_shows_what_is_missing_and_plans_nothing(node, deployment, records):
    status, out, err = node.run("backfill", "--target", "site-c", "--dry-run")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "new 5",
        "closed 5",
        "hidden 7",
        "Images that target site-c lacks: 3; bytes: 17.",
        "Images in the spool, which its writer replicates there: 1.",
        "Images left out, since someone removed their location: 1.",
    ]
    assert planned(records) == set()


def test_rows_are_made_that_the_feeder_takes_up(node, deployment, records):
    status, out, _ = node.run("backfill", "--target", "site-c")
    assert status == 0
    assert "Images planned for target site-c: 3; bytes: 17." in out.splitlines()
    assert "The writer makes them" in out
    assert planned(records) == {"new", "closed", "hidden"}
    row = records.survey.of_images(["hidden"])["hidden"][-1]
    assert (row.target, row.status, row.size) == ("site-c", ReplicaStatus.PENDING, 7)
    assert row.next_attempt_at is not None
    _, again, _ = node.run("backfill", "--target", "site-c")
    assert "site-c: 0;" in again


def test_limit_ends_it_early(node, deployment, records):
    node.run("backfill", "--target", "site-c", "--limit", "1")
    assert planned(records) == {"new"}
    node.run("backfill", "--target", "site-c", "--limit", "1")
    assert planned(records) == {"new", "closed"}


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_limit_is_a_number(node, capsys, limit):
    with pytest.raises(SystemExit) as ended:
        node.run("backfill", "--target", "site-c", "--limit", limit)
    assert ended.value.code == 2
    assert "must be a number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize("wish", Wish)
def test_target_that_leaves_is_refused(node, deployment, records, wish):
    records.wishes.ask("site-c", wish)
    status, out, err = node.run("backfill", "--target", "site-c")
    assert (status, out) == (2, "")
    assert "target restore" in err
    assert planned(records) == set()


@pytest.mark.parametrize(
    ("target", "words"), [("nope", "known: gone, site-a"), ("gone", "not configured")]
)
def test_target_that_cannot_be_written_is_refused(node, deployment, add, target, words):
    add("active", "gone")
    status, out, err = node.run("backfill", "--target", target)
    assert (status, out) == (2, "")
    assert f"target {target}" in err
    assert words in err


def test_lazy_target_gets_what_is_asked_for_unless_its_rule_says_no(node, deployment, records):
    text = node.config.read_text()
    options = "mode = lazy\nreplicate_if = visibility:public\n"
    node.config.write_text(
        text.replace("[replication:site-c]\n", f"[replication:site-c]\n{options}")
    )
    status, out, _ = node.run("backfill", "--target", "site-c")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "Target site-c is lazy: it gets these images since you ask for it."
    assert lines[-1] == "Images left out, as glance-repl-manage explain IMAGE says: 3."
    assert planned(records) == {"closed"}


@pytest.mark.parametrize(
    ("values", "is_planned"),
    [
        ({"targets": ("site-a",), "origin": Origin.GLANCE}, True),
        ({"targets": ("site-a", "site-c"), "origin": Origin.GLANCE}, False),
        ({"targets": ("site-c",), "state": UploadState.RECEIVING}, False),
        ({"state": UploadState.REJECTED}, True),
        ({"error": "the spool was full"}, True),
        (
            {
                "targets": ("site-c",),
                "origin": Origin.DOWNLOAD,
                "state": UploadState.RECEIVING,
            },
            True,
        ),
        ({}, False),
    ],
)
def test_image_in_the_spool_is_planned_unless_its_upload_goes_there(
    node, deployment, records, values, is_planned
):
    spool = Spool(str(node.spool))
    upload = Upload("0" * 32, "in-spool", 5, UploadState.ACCEPTED, 0.0)
    spool.write_sidecar(dataclasses.replace(upload, **values))
    status, out, _ = node.run("backfill", "--target", "site-c")
    assert status == 0
    assert ("in-spool" in planned(records)) is is_planned
    # Nothing is left out silently.
    told = "Images in the spool, which its writer replicates there: 1." in out.splitlines()
    assert told is not is_planned
    assert f"Images planned for target site-c: {3 + is_planned};" in out


def test_second_target_misses_none_of_what_is_fetched_for_the_first(node, deployment, records):
    spool = Spool(str(node.spool))
    for number, name in enumerate(["new", "closed", "hidden"]):
        spool.write_sidecar(
            Upload(
                f"{number:032x}",
                name,
                5,
                UploadState.RECEIVING,
                0.0,
                origin=Origin.GLANCE,
                targets=("site-a",),
            )
        )
    node.run("backfill", "--target", "site-c")
    assert planned(records) >= {"new", "closed", "hidden"}


def test_without_a_writer_it_is_said(node, deployment):
    node.end_writer()
    status, _, err = node.run("backfill", "--target", "site-c")
    assert (status, "no writer runs on this node" in err) == (0, True)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_images_in_a_spool_that_only_other_nodes_could_see_are_no_silent_ones(
    node, deployment, report, more
):
    report("other-node")
    node.end_writer()
    status, _, err = node.run("backfill", "--target", "site-c", *more)
    assert (status, err.count("no other one reads its spool")) == (0, 1)
