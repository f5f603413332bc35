# SPDX-License-Identifier: Apache-2.0
"""What stands in the way of an upgrade, by what the node has."""

import contextlib
import sqlite3

import pytest

from glance_repl_mw.checks import upgrade
from glance_repl_mw.checks.deployment import read
from glance_repl_mw.db import schema
from glance_repl_mw.db.schema import SchemaState
from tests.unit.checks.config import make_conf

SERVER = "postgresql+psycopg2://user:hunter2@host/database"


@pytest.fixture
def found(tmp_path):
    """The findings of a check as lines, with these options in [replication] or other sections."""

    def found(check, replication=None, **sections):
        conf = make_conf(tmp_path, replication=replication or {}, **sections)
        return [str(finding) for finding in check(read(conf))]

    return found


@pytest.fixture
def file(tmp_path):
    return tmp_path / "replication.sqlite"


def schema_of(found, file):
    (line,) = found(upgrade.check_schema, {"connection": f"sqlite:///{file}"})
    return line


def test_missing_file_is_no_fault_and_is_not_made(found, file):
    assert schema_of(found, file).startswith("ok: ")
    assert not file.exists()


@pytest.mark.parametrize(
    ("revision", "told"),
    [("0001", "the writer migrates the SQLite file"), ("head", "is that of this release")],
)
def test_file_that_the_writer_can_work_with(found, file, revision, told):
    schema.upgrade(schema.open_database(f"sqlite:///{file}"), revision)
    before = file.read_bytes()
    line = schema_of(found, file)
    assert line.startswith("ok: ")
    assert told in line
    assert file.read_bytes() == before


def test_schema_of_a_newer_release_is_an_error(found, file):
    schema.upgrade(schema.open_database(f"sqlite:///{file}"))
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert schema_of(found, file).startswith(
        "error: [replication] connection: the schema is that of a newer release; install"
    )


def test_file_in_a_directory_that_cannot_be_written_is_an_error(found):
    line = schema_of(found, "/proc/none/replication.sqlite")
    assert line.startswith("error: [replication] connection: /proc/none")


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (SchemaState.MISSING, "the database has no tables"),
        (SchemaState.BEHIND, "the database has the schema of an older release"),
    ],
)
def test_server_must_be_migrated_before_the_restart(found, monkeypatch, state, told):
    monkeypatch.setattr(schema, "state_of", lambda _database: state)
    assert found(upgrade.check_schema, {"connection": SERVER}) == [
        f"error: [replication] connection: {told}; "
        "run glance-repl-manage db sync before the restart"
    ]


def test_server_that_is_down_is_an_error_without_its_password(found):
    (line,) = found(upgrade.check_schema, {"connection": SERVER.replace("@host", "@127.0.0.1:1")})
    assert line.startswith("error: [replication] connection: the database cannot be used: ")
    assert "hunter2" not in line


def test_options_that_nobody_knows_any_more_and_wrong_values(found):
    lines = found(upgrade.check_options, {"abolished": "1", "writer_nice": "99"})
    assert [line.partition(": ")[0] for line in lines] == ["error", "warning"]
    assert "writer_nice" in lines[0]
    assert "abolished: is unknown" in lines[1]


def test_targets_without_driver_or_section(found):
    lines = found(upgrade.check_targets, {"enabled_targets": "site-a:gone,site-b:http"})
    assert len(lines) == 2
    assert "no driver 'gone'" in lines[0]
    assert "[replication:site-b] is missing" in lines[1]


def test_node_without_targets_can_be_upgraded(found):
    assert found(upgrade.check_targets) == []


def test_spool(found, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o755)
    options = {"spool_dir": spool, "spool_min_free_bytes": 0}
    assert found(upgrade.check_spool, options)[0].startswith("error: ")
    spool.chmod(0o700)
    assert found(upgrade.check_spool, options)[0].startswith("ok: ")
