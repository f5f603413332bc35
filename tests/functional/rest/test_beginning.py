# SPDX-License-Identifier: Apache-2.0
"""Before a writer has made the tables, and with one thread for everybody."""

import pytest

from tests.functional.cloud import TOP, Cloud, at_once
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

UNDEFINED = "reference a rule that is not defined"


@pytest.fixture(scope="module")
def fresh(keystone, workdir, require):
    """No writer has run; the policy file is this project's sample; site-b is lazy."""
    require(Nginx)
    policy_file = TOP / "etc/glance-repl-mw/glance-policy-single.yaml.sample"
    options = {
        "replication": {"writer": "external", "api_wait_max_seconds": "2"},
        "oslo_policy": {"policy_file": str(policy_file)},
    }
    lazy = {"site-b": {"mode": "lazy"}}
    with Cloud(workdir("fresh"), keystone, options=options, target_options=lazy) as cloud:
        yield cloud


def test_targets_are_listed_before_there_are_tables(fresh):
    for user in ("alice", "admin"):
        answer = fresh.request("GET", "v2/replication/targets", user=user)
        assert answer.status_code == 200, answer.text
        targets = answer.json()["targets"]
        assert [each["health"] for each in targets] == ["unknown"] * 3
    assert [each["replicas"] for each in targets] == [{}] * 3


def test_there_are_no_replicas_before_there_are_tables(fresh):
    image_id = fresh.new_image(b"some bytes")
    for path, user in (
        (f"images/{image_id}/replicas", "alice"),
        ("replication/replicas", "admin"),
    ):
        answer = fresh.request("GET", f"v2/{path}", user=user)
        assert (answer.status_code, answer.json()["replicas"]) == (200, [])
    path = f"v2/images/{image_id}/replicas/site-a"
    for method in ("GET", "DELETE"):
        answer = fresh.request(method, path, user="admin")
        assert answer.status_code == 404, answer.text
    answer = fresh.request("PUT", path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_who_waits_in_vain_is_told_why(fresh):
    image_id = fresh.create_image()
    path = f"v2/images/{image_id}/replicas"
    answer = fresh.request("GET", f"{path}/site-a?wait=1")
    assert (answer.status_code, answer.headers["Retry-After"]) == (404, "5")
    assert "the image has no data yet, it is queued" in answer.text
    for target, why in (("site-b", "its mode is lazy"), ("site-x", "there is no such target")):
        answer = fresh.request("GET", f"{path}/{target}?wait=60")
        assert answer.status_code == 404
        assert why in answer.text
        assert "Retry-After" not in answer.headers, "it never comes"


def test_the_sample_of_the_policies_is_no_reason_for_a_warning(fresh):
    answer = fresh.request("GET", "v2/replication/targets")
    assert answer.status_code == 200
    log = fresh.glance.log.read_text(errors="replace")
    assert UNDEFINED not in log


@pytest.fixture(scope="module")
def single(keystone, workdir, require):
    """One process with one thread, which also the writer needs."""
    require(Nginx)
    options = {"replication": {"write_concern": "all", "api_max_waiters": "4"}}
    directory = workdir("single")
    with Cloud(directory, keystone, options=options, processes=1, threads=1) as cloud:
        yield cloud


def test_no_upload_waits_in_the_only_thread(single):
    image_id = single.create_image()
    answer = single.upload(image_id, b"some bytes")
    assert answer.status_code == 204
    assert "X-Replication-Status" not in answer.headers
    single.wait_replicated(image_id)
    assert (
        "of the 1 threads of this process one must serve others" in single.glance.log.read_text()
    )


def test_no_request_waits_in_the_only_thread(single):
    server = single.targets["site-a"]
    server.stop()
    try:
        image_id = single.new_image(b"some bytes")
        wait_until(lambda: single.statuses(image_id).get("site-a") == "error", 60, "it fails")
        path = f"v2/images/{image_id}/replicas/site-a?wait=60"
        answers = at_once(4, lambda _: single.request("GET", path), range(4))
        # Only who finds no place is told when to come again.
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
        assert {answer.status_code for answer in answers} == {200}
    finally:
        server.start()
        single.wait_replicated(image_id)
