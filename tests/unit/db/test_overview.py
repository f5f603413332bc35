# SPDX-License-Identifier: Apache-2.0
"""What an operator watches, and that looking costs little."""

import datetime

import pytest
import sqlalchemy as sa
from oslo_utils import timeutils

from glance_repl_mw.db.overview import ReplicaOverview
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import Priority, ReplicaStatus
from glance_repl_mw.spool.upload import Upload, UploadState

NOW = timeutils.utcnow()


def in_minutes(number):
    return NOW + datetime.timedelta(minutes=number)


@pytest.fixture
def add(database):
    """Make a row in a status with these values."""
    store, survey = ReplicaStore(database, "node"), ReplicaSurvey(database)

    def add(image, status, **values):
        store.begin(Upload(image, image, 100, UploadState.RECEIVING, 0.0), ["a"])
        (row,) = store.replicas(image)
        survey.change(row, ReplicaStatus(status), **values)

    return add


@pytest.fixture
def overview(database):
    return ReplicaOverview(database)


def images(rows):
    return [row.image_id for row in rows]


def test_replicas_under_way(overview, add):
    for number in range(3):
        add(f"flows-{number}", "uploading")
    add("waits", "pending")
    assert images(overview.under_way(2)) == ["flows-0", "flows-1"]


def test_errors_that_are_tried_next_come_first(overview, add):
    add("never", "error")
    add("later", "error", next_attempt_at=in_minutes(2))
    add("soon", "error", next_attempt_at=in_minutes(1))
    add("fine", "pending")
    assert images(overview.failed(10)) == ["soon", "later", "never"]
    assert images(overview.failed(2)) == ["soon", "later"]


def test_the_longest_wait(overview, add, database):
    assert overview.waiting_since() is None
    add("failed", "error", next_attempt_at=in_minutes(-60))
    add("flows", "uploading", updated_at=in_minutes(-60))
    assert overview.waiting_since() is None
    add("of an upload", "pending", updated_at=in_minutes(-1))
    assert overview.waiting_since() == in_minutes(-1)
    ReplicaSurvey(database).plan("planned", ["a"], Priority.BACKFILL, 1)
    assert overview.waiting_since() == in_minutes(-1)
    add("planned long ago", "pending", next_attempt_at=in_minutes(-2))
    assert overview.waiting_since() == in_minutes(-2)


def test_every_select_goes_by_an_index(overview, database):
    engine = database.reader.get_engine()
    asked = []
    sa.event.listen(
        engine, "before_cursor_execute", lambda *call: asked.append((call[2], call[3]))
    )
    overview.under_way(1)
    overview.failed(1)
    overview.waiting_since()
    selects = [(text, values) for text, values in asked if text.startswith("SELECT")]
    assert len(selects) == 5
    with engine.connect() as connection:
        for text, values in selects:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
            assert "USING INDEX" in str(plan) or "USING COVERING INDEX" in str(plan), (text, plan)
            assert "SCAN replicas" not in str(plan), (text, plan)
