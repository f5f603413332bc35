# SPDX-License-Identifier: Apache-2.0
"""Rows of replicas, as the reconciler uses them, on a database that the migrations made."""

import datetime
import uuid

import pytest
from oslo_utils import timeutils

from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import Priority, ReplicaStatus

NOW = datetime.datetime(2026, 5, 4, 3, 2, 1, 123456)
SECOND = datetime.timedelta(seconds=1)
EVERY_STATUS = list(ReplicaStatus)


@pytest.fixture
def survey(database):
    return ReplicaSurvey(database)


@pytest.fixture
def add(survey):
    """Make an active replica; returns its row."""

    def adopt(image_id="image", target="a", **values):
        upload_id = uuid.uuid4().hex
        survey.adopt(image_id, target, upload_id, f"{image_id}.{upload_id}.1", **values)
        rows = survey.of_images([image_id])[image_id]
        return next(row for row in rows if row.upload_id == upload_id)

    return adopt


def test_row_is_read_as_it_was_written(add):
    written = {
        "size": 5 << 40,
        "bytes_sent": 4 << 40,
        "location_url": f"https://a.example/{'x' * 3000}",
        "checksum": "d" * 32,
        "error": "Größe 日本 \N{PILE OF POO} 'quoted' \\ %s {}",
        "verified_at": NOW,
        "read_back_at": NOW.replace(microsecond=0),
        "withheld": True,
        "priority": Priority.BACKFILL,
    }
    row = add(**written)
    assert {name: getattr(row, name) for name in written} == written
    assert row.status is ReplicaStatus.ACTIVE


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("a\0b", "a?b"),
        ("file \udcff", "file ?"),
        ("\N{PILE OF POO}" * 70000, "\N{PILE OF POO}" * 4000),
    ],
    ids=["NUL", "undecodable", "long"],
)
def test_error_that_no_database_would_take_as_it_is(add, said, stored):
    assert add(error=said).error == stored


def test_names_that_differ_in_case_are_different(survey, add):
    add(target="Site-A")
    add(target="site-a")
    assert [row.target for row in survey.page("site-a", EVERY_STATUS, after=0, limit=9)] == [
        "site-a"
    ]
    assert survey.counts() == {name: {ReplicaStatus.ACTIVE: 1} for name in ("Site-A", "site-a")}


def test_images_are_paged_through_once_each(survey, add):
    image_ids = {str(uuid.UUID(int=number << 90)) for number in range(50)} | {"a-b", "ab", "a_b"}
    for image_id in image_ids:
        add(image_id)
        add(image_id)
    closed = add("closed")
    survey.change(closed, ReplicaStatus.DELETED)
    found, after = [], ""
    while page := survey.image_ids(after, 7):
        found += page
        after = page[-1]
    assert len(found) == len(image_ids)
    assert set(found) == image_ids


def test_rows_of_a_target_are_paged_through_in_their_order(survey, add):
    rows = [add(target="a") for _ in range(5)]
    add(target="b")
    first = survey.page("a", [ReplicaStatus.ACTIVE], after=0, limit=3)
    second = survey.page("a", [ReplicaStatus.ACTIVE], after=first[-1].id, limit=3)
    assert [row.id for row in (*first, *second)] == [row.id for row in rows]
    assert survey.never_verified("a", after=first[-1].id, limit=9) == second


def test_empty_lists_find_nothing(survey, add):
    add()
    assert survey.of_images([]) == {}
    assert survey.page("a", [], after=0, limit=9) == []
    question = {"limit": 9, "horizon": SECOND}
    assert survey.due(NOW, EVERY_STATUS, targets=[], **question) == []
    assert survey.due(NOW, [], targets=["a"], **question) == []
    survey.plan("image", [], Priority.SYNC, None)
    assert survey.assign([], "u" * 32) == []


def test_most_urgent_rows_are_due_first(survey):
    for number, priority in enumerate((Priority.BACKFILL, Priority.SYNC, Priority.REPAIR)):
        survey.plan(f"image-{number}", ["a"], priority, None)
    later = timeutils.utcnow() + SECOND
    due = survey.due(
        later, [ReplicaStatus.PENDING], limit=2, horizon=60 * SECOND, targets=["a", "b"]
    )
    assert [row.image_id for row in due] == ["image-1", "image-2"]


@pytest.mark.parametrize("planned", list(Priority))
def test_whatever_it_was_made_for_it_is_repaired_later(survey, planned):
    survey.plan("image", ["a"], planned, None)
    (row,) = survey.of_images(["image"])["image"]
    for status in (ReplicaStatus.UPLOADING, ReplicaStatus.STORED, ReplicaStatus.ERROR):
        row = survey.change(row, status) or row
        assert (row.status, row.priority) == (status, planned)
    for status in (ReplicaStatus.UPLOADING, ReplicaStatus.STORED, ReplicaStatus.ACTIVE):
        row = survey.change(row, status) or row
    bad = survey.change(row, ReplicaStatus.ERROR)
    assert bad and bad.priority == Priority.REPAIR
    assert survey.of_images(["image"])["image"] == [bad]


@pytest.mark.parametrize("read_back", [False, True], ids=["looked at", "read back"])
@pytest.mark.parametrize("microsecond", [0, 10, 123456])
def test_least_verified_come_first_and_once_each(survey, add, read_back, microsecond):
    moment = NOW.replace(microsecond=microsecond)
    proven = [add(verified_at=moment, read_back_at=moment) for _ in range(3)]
    older = add(verified_at=moment - SECOND, read_back_at=moment - SECOND)
    unread = [add(verified_at=moment - 2 * SECOND) for _ in range(2)] if read_back else []
    never = [add() for _ in range(3)]
    add(verified_at=moment + SECOND, read_back_at=moment + SECOND)

    def page(after):
        return survey.least_verified(
            "a",
            read_back=read_back,
            before=moment + datetime.timedelta(microseconds=1),
            limit=2,
            after=after,
        )

    found = []
    while rows := page(found[-1] if found else None):
        found += rows
    expected = [*never, *unread, older, *proven]
    assert [row.id for row in found] == [row.id for row in expected]


def test_row_that_has_changed_is_left_alone(survey, add):
    row = add()
    assert survey.change(row, ReplicaStatus.STORED, error="first")
    assert not survey.change(row, ReplicaStatus.ERROR, error="second")
    assert not survey.change(row, ReplicaStatus.UPLOADING)
    (now,) = survey.of_images(["image"])["image"]
    assert (now.status, now.error) == (ReplicaStatus.STORED, "first")


def test_change_to_what_is_there_already_counts(survey, add):
    now = survey.change(add(error="same"), error="same")
    assert survey.change(now, error="same")


def test_upload_gets_the_rows_that_still_wait(survey, database):
    survey.plan("image", ["a", "b"], Priority.REPAIR, 1)
    rows = survey.of_images(["image"])["image"]
    survey.change(rows[0], ReplicaStatus.DELETED)
    assert survey.assign(rows, "u" * 32) == ["b"]
    assert [row.target for row in ReplicaStore(database).unfinished()] == ["b"]
