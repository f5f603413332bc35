# SPDX-License-Identifier: Apache-2.0
"""The command's own part: configuration, exit status and the shape of its output."""

import datetime
import json

import pytest

from glance_repl_mw.cmd import manage
from glance_repl_mw.db import schema
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.spool.upload import Upload, UploadState

IMAGE = "1d0c2a7c-5a5e-4d7a-9d8e-0c5f8a4b2f11"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "glance-api.conf"
    path.write_text(f"[replication]\nconnection = sqlite:///{tmp_path}/r.sqlite\n")
    return path


@pytest.fixture
def run(config, capsys):
    def run(*arguments):
        status = manage.manage(["--config-file", str(config), *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def failed_replica(tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/r.sqlite")
    schema.upgrade(database)
    store = ReplicaStore(database)
    store.begin(Upload("0" * 32, IMAGE, 1000, UploadState.RECEIVING, 0.0), ["site-a"])
    store.update("0" * 32, ["site-a"], ReplicaStatus.UPLOADING, bytes_sent=250)
    store.update(
        "0" * 32,
        ["site-a"],
        ReplicaStatus.ERROR,
        error="no answer for 60 s",
        attempts=3,
        next_attempt_at=datetime.datetime(2031, 2, 3, 4, 5, 6, 789),
    )
    yield
    database.writer.get_engine().dispose()


def test_table_shows_what_an_operator_asks_for(run, failed_replica):
    status, out, err = run("status")
    assert (status, err) == (0, "")
    for word in (
        IMAGE,
        "site-a",
        "error",
        "25%",
        "1000",
        "3",
        "2031-02-03T04:05:06Z",
        "no answer",
    ):
        assert word in out


def test_json_has_plain_values(run, failed_replica):
    status, out, _ = run("status", IMAGE, "--format", "json")
    (replica,) = json.loads(out)
    assert status == 0
    assert replica["progress"] == 0.25
    assert replica["next_attempt_at"] == "2031-02-03T04:05:06Z"
    assert replica["location_url"] is None


def test_unknown_image(run, failed_replica):
    status, out, err = run("status", "nothing")
    assert (status, out, err) == (1, "", "glance-repl-manage: image nothing has no replicas\n")


def test_database_without_tables_is_empty(run, tmp_path):
    (tmp_path / "r.sqlite").touch()
    assert run("status") == (0, "Nothing has been replicated yet.\n", "")


def test_error_shows_no_credential(run, config):
    config.write_text("[replication]\nconnection = mysql+nodriver://bob:secret@host/x\n")
    status, out, err = run("db", "sync")
    assert (status, out) == (2, "")
    assert err.startswith("glance-repl-manage: ")
    assert err.count("\n") == 1
    assert "secret" not in err


@pytest.mark.parametrize("arguments", [["nonsense"], ["db"], ["--help"]])
def test_program_calls_itself_by_its_name(arguments, capsys):
    with pytest.raises(SystemExit):
        manage.manage(arguments)
    captured = capsys.readouterr()
    told = captured.out + captured.err
    assert told.startswith("usage: glance-repl-manage")
    assert "glance-api:" not in told
