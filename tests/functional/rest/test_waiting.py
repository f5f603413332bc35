"""GET .../replicas/{target}?wait=SECONDS: answers when something has changed."""

import threading
import time

import pytest
import requests

from tests.lab.process import wait_until

WAIT = "?wait=60"
CLIENTS = 200


@pytest.fixture
def waiting_image(quiet):
    """An image whose replica at site-a waits for its target."""
    server = quiet.targets["site-a"]
    server.stop()
    try:
        image_id = quiet.new_image(b"some bytes")
        wait_until(lambda: quiet.statuses(image_id).get("site-a") == "error", 60, "it fails")
        yield image_id
    finally:
        if not server.running:
            server.start()
        quiet.wait_replicated(image_id, ["site-a"])
        quiet.forget(image_id)


def ask(cloud, image_id, query=WAIT, method="GET", **arguments):
    path = f"v2/images/{image_id}/replicas/site-a{query}"
    return cloud.request(method, path, **arguments)


def wait_until_active(cloud, image_id):
    """What a consumer does: ask again as soon as the answer allows."""
    while (answer := ask(cloud, image_id)).json()["status"] != "active":
        time.sleep(int(answer.headers.get("Retry-After", 0)))
    return answer.json()


def test_answer_comes_when_the_replica_is_active(quiet, waiting_image):
    found = []
    client = threading.Thread(target=lambda: found.append(wait_until_active(quiet, waiting_image)))
    client.start()
    quiet.targets["site-a"].start()
    client.join(150)
    assert [replica["progress"] for replica in found] == [1.0]


def test_put_waits_too(quiet, waiting_image):
    quiet.targets["site-a"].start()
    answer = ask(quiet, waiting_image, method="PUT")
    assert (answer.status_code, answer.json()["status"] == "active") in {(200, True), (202, False)}
    assert wait_until_active(quiet, waiting_image)["status"] == "active"


@pytest.mark.parametrize("wait", ["-1", "NaN", "inf", "1e3", "9" * 40, "", "1&wait=1", "0x1"])
def test_wait_that_makes_no_sense(quiet, waiting_image, wait):
    for method in ("GET", "PUT"):
        assert ask(quiet, waiting_image, f"?wait={wait}", method).status_code == 400


class Crowd:
    """Clients that wait for one replica, each until it is active."""

    def __init__(self, cloud, image_id):
        self._url = f"{cloud.glance.url}v2/images/{image_id}/replicas/site-a{WAIT}"
        self._headers = {"X-Auth-Token": cloud.token()}
        self.over = threading.Event()
        self.statuses = []
        self.threads = [threading.Thread(target=self._wait) for _ in range(CLIENTS)]

    def _wait(self):
        with requests.Session() as session:
            session.trust_env = False
            while not self.over.is_set():
                answer = session.get(self._url, headers=self._headers, timeout=60)
                self.statuses.append(answer.status_code)
                if answer.status_code != 200 or answer.json()["status"] == "active":
                    return
                self.over.wait(int(answer.headers.get("Retry-After", 0)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(90)


def seconds_of(number, work):
    taken = []
    for _ in range(number):
        began = time.monotonic()
        work()
        taken.append(time.monotonic() - began)
    return sorted(taken)[number // 2]


def test_many_who_wait_leave_threads_for_everybody_else(quiet, waiting_image):
    """Two processes with four threads each: one of them at most waits in each process."""

    def call():
        quiet.request("GET", f"v2/images/{waiting_image}").raise_for_status()

    def upload():
        uploaded.append(quiet.new_image(b"more bytes" * 100000))

    uploaded = []
    before = seconds_of(30, call), seconds_of(5, upload)
    with Crowd(quiet, waiting_image) as crowd:
        wait_until(lambda: len(crowd.statuses) >= CLIENTS, 60, "all have asked")
        during = seconds_of(30, call), seconds_of(5, upload)
    print("medians of a call and an upload, alone and beside those who wait:", before, during)
    assert set(crowd.statuses) == {200}
    for image_id in uploaded:
        quiet.forget(image_id)
