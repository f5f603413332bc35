# SPDX-License-Identifier: Apache-2.0
"""Every command that relies on a writer says at once that none runs."""

import json

import pytest

from glance_repl_mw.cmd import lack, leave, sync
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Upload, UploadState
from tests.unit.cmd.conftest import IMAGE
from tests.unit.cmd.test_watch import pauses  # noqa: F401

LACK = "no writer runs on this node"


@pytest.fixture(autouse=True)
def without_a_writer(node, monkeypatch):
    node.end_writer()
    monkeypatch.setattr(lack, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(lack, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(sync, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(leave, "_LOOK_SECONDS", 0.01)


@pytest.fixture
def spooled(node):
    spool = Spool(str(node.spool))
    spool.prepare()
    spool.write_sidecar(Upload("0" * 32, IMAGE, 5, UploadState.ACCEPTED, 0.0, received=5))


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("sync IMAGE", 0),
        ("sync IMAGE --wait", 1),
        ("explain IMAGE", 0),
        ("target list", 0),
        ("target restore site-c", 0),
        ("target drain site-a --no-wait", 0),
        ("target drain site-a", 1),
        ("target remove site-a --force", 1),
    ],
)
def test_it_is_said_at_once(node, glance, add, command, status):
    add("another", "site-a")
    found, out, err = node.run(*command.replace("IMAGE", IMAGE).split())
    assert (found, err.count(LACK)) == (status, 1)
    assert (f"It stays planned: {LACK}" in out) is (status == 1)


def test_external_writer_is_named(node, glance, configure):
    configure("replication", writer="external")
    _, _, err = node.run("sync", IMAGE)
    assert "start glance-repl-writer" in err


def test_json_is_still_json(node, records):
    _, out, err = node.run("target", "list", "--format", "json")
    assert [line["target"] for line in json.loads(out)] == ["site-a", "site-c"]
    assert LACK in err


def test_watch_tells_of_uploads_that_wait_for_one(node, records, spooled, pauses):  # noqa: F811
    status, out, _ = node.run("status", "--watch")
    assert status == 0
    assert "Writer: none runs on this node" in out
    assert "Spool of this node: 1 accepted uploads" in out
    assert "no replica waits" not in out


def test_watch_names_the_one_that_runs(node, records, spooled, pauses):  # noqa: F811
    node.start_writer()
    _, out, _ = node.run("status", "--watch")
    assert "Writer: runs on this node" in out


def test_image_that_waits_in_the_spool_is_not_unknown(node, records, spooled):
    status, _, err = node.run("status", IMAGE)
    assert (status, "has no replicas yet" in err, LACK in err) == (1, True, True)


SPOOL_LACK = "no writer runs on this node, and no other one reads its spool"


@pytest.mark.parametrize("command", ["sync IMAGE", "explain IMAGE", "status IMAGE"])
def test_writer_of_another_node_does_nothing_for_this_spool(
    node, glance, report, spooled, command
):
    report("other-node")
    _, out, err = node.run(*command.replace("IMAGE", IMAGE).split())
    assert err.count(SPOOL_LACK) == 1
    assert "takes it from the spool" not in out + err


def test_explain_as_json_tells_it_too(node, glance, report, spooled):
    report("other-node")
    _, out, _ = node.run("explain", IMAGE, "--format", "json")
    (follows,) = {line["next"] for line in json.loads(out)}
    assert follows == "it waits in the spool of this node, on which no writer runs"


@pytest.mark.parametrize("command", ["sync IMAGE", "explain IMAGE", "target list"])
def test_writer_of_another_node_does_what_is_not_in_this_spool(node, glance, report, command):
    report("other-node")
    _, _, err = node.run(*command.replace("IMAGE", IMAGE).split())
    assert err == ""
