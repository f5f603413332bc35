# SPDX-License-Identifier: Apache-2.0
"""Rows of replicas, as the writer uses them, on a database that the migrations made."""

import datetime

import pytest
from oslo_utils import timeutils

from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import Priority, ReplicaStatus
from glance_repl_mw.spool.upload import Origin, Upload, UploadState

TARGETS = ("a", "b")


@pytest.fixture
def store(database):
    return ReplicaStore(database, "node-1")


@pytest.fixture
def survey(database):
    return ReplicaSurvey(database)


def upload(number, image="image"):
    return Upload(f"upload-{number}", image, 100, UploadState.RECEIVING, 0.0)


def states(store, image_id=None):
    return [(row.upload_id, row.target, str(row.status)) for row in store.replicas(image_id)]


def test_begin_can_be_done_twice(store):
    first = store.begin(upload(1), TARGETS)
    assert {row.status for row in first.values()} == {ReplicaStatus.PENDING}
    store.update("upload-1", ["a"], ReplicaStatus.UPLOADING)
    again = store.begin(upload(1), (*TARGETS, "c"))
    assert {name: str(row.status) for name, row in again.items()} == {
        "a": "uploading",
        "b": "pending",
        "c": "pending",
    }


def test_upload_is_left_to_others_also_when_they_have_just_failed(database, store):
    """Who looked for an owner only would give up the last source at that moment."""
    store.begin(upload(1), TARGETS)
    for status in ("uploading", "stored", "active"):
        store.update("upload-1", ["a"], ReplicaStatus(status))
    other = ReplicaSurvey(database, "node-2")

    def row():
        return next(each for each in other.of_images(["image"])["image"] if each.target == "b")

    assert not store.is_left_to_others(upload(1), TARGETS)
    other.assign([row()], "fetch")
    assert store.is_left_to_others(upload(1), TARGETS)
    other.change(row(), ReplicaStatus.ERROR, node=None)
    assert store.is_left_to_others(upload(1), TARGETS)
    for status in ("uploading", "stored", "active"):
        other.change(row(), ReplicaStatus(status))
    assert not store.is_left_to_others(upload(1), TARGETS)


def test_illegal_step_changes_nothing(store):
    store.begin(upload(1), TARGETS)
    assert store.update("upload-1", TARGETS, ReplicaStatus.ACTIVE) == 0
    assert {state for _, _, state in states(store)} == {"pending"}
    assert store.update("upload-1", TARGETS, ReplicaStatus.UPLOADING, object_name="x") == 2
    assert {row.object_name for row in store.replicas()} == {"x"}


def test_closed_row_counts_only_where_there_is_no_other(store):
    store.begin(upload(1), TARGETS)
    store.begin(upload(2), ["a"])
    store.update("upload-2", ["a"], ReplicaStatus.DELETED)
    store.update("upload-1", ["b"], ReplicaStatus.DELETED)
    assert states(store) == [("upload-1", "a", "pending"), ("upload-1", "b", "deleted")]


def test_replicas_of_one_image(store):
    store.begin(upload(1, "one"), ["a"])
    store.begin(upload(2, "two"), ["a"])
    assert states(store, "two") == [("upload-2", "a", "pending")]


def test_due_rows(store, survey):
    def due(now, limit=9, targets=("a", "b", "c")):
        day = datetime.timedelta(days=1)
        rows = survey.due(now, [ReplicaStatus.ERROR], limit=limit, horizon=day, targets=targets)
        return [row.target for row in rows]

    now = timeutils.utcnow()
    store.begin(upload(1), ("a", "b", "c"))
    store.update("upload-1", ["a"], ReplicaStatus.ERROR, next_attempt_at=now)
    later = now + datetime.timedelta(seconds=5)
    store.update("upload-1", ["b"], ReplicaStatus.ERROR, next_attempt_at=later)
    assert due(now) == ["a"]
    assert due(later) == ["a", "b"]
    assert due(later, limit=1) == ["a"]
    assert due(later, targets=["b"]) == ["b"]


def test_what_was_planned_before_the_clock_was_set_back_is_due(store, survey):
    now = timeutils.utcnow()
    store.begin(upload(1), ("a",))
    far = now + datetime.timedelta(hours=2)
    store.update("upload-1", ["a"], ReplicaStatus.ERROR, next_attempt_at=far)
    hour = datetime.timedelta(hours=1)
    question = {"limit": 9, "targets": ["a"]}
    assert len(survey.due(now, [ReplicaStatus.ERROR], horizon=hour, **question)) == 1
    assert survey.due(now, [ReplicaStatus.ERROR], horizon=3 * hour, **question) == []


def test_progress(store):
    store.begin(upload(1), TARGETS)
    store.record_progress({("upload-1", "a"): 25, ("upload-1", "b"): 50})
    assert [row.progress for row in store.replicas()] == [0.25, 0.5]


def test_purge_forgets_only_closed_rows(store):
    store.begin(upload(1), TARGETS)
    store.update("upload-1", ["a"], ReplicaStatus.DELETED)
    assert store.purge_closed(timeutils.utcnow() - datetime.timedelta(days=1)) == 0
    assert store.purge_closed(timeutils.utcnow() + datetime.timedelta(days=1)) == 1
    assert states(store) == [("upload-1", "b", "pending")]


# Downloads


def downloaded(number):
    return Upload(
        f"download-{number}",
        "image",
        100,
        UploadState.ACCEPTED,
        0.0,
        origin=Origin.DOWNLOAD,
        targets=("a",),
    )


def test_a_download_makes_a_row_where_there_is_none(store):
    assert store.lacks("image", "a")
    store.begin(upload(1), ["a"])
    store.update("upload-1", ["a"], ReplicaStatus.DELETED)
    assert store.lacks("image", "a")
    assert store.begin(downloaded(1), ["a"])["a"].status is ReplicaStatus.PENDING
    assert not store.lacks("image", "a")
    assert store.lacks("image", "b")


@pytest.mark.parametrize("status", ["pending", "uploading", "stored", "active", "error"])
def test_a_download_leaves_a_row_in_hand_or_done_alone(store, status):
    store.begin(upload(1), ["a"])
    for step in ("uploading", "stored", "active") if status != "error" else ("error",):
        if status != "pending":
            store.update("upload-1", ["a"], ReplicaStatus(step))
        if status in ("pending", step):
            break
    before = store.replicas("image")
    assert str(before[0].status) == status
    assert not store.lacks("image", "a")
    assert store.begin(downloaded(1), ["a"]) == {}
    assert store.replicas("image") == before


def test_a_download_serves_a_row_that_waits_for_its_bytes(store, survey):
    survey.plan("image", ["a"], Priority.BACKFILL, 100)
    assert store.lacks("image", "a")
    row = store.begin(downloaded(1), ["a"])["a"]
    assert (row.upload_id, row.node, row.next_attempt_at) == ("download-1", "node-1", None)
    assert len(store.replicas()) == 1
    assert store.begin(downloaded(2), ["a"]) == {}


def test_a_download_does_not_mend_a_replica_with_a_location(store, survey):
    """The location goes first, and that is the reconciler's work."""
    survey.plan("image", ["a"], Priority.REPAIR, 100)
    (row,) = store.replicas()
    survey.change(row, location_url="http://a/object")
    assert not store.lacks("image", "a")
    assert store.begin(downloaded(1), ["a"]) == {}


def test_a_download_does_not_bring_back_what_was_withheld(store, survey):
    store.begin(upload(1), ["a"])
    (row,) = store.replicas()
    survey.change(row, ReplicaStatus.DELETED, withheld=True)
    assert not store.lacks("image", "a")
    assert store.begin(downloaded(1), ["a"]) == {}


def test_what_became_a_location_is_repaired_later_and_not_backfilled(store, survey):
    survey.plan("image", TARGETS, Priority.BACKFILL, 100)
    survey.assign(survey.of_images(["image"])["image"], "upload-1")
    for status in (ReplicaStatus.UPLOADING, ReplicaStatus.STORED):
        assert store.update("upload-1", TARGETS, status) == 2
    assert {row.priority for row in store.replicas()} == {Priority.BACKFILL}
    assert store.update("upload-1", ["a"], ReplicaStatus.ACTIVE) == 1
    assert [row.priority for row in store.replicas()] == [Priority.REPAIR, Priority.BACKFILL]
