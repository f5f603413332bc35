# SPDX-License-Identifier: Apache-2.0
"""Rows that several nodes share: none has in hand what another one has."""

import dataclasses
import datetime

import pytest
from oslo_utils import timeutils

from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import Priority, ReplicaStatus
from glance_repl_mw.spool.upload import Origin, Upload, UploadState

IMAGE = "a0b1"
TARGETS = ("a", "b")


@pytest.fixture
def first(database):
    return ReplicaStore(database, "node-1")


@pytest.fixture
def second(database):
    return ReplicaStore(database, "node-2")


@pytest.fixture
def survey(database):
    return ReplicaSurvey(database, "node-2")


def upload(upload_id="upload", age_seconds=10):
    created_at = timeutils.utcnow_ts(microsecond=True) - age_seconds
    return Upload(upload_id, IMAGE, 100, UploadState.ACCEPTED, created_at)


def rows(survey):
    return {row.target: row for row in survey.of_images([IMAGE])[IMAGE]}


def take_over(survey, target):
    change = {"node": None, "next_attempt_at": timeutils.utcnow()}
    return survey.change(rows(survey)[target], ReplicaStatus.ERROR, **change)


def test_row_in_the_hand_of_another_node_is_left_alone(first, second, survey):
    first.begin(upload(), TARGETS)
    assert second.update("upload", TARGETS, ReplicaStatus.UPLOADING) == 0
    second.record_progress({("upload", "a"): 50})
    assert [row.bytes_sent for row in rows(survey).values()] == [0, 0]
    assert first.update("upload", TARGETS, ReplicaStatus.UPLOADING) == 2


def test_node_whose_row_was_taken_over_cannot_finish_it(first, survey):
    first.begin(upload(), TARGETS)
    first.update("upload", TARGETS, ReplicaStatus.UPLOADING)
    assert take_over(survey, "a")
    assert survey.assign([rows(survey)["a"]], "fetch") == ["a"]
    assert first.update("upload", ["a"], ReplicaStatus.STORED) == 0
    assert first.update("upload", ["b"], ReplicaStatus.STORED) == 1


def test_node_that_comes_back_makes_no_second_replica(first, survey):
    first.begin(upload(), TARGETS)
    take_over(survey, "a")
    survey.assign([rows(survey)["a"]], "fetch")
    assert set(first.begin(upload(), TARGETS)) == {"b"}
    assert {row.upload_id for row in rows(survey).values()} == {"upload", "fetch"}


def test_node_that_comes_back_serves_what_still_waits(first, survey):
    """Others have planned replicas of an image of which they knew nothing."""
    survey.plan(IMAGE, ["a"], Priority.BACKFILL, 100)
    found = first.begin(upload(), TARGETS)
    assert {row.upload_id for row in found.values()} == {"upload"}
    assert {row.node for row in rows(survey).values()} == {"node-1"}
    assert len(survey.of_images([IMAGE])[IMAGE]) == 2


def test_fetch_whose_rows_were_taken_over_makes_no_others(first, survey):
    """The node died while it fetched, and has been away since."""
    survey.plan(IMAGE, ["a"], Priority.REPAIR, 100)
    ReplicaSurvey(survey._database, "node-1").assign([rows(survey)["a"]], "fetch")
    take_over(survey, "a")
    survey.assign([rows(survey)["a"]], "other")
    fetched = dataclasses.replace(upload("fetch", age_seconds=-1), origin=Origin.GLANCE)
    assert first.begin(fetched, ["a"]) == {}
    assert rows(survey)["a"].upload_id == "other"


def test_earlier_upload_at_another_node_does_not_stand_in_the_way(first, second):
    second.begin(upload("earlier", age_seconds=60), TARGETS)
    later = upload(age_seconds=-1)
    assert set(first.begin(later, TARGETS)) == set(TARGETS)


def test_change_that_another_one_has_overtaken_is_not_made(survey):
    survey.plan(IMAGE, ["a"], Priority.REPAIR, 100)
    read = rows(survey)["a"]
    assert survey.change(read, ReplicaStatus.ERROR) is not None
    assert survey.change(read, ReplicaStatus.DELETED) is None
    assert survey.change(read, error="late") is None
    assert rows(survey)["a"].status is ReplicaStatus.ERROR


def test_remark_stands_in_the_way_of_no_change(survey):
    """Such as that a replica was verified while its image is being deleted."""
    survey.plan(IMAGE, ["a"], Priority.REPAIR, 100)
    read = rows(survey)["a"]
    assert survey.change(read, verified_at=timeutils.utcnow()) is not None
    assert survey.change(read, ReplicaStatus.DELETED) is not None


def test_changes_follow_each_other(survey):
    survey.plan(IMAGE, ["a"], Priority.REPAIR, 100)
    now = survey.change(rows(survey)["a"], error="first")
    assert survey.change(now, ReplicaStatus.DELETED) == rows(survey)["a"]


def test_last_step_gives_the_row_out_of_hand(first, survey):
    first.begin(upload(), TARGETS)
    for status in (ReplicaStatus.UPLOADING, ReplicaStatus.STORED, ReplicaStatus.ACTIVE):
        assert rows(survey)["a"].node == "node-1"
        first.update("upload", ["a"], status)
    assert rows(survey)["a"].node is None


def test_what_a_node_left_behind(first, survey):
    first.begin(upload(), TARGETS)
    now = timeutils.utcnow() + datetime.timedelta(seconds=1)
    assert len(survey.left_behind(["node-2"], now, 10)) == 2
    assert survey.left_behind(["node-1", "node-2"], now, 10) == []
    assert survey.left_behind(["node-2"], now - datetime.timedelta(hours=1), 10) == []


def test_each_node_sees_its_share(database, survey):
    for image_id in ("A0-1", "b1-2", "c2-3"):
        survey.plan(image_id, ["a"], Priority.REPAIR, 1)
    mine = ReplicaSurvey(database, "node-1", lambda: {"a0", "c2"})
    none = ReplicaSurvey(database, "node-1", lambda: ())
    due = {
        "limit": 9,
        "horizon": datetime.timedelta(days=1),
        "targets": ["a"],
    }
    later = timeutils.utcnow() + datetime.timedelta(seconds=1)
    found = mine.due(later, [ReplicaStatus.PENDING], **due)
    assert [row.image_id for row in found] == ["A0-1", "c2-3"]
    assert mine.image_ids("", 9) == ["A0-1", "c2-3"]
    assert none.due(later, [ReplicaStatus.PENDING], **due) == []
    assert len(survey.due(later, [ReplicaStatus.PENDING], **due)) == 3
