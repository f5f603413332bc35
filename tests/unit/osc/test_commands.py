# SPDX-License-Identifier: Apache-2.0
"""The commands of openstackclient against a service that tells a story."""

import json
import sys

import pytest
from osc_lib import exceptions

from glance_repl_mw.osc import replica as commands
from glance_repl_mw.osc import target as target_commands
from tests.unit.osc.conftest import IMAGE, replica

FAILED = {"attempts": 1, "error": "the target is away", "next_attempt_at": "2026-11-23T11:00:00Z"}
REPLICAS = f"/images/{IMAGE}/replicas"


@pytest.fixture
def run(app, capsys):
    """Run a command as `openstack` does; returns its output, read as JSON, and its messages."""

    def call(command_class, *arguments):
        app.stdout = sys.stdout
        command = command_class(app, None)
        is_table = hasattr(command, "produce_output")
        options = ["-f", "json"] if is_table else []
        parsed = command.get_parser("command").parse_args([*arguments, *options])
        problem = None
        try:
            command.run(parsed)
        except exceptions.CommandError as error:
            problem = str(error)
        written = capsys.readouterr()
        return json.loads(written.out) if written.out else None, problem, written.err.splitlines()

    return call


def test_list(run, glance):
    glance.tells("GET", REPLICAS, (200, {"replicas": [replica(), replica("site-b", "pending")]}))
    rows, problem, _ = run(commands.ListImageReplica, IMAGE)
    assert problem is None
    assert [(row["Target"], row["Status"], row["Progress"]) for row in rows] == [
        ("site-a", "active", 1.0),
        ("site-b", "pending", 0.0),
    ]
    (row, _), _, _ = run(commands.ListImageReplica, IMAGE, "--long")
    assert {title.lower().replace(" ", "_") for title in row} == set(replica()) - {"image_id"}


def test_show_without_a_wait(run, glance):
    glance.becomes("site-a", replica(status="uploading", bytes_sent=7))
    shown, problem, lines = run(commands.ShowImageReplica, IMAGE, "site-a")
    assert (shown, problem, lines) == (replica(status="uploading", bytes_sent=7), None, [])
    assert ("GET", f"/v2{REPLICAS}/site-a", "") in glance.requests


def test_what_glance_refuses_is_told_in_its_words(run, glance):
    message = {"message": "There is no target site-z.", "code": "404 Not Found", "title": "x"}
    glance.tells("DELETE", f"{REPLICAS}/site-z", (404, message))
    _, problem, _ = run(commands.DeleteImageReplica, IMAGE, "site-z")
    assert problem == "There is no target site-z. (HTTP 404)"


def test_delete(run, glance):
    glance.tells("DELETE", f"{REPLICAS}/site-a", (202, replica(status="deleting")))
    assert run(commands.DeleteImageReplica, IMAGE, "site-a")[1] is None
    assert glance.asked("DELETE") == [(f"/v2{REPLICAS}/site-a", "")]


def test_name_of_a_target_stays_one_part_of_the_path(run, glance):
    run(commands.DeleteImageReplica, IMAGE, "a/../b?c")
    assert glance.asked("DELETE") == [(f"/v2{REPLICAS}/a%2F..%2Fb%3Fc", "")]


def test_sync_of_several_waits_for_each(run, glance):
    for name in ("site-a", "site-b"):
        path = f"{REPLICAS}/{name}"
        glance.tells("PUT", path, (202, replica(name, "pending")))
        glance.becomes(name, replica(name, "uploading", bytes_sent=50), replica(name))
    rows, problem, lines = run(
        commands.SyncImageReplica, IMAGE, "site-a", "site-b", "--wait", "20"
    )
    assert problem is None
    assert [row["Status"] for row in rows] == ["active", "active"]
    for name in ("site-a", "site-b"):
        told = [line for line in lines if line.startswith(name)]
        assert told == [f"{name}: {word}" for word in ("pending", "uploading", "active")]
        assert (f"/v2{REPLICAS}/{name}", "wait=20") in glance.asked("GET")


def test_sync_of_all_asks_for_the_targets(run, glance):
    glance.tells("GET", "/replication/targets", (200, {"targets": [{"name": "site-a"}]}))
    glance.tells("PUT", f"{REPLICAS}/site-a", (200, replica()))
    rows, problem, _ = run(commands.SyncImageReplica, IMAGE, "--all")
    assert ([row["Target"] for row in rows], problem) == (["site-a"], None)


@pytest.mark.parametrize("arguments", [(), ("site-a", "--all")])
def test_sync_wants_targets_or_all(run, arguments):
    _, problem, _ = run(commands.SyncImageReplica, IMAGE, *arguments)
    assert "--all" in problem


def test_target_that_refuses_does_not_keep_the_others(run, glance):
    glance.tells("PUT", f"{REPLICAS}/site-a", (409, {"message": "It is being emptied."}))
    glance.tells("PUT", f"{REPLICAS}/site-b", (200, replica("site-b")))
    rows, problem, _ = run(commands.SyncImageReplica, IMAGE, "site-a", "site-b", "--wait")
    assert [row["Target"] for row in rows] == ["site-b"]
    assert problem == "Target site-a: It is being emptied. (HTTP 409)"


def test_wait_that_is_over(run, glance):
    glance.becomes("site-a", replica(status="uploading"))
    shown, problem, _ = run(commands.ShowImageReplica, IMAGE, "site-a", "--wait", "0.1")
    assert shown["status"] == "uploading"
    assert problem == "Target site-a: still uploading after 0.1 seconds"


def test_wait_without_end_ends_with_a_failed_attempt(run, glance):
    glance.tells("PUT", f"{REPLICAS}/site-a", (202, replica(status="error", **FAILED)))
    glance.becomes("site-a", replica(status="error", **{**FAILED, "attempts": 2}))
    rows, problem, _ = run(commands.SyncImageReplica, IMAGE, "site-a", "--wait")
    assert rows[0]["Status"] == "error"
    assert problem.startswith("Target site-a: the target is away; it is tried again at 2026")


def test_wait_with_an_end_outlasts_a_failed_attempt(run, glance):
    glance.becomes("site-a", replica(status="uploading"), replica(status="error", **FAILED))
    path = ("GET", f"/v2{REPLICAS}/site-a")
    glance.answers[path].append((200, replica()))
    _, problem, lines = run(commands.ShowImageReplica, IMAGE, "site-a", "--wait", "20")
    assert problem is None
    assert lines[1].startswith("site-a: error: the target is away; next attempt at 2026")


@pytest.mark.parametrize("options", [["--wait"], ["--wait", "20"]])
def test_error_that_is_not_tried_again_ends_every_wait(run, glance, options):
    glance.becomes("site-a", replica(status="error", error="the image is empty"))
    _, problem, _ = run(commands.ShowImageReplica, IMAGE, "site-a", *options)
    assert problem == "Target site-a: the image is empty; it is not tried again"


def test_service_that_is_away_for_a_moment(run, glance):
    glance.becomes("site-a", replica(status="pending"), replica(status="pending"), replica())
    path = ("GET", f"/v2{REPLICAS}/site-a")
    busy = (503, {"message": "Later."}, {"Retry-After": "0.01"})
    glance.answers[path][1:2] = [busy, busy]
    assert run(commands.ShowImageReplica, IMAGE, "site-a", "--wait", "20")[1] is None


def test_answer_that_comes_early_names_the_pause(run, glance):
    glance.becomes("site-a", replica(status="uploading"))
    path = ("GET", f"/v2{REPLICAS}/site-a")
    glance.answers[path] = [
        *((200, replica(status="uploading"), {"Retry-After": "0.01"}) for _ in range(30)),
        (200, replica()),
    ]
    _, problem, lines = run(commands.ShowImageReplica, IMAGE, "site-a", "--wait", "20")
    assert (problem, lines) == (None, ["site-a: uploading", "site-a: active"])


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "cirros"])
def test_wait_of_no_seconds_is_refused(run, capsys, seconds):
    with pytest.raises(SystemExit):
        run(commands.ShowImageReplica, IMAGE, "site-a", f"--wait={seconds}")
    assert "--wait" in capsys.readouterr().err


def test_targets(run, glance):
    known = {"name": "site-a", "health": "up", "url": "https://a/", "replicas": {"active": 2}}
    nodes = [{"node": "one", "health": "up"}]
    targets = [{**known, "nodes": nodes}, {"name": "site-b", "health": "unknown"}]
    glance.tells("GET", "/replication/targets", (200, {"targets": targets}))
    rows, _, _ = run(target_commands.ListImageReplicaTarget)
    assert rows == [
        {"Name": "site-a", "Health": "up"},
        {"Name": "site-b", "Health": "unknown"},
    ]
    rows, _, _ = run(target_commands.ListImageReplicaTarget, "--long")
    assert (rows[0]["URL"], rows[0]["Replicas"]) == ("https://a/", {"active": 2})
    assert (rows[0]["Nodes"], rows[1]["Nodes"]) == (nodes, None)


def test_text_of_a_server_is_made_fit_for_a_terminal(run, glance):
    error = "413\x1b]0;title\x07 \x1b[31mred\nsite-b: active"
    glance.becomes("site-a", replica(status="error", error=error))
    shown, _, _ = run(commands.ShowImageReplica, IMAGE, "site-a")
    assert shown["error"] == "413 red site-b: active"
