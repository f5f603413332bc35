"""Rows of replicas on a real SQLite file, made by the migrations."""

import datetime
import sqlite3

import pytest
from alembic import autogenerate, migration
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.db import models, schema
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.spool.upload import Upload, UploadState

TARGETS = ("a", "b")


@pytest.fixture
def database(tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/deep/state.sqlite")
    schema.upgrade(database)
    return database


@pytest.fixture
def store(database):
    return ReplicaStore(database)


@pytest.fixture
def survey(database):
    return ReplicaSurvey(database)


def upload(number, image="image"):
    return Upload(f"upload-{number}", image, 100, UploadState.RECEIVING, 0.0)


def states(store, image_id=None):
    return [(row.upload_id, row.target, str(row.status)) for row in store.replicas(image_id)]


def test_migrations_make_what_the_models_say(database):
    with database.writer.get_engine().connect() as connection:
        context = migration.MigrationContext.configure(connection)
        assert autogenerate.compare_metadata(context, models.Base.metadata) == []
    assert schema.is_current(database)
    schema.upgrade(database)


def test_empty_database_is_not_current(tmp_path):
    assert not schema.is_current(schema.open_database(f"sqlite:///{tmp_path}/new.sqlite"))


@pytest.mark.parametrize("connection", ["nonsense", "sqlite:////proc/none/state.sqlite"])
def test_bad_connection_is_named(connection):
    with pytest.raises(exceptions.ConfigError, match=r"\[replication\] connection"):
        schema.open_database(connection)


def test_bad_connection_shows_no_secret():
    with pytest.raises(exceptions.ConfigError) as raised:
        schema.open_database("mysql//user:hunter2@host")
    assert "hunter2" not in str(raised.value)


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


def test_frequent_queries_use_an_index(database, tmp_path):
    plans = []
    with sqlite3.connect(tmp_path / "deep" / "state.sqlite") as connection:
        for condition in (
            "image_id = 'x'",
            "upload_id = 'x' AND target IN ('a')",
            "status IN ('error', 'stored') AND next_attempt_at <= '2026-01-01'",
        ):
            query = f"EXPLAIN QUERY PLAN SELECT * FROM replicas WHERE {condition}"
            plans.append(connection.execute(query).fetchone()[3])
    connection.close()
    assert all("USING INDEX" in plan for plan in plans), plans
