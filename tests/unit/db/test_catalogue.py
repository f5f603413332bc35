# SPDX-License-Identifier: Apache-2.0
"""Pages of replicas on a database that the migrations made."""

import datetime
import uuid

import pytest
import sqlalchemy as sa
from oslo_utils import timeutils

from glance_repl_mw.db.catalogue import ReplicaCatalogue
from glance_repl_mw.db.states import TargetStates, health
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import Priority, ReplicaStatus, TargetState

SECOND = datetime.timedelta(seconds=1)


@pytest.fixture
def catalogue(database):
    return ReplicaCatalogue(database)


@pytest.fixture
def add(database):
    survey = ReplicaSurvey(database)

    def plan(target="a", status=ReplicaStatus.PENDING):
        image_id = str(uuid.uuid4())
        survey.plan(image_id, [target], Priority.BACKFILL, 5)
        (row,) = survey.of_images([image_id])[image_id]
        return survey.change(row, status)

    return plan


def test_pages_follow_each_other(catalogue, add):
    rows = [add() for _ in range(5)]
    add("b")
    add(status=ReplicaStatus.DELETED)
    found, after = [], 0
    while page := catalogue.page(None, "a", after=after, limit=2):
        found += page
        after = page[-1].id
    assert [row.id for row in found] == [row.id for row in rows]
    deleted = catalogue.page(ReplicaStatus.DELETED, "a", after=0, limit=9)
    assert [row.status for row in deleted] == ["deleted"]


def test_counts(catalogue, add):
    for target, status in (("a", "pending"), ("a", "pending"), ("a", "error"), ("b", "deleted")):
        add(target, ReplicaStatus(status))
    assert catalogue.counts() == {"a": {"pending": 2, "error": 1}, "b": {"deleted": 1}}


@pytest.mark.parametrize("status", [None, ReplicaStatus.ERROR])
@pytest.mark.parametrize("target", [None, "a"])
def test_every_page_uses_an_index_and_sorts_nothing(catalogue, database, add, status, target):
    engine = database.writer.get_engine()
    if engine.dialect.name != "sqlite":
        pytest.skip("SQLite tells its plan in words")
    asked = []
    sa.event.listen(engine, "before_cursor_execute", lambda *all: asked.append(all[2:4]))
    catalogue.page(status, target, after=3, limit=2)
    (statement, parameters), *_ = [each for each in asked if "SELECT" in each[0]]
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        words = " ".join(line[3] for line in plan)
    assert "SEARCH replicas USING" in words
    assert "SCAN" not in words
    assert "TEMP B-TREE" not in words


# The states of targets


@pytest.fixture
def states(database):
    return TargetStates(database)


def state(target, seen_at, *, node="node-1", is_up=True, error=None):
    return TargetState(node, target, is_up, error, seen_at)


def test_node_s_last_report_is_all_that_it_says(states):
    now = timeutils.utcnow()
    other = state("a", now, node="node-2")
    states.report("node-2", [other])
    states.report("node-1", [state("a", now - SECOND), state("b", now - SECOND)])
    later = state("a", now, is_up=False, error="refused")
    states.report("node-1", [later])
    assert states.since(now - 9 * SECOND) == [later, other]
    assert states.since(now + SECOND) == []
    states.forget(now + SECOND)
    assert states.since(now - 9 * SECOND) == []


def test_health_of_several_nodes():
    now = timeutils.utcnow()
    up, down = state("a", now), state("a", now, is_up=False)
    assert [health(each) for each in ([], [up, up], [up, down], [down])] == [
        "unknown",
        "up",
        "down",
        "down",
    ]
