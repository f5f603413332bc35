# SPDX-License-Identifier: Apache-2.0
"""`target list`: what it shows of targets that are configured, leave, or are only in rows."""

import json
import socket
import sqlite3

import pytest

from glance_repl_mw.cmd import targets
from glance_repl_mw.model import ReplicaStatus, Wish
from glance_repl_mw.reconciler.leaving import CANNOT_LEAVE
from glance_repl_mw.spool.directory import Spool
from tests.unit.cmd.test_leave import Images


@pytest.fixture
def listed(node):
    def listed():
        status, out, err = node.run("target", "list", "--format", "json")
        assert (status, err) == (0, "")
        return {line["target"]: line for line in json.loads(out)}

    return listed


def test_all_targets_are_shown_before_there_is_a_database(node, listed):
    lines = listed()
    assert list(lines) == ["site-a", "site-c"]
    assert not node.database_file.exists()
    line = lines["site-a"]
    assert "refused" in line.pop("error")
    assert line == {
        "target": "site-a",
        "configured": True,
        "driver": "http",
        "url": node.url,
        "wish": None,
        "replicas": {},
        "answers": False,
        "cannot_leave": [],
    }


def test_replicas_are_counted_by_status_and_closed_ones_left_out(node, add, listed):
    for image in ("one", "two"):
        add(image, "site-a")
    add("three", "site-a", [ReplicaStatus.ERROR])
    add("four", "site-a", [ReplicaStatus.DELETED])
    assert listed()["site-a"]["replicas"] == {"active": 2, "error": 1}
    _, table, _ = node.run("target", "list")
    assert "| 2 active, 1 error |" in table


def test_target_that_only_rows_know_is_shown_as_not_configured(node, add, listed):
    add("one", "gone")
    line = listed()["gone"]
    assert not line["configured"]
    assert (line["driver"], line["url"], line["answers"]) == (None, None, None)
    assert line["error"] == "not configured"
    _, table, _ = node.run("target", "list")
    assert any("| gone " in line and "| not configured " in line for line in table.splitlines())


def test_target_with_a_wrong_section_is_shown(node, listed):
    text = node.config.read_text()
    node.config.write_text(text.replace("[replication:site-c]", "[replication:other]"))
    line = listed()["site-c"]
    assert line["configured"]
    assert line["answers"] is None
    assert line["error"].startswith("wrong configuration")


def test_wish_is_shown_as_what_is_under_way_or_done(add, records, listed):
    add("one", "site-a")
    records.wishes.ask("site-a", Wish.DRAIN)
    records.wishes.ask("site-c", Wish.REMOVE)
    assert listed()["site-a"]["wish"] == "draining"
    assert listed()["site-c"]["wish"] == "removed"
    records.wishes.ask("site-a", Wish.REMOVE)
    records.wishes.ask("site-c", Wish.DRAIN)
    assert listed()["site-a"]["wish"] == "removing"
    assert listed()["site-c"]["wish"] == "drained"


def test_target_that_is_removed_is_not_asked(node, records, listed):
    records.wishes.ask("site-c", Wish.REMOVE)
    line = listed()["site-c"]
    assert (line["answers"], line["error"]) == (None, None)
    _, table, _ = node.run("target", "list")
    assert "| not asked" in table


def test_replicas_that_cannot_leave_are_named(node, add, records, listed):
    add("one", "site-a", error=f"{CANNOT_LEAVE}because")
    add("two", "site-a", error="something else")
    assert listed()["site-a"]["cannot_leave"] == []
    records.wishes.ask("site-a", Wish.DRAIN)
    stays = {"image_id": "one", "error": f"{CANNOT_LEAVE}because"}
    assert listed()["site-a"]["cannot_leave"] == [stays]
    _, out, _ = node.run("target", "list")
    assert f"site-a: image one {CANNOT_LEAVE}because" in out.splitlines()


def test_target_that_hangs_does_not_hold_up_the_list(node, monkeypatch, listed):
    monkeypatch.setattr(targets, "_ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        node.config.write_text(node.config.read_text().replace(node.url, url))
        line = listed()["site-a"]
    assert (line["answers"], line["error"]) == (False, "no answer within 0 s")


def test_schema_of_another_release_is_one_line(node):
    node.database_file.touch()
    assert node.run("target", "list")[0] == 0
    with sqlite3.connect(node.database_file) as connection:
        connection.execute("CREATE TABLE replicas (id INTEGER)")
    connection.close()
    status, out, err = node.run("target", "list")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "run glance-repl-manage db sync" in err


def test_images_that_a_target_lacks_are_counted_where_that_is_asked_for(
    node, add, records, configure, monkeypatch
):
    monkeypatch.setattr(targets, "ImageService", Images)
    configure("replication:site-c", mode="lazy")
    Spool(str(node.spool)).prepare()
    add("active", "site-a")
    _, out, _ = node.run("target", "list", "--missing", "--format", "json")
    counts = {line["target"]: line["missing"] for line in json.loads(out)}
    assert counts == {"site-a": 2, "site-c": 0}
    records.wishes.ask("site-a", Wish.DRAIN)
    _, table, _ = node.run("target", "list", "--missing")
    assert "| Missing |" in table
    _, out, _ = node.run("target", "list", "--missing", "--format", "json")
    assert "missing" not in json.loads(out)[0]


def test_escape_sequences_of_a_server_reach_no_terminal(node, add, records):
    records.wishes.ask("site-a", Wish.DRAIN)
    add("one", "site-a", error=f"{CANNOT_LEAVE}\x1b[31mred\x1b]0;title\x07\nsite-b: all is well")
    _, table, _ = node.run("target", "list")
    assert "\x1b" not in table
    assert "\x07" not in table
    assert not any(line.startswith("site-b:") for line in table.splitlines())
    for command in (("status",), ("explain", "one")):
        _, out, _ = node.run(*command)
        assert "\x1b" not in out
