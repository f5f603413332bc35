# SPDX-License-Identifier: Apache-2.0
"""What users of Glance meet while the replicas' database is away, or does not answer."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.functional.test_target_faults import QUICK
from tests.lab.faults import HEALTHY, Fault, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

LOCAL, HELD = "site-b", "site-c"
HEADER = "X-Replication-Status"
# More than Glance has threads.
CALLS = 24
# Much longer than an answer may take, so that only one that never comes is told from it.
SECONDS = 120
OPTIONS = {
    **QUICK,
    "local_target": LOCAL,
    "write_concern": "all",
    "write_concern_timeout_seconds": "4",
}


@pytest.fixture(scope="module")
def cloud(server, keystone, workdir, require):
    """Uploads wait for site-a and site-c, downloads fill site-b."""
    require(Nginx)
    directory = workdir("database-away")
    targets = {
        "site-a": Nginx(directory / "site-a"),
        LOCAL: Nginx(directory / LOCAL),
        HELD: FaultyTarget(Nginx(directory / HELD)),
    }
    with Cloud(
        directory,
        keystone,
        targets=targets,
        target_options={LOCAL: {"mode": "lazy"}},
        options={"replication": OPTIONS},
        connection=server.new_database(),
    ) as cloud:
        yield cloud


@contextlib.contextmanager
def stopped(server):
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def silent(server):
    """It accepts connections, and answers nothing."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


def ask(cloud, call):
    method, path = call
    headers = {"Accept": "application/json"}
    return cloud.request(method, path, user="admin", headers=headers, timeout=SECONDS)


def calls_about(image_id):
    replica = f"v2/images/{image_id}/replicas/site-a"
    return [
        ("GET", f"v2/images/{image_id}/replicas"),
        ("GET", replica),
        ("GET", f"{replica}?wait=60"),
        ("PUT", replica),
        ("PUT", f"{replica}?wait=60"),
        ("DELETE", f"{replica}"),
        ("GET", "v2/replication/targets"),
        ("GET", "v2/replication/replicas"),
    ]


def assert_not_now(answer):
    """A 503 as Glance's own would be, that says when to ask again."""
    assert answer.status_code == 503, (answer.request.method, answer.url, answer.text)
    assert int(answer.headers["Retry-After"]) > 0
    error = json.loads(answer.text)
    assert (error["code"], error["title"]) == ("503 Service Unavailable", "Service Unavailable")
    assert "database" in error["message"]


def test_database_that_is_stopped(cloud, server):
    assert_glance_goes_on(cloud, stopped(server))


@pytest.mark.parametrize("server", ["mariadb"], indirect=True)
def test_database_that_is_silent(cloud, server):
    assert_glance_goes_on(cloud, silent(server))


def assert_glance_goes_on(cloud, away):
    """Replicas are not told of meanwhile, and all is as ever afterwards."""
    bodies = [image_bytes(MIB + number) for number in range(2)]
    old = cloud.new_image(bodies[0])
    cloud.wait_replicated(old, ["site-a", HELD])
    calls = calls_about(old)
    with away:
        with ThreadPoolExecutor(CALLS) as pool:
            asked = [pool.submit(ask, cloud, calls[each % len(calls)]) for each in range(CALLS)]
            for _ in range(4):
                answer = cloud.request("GET", f"v2/images/{old}", timeout=SECONDS)
                assert answer.status_code == 200
            for answer in asked:
                assert_not_now(answer.result())
        created = cloud.create_image()
        answer = cloud.upload(created, bodies[1], timeout=SECONDS)
        assert (answer.status_code, answer.text) == (204, "")
        assert HEADER not in answer.headers
        answer = cloud.request("GET", f"v2/images/{old}/file", timeout=SECONDS)
        assert answer.content == bodies[0]
    wait_until(lambda: ask(cloud, calls[0]).status_code == 200, 60, "replicas are told of again")
    cloud.wait_replicated(created, ["site-a", HELD])
    assert cloud.upload(cloud.create_image(), bodies[0]).headers[HEADER] == "active=2/2"
    for image_id, body in zip((old, created), bodies, strict=True):
        assert cloud.request("GET", f"v2/images/{image_id}/file").content == body
        cloud.wait_replicated(image_id, [LOCAL])
    cloud.wait_settled()


def test_answer_when_the_time_for_the_replicas_is_over(cloud):
    """It is Glance's own, and says how many there are."""
    site = cloud.targets[HELD]
    site.switch(Fault(hang_after=MIB))
    image_id = cloud.create_image()

    def body():
        yield image_bytes(2 * MIB)
        wait_until(lambda: len(cloud.rows(image_id)) == 2, 60, "the writer has it in hand")
        yield image_bytes(MIB)

    try:
        answer = cloud.upload(image_id, body(), timeout=SECONDS)
        assert (answer.status_code, answer.text) == (204, "")
        assert answer.headers[HEADER] in ("active=0/2", "active=1/2")
        assert cloud.image(image_id)["status"] == "active"
    finally:
        site.switch(HEALTHY)
    cloud.wait_replicated(image_id, ["site-a", HELD])
