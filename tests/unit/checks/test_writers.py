# SPDX-License-Identifier: Apache-2.0
"""What is said where no writer does what is planned."""

import fcntl
import os

import pytest
from oslo_utils import timeutils

from glance_repl_mw import launcher
from glance_repl_mw.checks import writers
from glance_repl_mw.checks.deployment import read
from glance_repl_mw.db import schema
from glance_repl_mw.db.states import TargetStates
from glance_repl_mw.model import TargetState
from tests.unit.checks.config import make_conf


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(writers, "_PATIENCE_SECONDS", 0.0)


@pytest.fixture
def deployment(tmp_path):
    (tmp_path / "spool").mkdir()

    def deployment(kind="embedded"):
        options = {
            "spool_dir": tmp_path / "spool",
            "connection": f"sqlite:///{tmp_path}/replication.sqlite",
            "writer": kind,
        }
        return read(make_conf(tmp_path, replication=options))

    return deployment


@pytest.fixture
def report(tmp_path):
    """Let the writer of a node have said something, in these seconds from now."""
    database = schema.open_database(f"sqlite:///{tmp_path}/replication.sqlite")
    schema.upgrade(database)

    def report(node, seconds=0):
        moment = timeutils.utcnow() + timeutils.datetime.timedelta(seconds=seconds)
        TargetStates(database).report(node, [TargetState(node, "a", True, None, moment)])

    yield report
    database.writer.get_engine().dispose()


@pytest.mark.parametrize(
    ("kind", "level", "remedy"),
    [("external", "error", "start glance-repl-writer"), ("embedded", "warning", "glance-api")],
)
def test_none_runs(deployment, kind, level, remedy):
    (finding,) = writers.check(deployment(kind))
    assert (finding.level, "none runs" in finding.text) == (level, True)
    assert remedy in finding.remedy
    assert remedy in writers.look(deployment(kind).replication).lack


def test_one_runs(deployment, tmp_path):
    with launcher.open_lock(tmp_path / "spool", launcher.WRITER_LOCK) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.pwrite(lock.fileno(), b"4711 print", 0)
        (finding,) = writers.check(deployment())
        assert (finding.level, "process 4711" in finding.text) == ("ok", True)
        found = writers.look(deployment().replication)
        assert (found.lack, found.spool_lack) == ("", "")


def test_those_of_other_nodes_count_while_they_say_something(deployment, report, tmp_path):
    (tmp_path / "spool/node").write_text("this-node")
    report("this-node")
    report("old-node", seconds=-120)
    assert writers.look(deployment().replication).lack != ""
    report("other-node")
    found = writers.look(deployment().replication)
    assert (found.lack, found.elsewhere) == ("", ["other-node"])
    assert found.spool_lack.startswith("no writer runs on this node, and no other one reads ")
    assert "runs on other-node" in str(found)
    # What this node has in its spool, no other one does.
    (finding,) = writers.check(deployment("external"))
    assert finding.level == "error"
