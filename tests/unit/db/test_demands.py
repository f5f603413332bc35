# SPDX-License-Identifier: Apache-2.0
"""Rows of replicas, as REST reads and changes them, on a database that the migrations made."""

import threading
import uuid

import pytest
import sqlalchemy as sa

from glance_repl_mw.db import demands as demands_module
from glance_repl_mw.db.demands import ReplicaDemands
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import Priority, ReplicaStatus, Wish


@pytest.fixture
def survey(database):
    return ReplicaSurvey(database)


@pytest.fixture
def demands(database):
    return ReplicaDemands(database)


@pytest.fixture
def add(survey):
    """Make an active replica of `image` at `a`; returns its row."""

    def adopt(**values):
        upload_id = uuid.uuid4().hex
        survey.adopt("image", "a", upload_id, f"image.{upload_id}.1", size=5, **values)
        return survey.of_images(["image"])["image"][-1]

    return adopt


def test_what_is_demanded_comes_first(demands, survey):
    made = demands.synchronise("image", "a", 5)
    assert (made.status, made.priority, made.size) == ("pending", Priority.SYNC, 5)
    assert made.next_attempt_at is not None
    again = demands.synchronise("image", "a", 5)
    assert again.id == made.id
    assert survey.of_images(["image"])["image"] == [again]


def test_those_who_demand_at_the_same_time_get_one_row(demands, survey, monkeypatch):
    """Each has seen that there is none before any makes one."""
    number = 4
    barrier = threading.Barrier(number)
    rows_of = demands_module._rows

    def rows(session, image_id, target):
        found = rows_of(session, image_id, target)
        if not found:
            barrier.wait(5)
        return found

    monkeypatch.setattr(demands_module, "_rows", rows)
    made = []

    def demand():
        made.append(demands.synchronise("image", "a", 5))

    threads = [threading.Thread(target=demand) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({replica.id for replica in made}) == 1
    assert len(made) == number
    assert len(survey.of_images(["image"])["image"]) == 1


def test_what_waits_waits_no_longer(demands, survey):
    survey.plan("image", ["a"], Priority.BACKFILL, 5)
    (planned,) = survey.of_images(["image"])["image"]
    survey.change(planned, ReplicaStatus.ERROR, next_attempt_at=None)
    hastened = demands.synchronise("image", "a", 5)
    assert (hastened.id, hastened.priority) == (planned.id, Priority.SYNC)
    assert hastened.next_attempt_at is not None


def test_what_a_writer_has_in_hand_stays_as_it_is(demands, survey):
    survey.plan("image", ["a"], Priority.BACKFILL, 5)
    (planned,) = survey.of_images(["image"])["image"]
    taken = survey.change(planned, node="node-1", next_attempt_at=None)
    assert demands.synchronise("image", "a", 5) == taken


def test_complete_replica_stays_as_it_is(demands, add):
    active = add()
    assert demands.synchronise("image", "a", 5) == active


def test_what_is_removed_does_not_come_back_until_it_is_demanded(demands, survey, add):
    assert demands.remove([add()])
    (removed,) = demands.replicas(["image"])
    assert (removed.status, removed.withheld) == ("deleting", True)
    assert removed.is_still_located
    made = demands.synchronise("image", "a", 5)
    assert made.id != removed.id
    assert demands.replicas(["image"]) == [made]
    assert [row.withheld for row in survey.of_images(["image"])["image"]] == [False, False]


def test_planned_replica_without_an_object_is_closed_at_once(demands):
    planned = demands.synchronise("image", "a", 5)
    assert demands.remove([planned])
    (row,) = demands.rows("image", "a")
    assert (row.status, row.withheld, row.next_attempt_at) == ("deleted", True, None)
    assert demands.synchronise("image", "a", 5).status == "pending"


def test_none_is_removed_where_one_has_changed(demands, survey, add):
    first, second = add(), add()
    survey.change(second, ReplicaStatus.STORED)
    assert not demands.remove([first, second])
    assert [row.status for row in demands.rows("image", "a")] == ["active", "stored"]


def test_target_that_leaves(demands, database):
    assert not demands.is_leaving("a")
    TargetWishes(database).ask("a", Wish.DRAIN)
    assert demands.is_leaving("a")
    assert not demands.is_leaving("b")


def test_every_question_uses_an_index(demands, database, add):
    add()
    if database.writer.get_engine().dialect.name != "sqlite":
        pytest.skip("SQLite tells its plan in words")
    asked = []
    engine = database.writer.get_engine()
    sa.event.listen(engine, "before_cursor_execute", lambda *all: asked.append(all[2:4]))
    demands.replicas(["image"])
    demands.rows("image", "a")
    demands.is_leaving("a")
    demands.synchronise("image", "a", 5)
    with engine.connect() as connection:
        for statement, parameters in [each for each in asked if "SELECT" in each[0]]:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            for line in plan:
                assert "SCAN" not in line[3], (statement, line[3])
