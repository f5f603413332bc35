# SPDX-License-Identifier: Apache-2.0
"""`sync`: one image is replicated before all others."""

import threading

import pytest

from glance_repl_mw.model import Priority, ReplicaStatus, Wish
from glance_repl_mw.spool.directory import Spool
from tests.lab.process import wait_until
from tests.unit.cmd.conftest import IMAGE


def rows(records, target):
    found = records.survey.of_images([IMAGE]).get(IMAGE, [])
    return [row for row in found if row.target == target]


def test_all_targets_that_may_have_the_image_are_asked_for(node, glance, records, configure):
    configure("replication:site-a", mode="lazy")
    configure("replication:site-c", replicate_if="tag:golden")
    status, out, _ = node.run("sync", IMAGE)
    assert status == 0
    assert out.splitlines() == [
        "site-c: left out: replicate_if: tag:golden does not hold",
        "site-a: is made now",
    ]
    (row,) = rows(records, "site-a")
    assert (row.status, row.priority, row.size) == ("pending", Priority.SYNC, 5)
    assert rows(records, "site-c") == []
    assert Spool(str(node.spool)).take_notes() == [IMAGE]


def test_named_target_is_asked_for_whatever_its_rule_says(node, glance, records, configure):
    configure("replication:site-c", replicate_if="tag:golden")
    for _ in range(2):
        status, out, _ = node.run("sync", IMAGE, "--target", "site-c")
        assert (status, out) == (0, "site-c: is made now\n")
    assert len(rows(records, "site-c")) == 1
    assert rows(records, "site-a") == []


def test_replica_that_waits_is_made_sooner(node, glance, records, add):
    add(IMAGE, "site-a", [ReplicaStatus.ERROR], next_attempt_at=None, attempts=3)
    add(IMAGE, "site-c", [], node="a-node", next_attempt_at=None)
    _, out, _ = node.run("sync", IMAGE)
    assert out.splitlines() == ["site-a: is made now", "site-c: is being made: pending"]
    (row,) = rows(records, "site-a")
    assert row.priority == Priority.SYNC
    assert row.next_attempt_at is not None
    assert rows(records, "site-c")[0].next_attempt_at is None


def test_what_was_withheld_is_withheld_no_more(node, glance, records, add):
    add(IMAGE, "site-a", [ReplicaStatus.DELETED], withheld=True)
    node.run("sync", IMAGE, "--target", "site-a")
    assert [row.withheld for row in rows(records, "site-a")] == [False, False]
    assert rows(records, "site-a")[-1].status == "pending"


def test_active_replica_is_left_alone(node, glance, records, add):
    add(IMAGE, "site-a")
    status, out, _ = node.run("sync", IMAGE, "--target", "site-a", "--wait")
    assert (status, out.splitlines()) == (0, ["site-a: has it already", "site-a: active"])
    assert len(rows(records, "site-a")) == 1


@pytest.mark.parametrize(
    ("step", "values", "status", "last"),
    [
        ("error", {"attempts": 1, "error": "no room"}, 1, "site-a: failed: no room"),
        ("deleted", {}, 1, "site-a: failed: it was removed"),
        ("active", {}, 0, "site-a: active"),
    ],
)
def test_wait_ends_with_the_first_attempt(node, glance, records, step, values, status, last):
    def finish():
        row = wait_until(lambda: rows(records, "site-a"), 60, "it is planned")[0]
        steps = {"active": ("uploading", "stored", "active")}.get(step, (step,))
        for name in steps:
            row = records.survey.change(row, ReplicaStatus(name), **values)

    writer = threading.Thread(target=finish)
    writer.start()
    ended, out, _ = node.run("sync", IMAGE, "--target", "site-a", "--wait")
    writer.join()
    assert ended == status
    assert out.splitlines()[-1] == last


def test_targets_that_cannot_be_asked_for(node, glance, records, add):
    records.wishes.ask("site-a", Wish.DRAIN)
    add(IMAGE, "gone")
    for target, words in (
        ("site-a", "target restore"),
        ("gone", "not configured any more"),
        ("nope", "known: gone, site-a, site-c"),
    ):
        status, out, err = node.run("sync", IMAGE, "--target", target)
        assert (status, out) == (2, "")
        assert words in err
    _, out, _ = node.run("sync", IMAGE)
    assert out.splitlines()[0] == "site-a: left out: it is drained or removed"


@pytest.mark.parametrize("record", [{"status": "queued", "size": None}, {"size": 0}])
def test_image_without_data_cannot_be_asked_for(node, glance, records, record):
    glance.record.update(record)
    status, _, err = node.run("sync", IMAGE)
    assert status == 2
    assert "nothing to copy" in err
    assert rows(records, "site-a") == []
