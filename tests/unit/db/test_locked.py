# SPDX-License-Identifier: Apache-2.0
"""What the store does about a database that others hold."""

import sqlite3
import threading

import pytest
from oslo_db import exception as db_exception

from glance_repl_mw.db import schema
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.spool.upload import Upload, UploadState

UPLOAD = Upload("u" * 32, "image", 10, UploadState.RECEIVING, 0.0)


@pytest.fixture
def store(tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/replicas.sqlite?timeout=0")
    schema.upgrade(database)
    yield ReplicaStore(database, "node")
    database.writer.get_engine().dispose()


@pytest.fixture
def holder(tmp_path, store):
    connection = sqlite3.connect(
        tmp_path / "replicas.sqlite", isolation_level=None, check_same_thread=False
    )
    connection.execute("BEGIN EXCLUSIVE")
    yield connection
    connection.close()


def test_a_locked_database_is_waited_for(store, holder):
    threading.Timer(0.2, holder.rollback).start()
    assert set(store.begin(UPLOAD, ["site-a"])) == {"site-a"}


def test_a_database_that_stays_locked_is_a_dberror(store, holder, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(db_exception.DBError, match="locked"):
        store.begin(UPLOAD, ["site-a"])
