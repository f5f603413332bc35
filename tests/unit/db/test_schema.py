# SPDX-License-Identifier: Apache-2.0
"""Opening a database; an SQLite file and what is particular about it."""

import contextlib
import sqlite3
import traceback

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.db import schema


def test_directory_of_a_new_file_is_made(tmp_path):
    schema.prepare(schema.open_database(f"sqlite:///{tmp_path}/deep/state.sqlite"))
    assert (tmp_path / "deep" / "state.sqlite").exists()


def test_empty_database_is_not_current(tmp_path):
    assert not schema.is_current(schema.open_database(f"sqlite:///{tmp_path}/new.sqlite"))


def test_states_of_a_schema(tmp_path):
    path = tmp_path / "state.sqlite"
    database = schema.open_database(f"sqlite:///{path}")
    assert schema.state_of(database) is schema.SchemaState.MISSING
    schema.upgrade(database, "0001")
    assert schema.state_of(database) is schema.SchemaState.BEHIND
    schema.upgrade(database)
    assert schema.state_of(database) is schema.SchemaState.CURRENT
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert schema.state_of(database) is schema.SchemaState.NEWER


@pytest.mark.parametrize(
    "connection",
    ["nonsense", "sqlite:////proc/none/state.sqlite", "mariadb+pymysql://user@host/database"],
)
def test_bad_connection_is_named(connection):
    with pytest.raises(exceptions.ConfigError, match=r"\[replication\] connection"):
        schema.open_database(connection)


@pytest.mark.parametrize(
    "connection",
    [
        "mysql//user:hunter2@host",
        # SQLAlchemy ends a password at the first @, and takes what follows for host and port.
        "mysql+pymysql://user:pass@hunter2@host/d",
        "mysql+pymysql://user:pass@word:hunter2@host/d",
        "mysql+pymysql://user:pass@word/hunter2@host/d",
    ],
)
def test_bad_connection_shows_no_secret(connection):
    with pytest.raises(exceptions.ConfigError, match="%XX") as raised:
        schema.open_database(connection)
    shown = "".join(traceback.format_exception(raised.value))
    assert "hunter2" not in shown


def test_path_of_a_file_may_hold_an_at(tmp_path):
    schema.open_database(f"sqlite:///{tmp_path}/a@b/state.sqlite")


def test_frequent_queries_use_an_index(database, tmp_path):
    plans = []
    with sqlite3.connect(tmp_path / "replication.sqlite") as connection:
        for condition in (
            "image_id = 'x'",
            "upload_id = 'x' AND target IN ('a')",
            "status IN ('error', 'stored') AND next_attempt_at <= '2026-01-01'",
        ):
            query = f"EXPLAIN QUERY PLAN SELECT * FROM replicas WHERE {condition}"
            plans.append(connection.execute(query).fetchone()[3])
    connection.close()
    assert all("USING INDEX" in plan for plan in plans), plans


def test_schema_of_a_newer_release_is_left_alone_and_named(tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/state.sqlite")
    schema.prepare(database)
    with sqlite3.connect(tmp_path / "state.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for bring_up in (schema.prepare, schema.upgrade):
        with pytest.raises(exceptions.ConfigError, match="9999 is that of a newer release"):
            bring_up(database)
    assert not schema.is_current(database)


@pytest.mark.parametrize("mode", [None, 0o644, 0o664])
def test_file_is_for_its_owner_alone(tmp_path, mode):
    file = tmp_path / "replication.sqlite"
    if mode is not None:
        file.touch()
        file.chmod(mode)
    database = schema.open_database(f"sqlite:///{file}")
    schema.prepare(database)
    database.writer.get_engine().dispose()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("DELETE FROM replicas")
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert len(modes) > 1
    assert set(modes.values()) == {0o600}, modes
