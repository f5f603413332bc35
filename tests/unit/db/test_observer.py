# SPDX-License-Identifier: Apache-2.0
"""Who is told of changes of rows, and when."""

import dataclasses
import sqlite3

import pytest
from oslo_db import exception as db_exception

from glance_repl_mw.db import schema
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import Priority, ReplicaStatus
from glance_repl_mw.spool.upload import Upload, UploadState

UPLOAD = Upload("u" * 32, "image", 10, UploadState.RECEIVING, 0.0)


@pytest.fixture
def seen():
    """The changes that were told: replicas as they were and as they are."""
    return []


@pytest.fixture
def store(database, seen):
    return ReplicaStore(database, "node", lambda *change: seen.append(change))


def steps(seen):
    return [(old.target, str(old.status), str(new.status)) for old, new in seen]


def test_changes_of_uploads(store, seen):
    store.begin(UPLOAD, ["a", "b"])
    store.update(UPLOAD.upload_id, ["a", "b"], ReplicaStatus.UPLOADING)
    assert sorted(steps(seen)) == [(name, "pending", "uploading") for name in ("a", "b")]
    seen.clear()
    store.update(UPLOAD.upload_id, ["a"], ReplicaStatus.ERROR, attempts=1, error="away")
    store.update(UPLOAD.upload_id, ["a", "b"], error="a text is no status")
    store.update(UPLOAD.upload_id, ["b"], ReplicaStatus.ACTIVE)
    assert steps(seen) == [("a", "uploading", "error")]


def test_replica_that_is_told_is_the_row(store, seen):
    store.begin(UPLOAD, ["a"])
    for status in (ReplicaStatus.UPLOADING, ReplicaStatus.STORED, ReplicaStatus.ACTIVE):
        store.update(UPLOAD.upload_id, ["a"], status, checksum="d" * 32)
        assert [new for _, new in seen[-1:]] == store.replicas()


def test_rows_of_another_node_are_not_told(database, store, seen):
    ReplicaStore(database, "other").begin(UPLOAD, ["a"])
    assert store.update(UPLOAD.upload_id, ["a"], ReplicaStatus.UPLOADING) == 0
    assert seen == []


def test_changes_of_the_reconciler(database, seen):
    survey = ReplicaSurvey(database, "node", observer=lambda *change: seen.append(change))
    survey.plan("image", ["a"], Priority.SYNC, 10)
    (row,) = survey.of_images(["image"])["image"]
    assert survey.change(row, ReplicaStatus.DELETED)
    assert steps(seen) == [("a", "pending", "deleted")]
    assert survey.change(row, ReplicaStatus.ERROR) is None
    assert survey.change(dataclasses.replace(row, id=row.id + 1), ReplicaStatus.ERROR) is None
    assert len(seen) == 1


@pytest.fixture
def file(tmp_path):
    """A database that can be held."""
    return tmp_path / "held.sqlite"


@pytest.fixture
def held_store(file, seen):
    database = schema.open_database(f"sqlite:///{file}?timeout=0")
    schema.upgrade(database)
    yield ReplicaStore(database, "node", lambda *change: seen.append(change))
    database.writer.get_engine().dispose()


def test_what_is_not_committed_is_not_told(file, held_store, seen, monkeypatch):
    held_store.begin(UPLOAD, ["a"])
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(db_exception.DBError, match="locked"):
        held_store.update(UPLOAD.upload_id, ["a"], ReplicaStatus.UPLOADING)
    assert seen == []
    holder.close()
    held_store.update(UPLOAD.upload_id, ["a"], ReplicaStatus.UPLOADING)
    assert steps(seen) == [("a", "pending", "uploading")]
