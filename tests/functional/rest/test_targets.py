# SPDX-License-Identifier: Apache-2.0
"""GET /v2/replication/targets: which there are, and whether they are up."""

from tests.lab.process import wait_until


def targets(cloud, user="admin"):
    answer = cloud.request("GET", "v2/replication/targets", user=user)
    assert answer.status_code == 200, answer.text
    return answer.json()["targets"]


def has_health(cloud, name, health):
    return next(each for each in targets(cloud) if each["name"] == name)["health"] == health


def test_everybody_sees_names_and_health(quiet):
    quiet.wake()
    wait_until(lambda: has_health(quiet, "site-a", "up"), 60, "it is up")
    listed = targets(quiet, "alice")
    assert [each["name"] for each in listed] == list(quiet.targets)
    assert {each["health"] for each in listed} <= {"up", "unknown"}
    for each in listed:
        assert set(each) == {"name", "health", "url", "wish", "replicas", "nodes"}
        assert {each[name] for name in ("url", "wish", "replicas", "nodes")} == {None}


def test_without_a_token_there_is_no_answer(quiet):
    assert quiet.request("GET", "v2/replication/targets", user=None).status_code == 401


def test_administrator_sees_what_is_wrong(quiet):
    quiet.wake()
    wait_until(lambda: has_health(quiet, "site-b", "up"), 60, "it is up")
    server = quiet.targets["site-b"]
    server.stop()
    try:
        wait_until(lambda: has_health(quiet, "site-b", "down"), 60, "it is down")
        target = next(each for each in targets(quiet) if each["name"] == "site-b")
        assert target["url"] == server.url
        (node,) = target["nodes"]
        assert (node["health"], bool(node["error"])) == ("down", True)
    finally:
        server.start()
    wait_until(lambda: has_health(quiet, "site-b", "up"), 60, "it is up again")
