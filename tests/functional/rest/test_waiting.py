# SPDX-License-Identifier: Apache-2.0
"""GET .../replicas/{target}?wait=SECONDS: answers when something has changed."""

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.functional.cloud import MIB
from tests.lab.process import wait_until

WAIT = "?wait=60"
# The default of api_wait_max_seconds.
MOST_SECONDS = 10
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


def test_who_asks_before_the_image_has_data_is_told_when_the_replica_is_there(quiet):
    """A busy machine may take longer than the service keeps a request; then it asks again."""
    image_id, found = quiet.create_image(), []

    def consume():
        while (answer := ask(quiet, image_id)).status_code == 404:
            found.append(answer)
            time.sleep(int(answer.headers["Retry-After"]) and 0.1)
        found.append(answer)

    client = threading.Thread(target=consume)
    client.start()
    # Its process has no place for others then; requests go to both processes.
    wait_until(lambda: is_held(quiet, image_id) or found, 60, "it waits")
    assert quiet.upload(image_id, b"some bytes").status_code == 204
    client.join(150)
    *early, last = found
    assert last.status_code == 200
    assert all(" yet" in answer.text for answer in early)
    quiet.wait_replicated(image_id, ["site-a"])
    quiet.forget(image_id)


def is_held(cloud, image_id):
    """Whether a request with a wait is turned away, since another one is kept."""
    answer = ask(cloud, image_id, "?wait=0.001")
    return answer.headers.get("Retry-After") not in (None, "5")


@pytest.mark.parametrize("wait", ["-1", "NaN", "inf", "1e3", "9" * 40, "", "1&wait=1", "0x1"])
def test_wait_that_makes_no_sense(quiet, waiting_image, wait):
    for method in ("GET", "PUT"):
        assert ask(quiet, waiting_image, f"?wait={wait}", method).status_code == 400


class HeldUpload:
    """An upload that goes on until the test lets it end; its replicas are being written."""

    def __init__(self, cloud):
        self._cloud = cloud
        self._may_end = threading.Event()
        self.image_id = cloud.create_image()
        self._thread = threading.Thread(target=cloud.upload, args=(self.image_id, self._body()))

    def _body(self):
        # Servers and Glance read in blocks.
        yield from [bytes(256 << 10)] * 8
        self._may_end.wait(300)
        yield b"more bytes"

    def end(self):
        self._may_end.set()

    def __enter__(self):
        self._thread.start()
        here = self._cloud.statuses
        wait_until(lambda: here(self.image_id).get("site-a") == "uploading", 60, "it is written")
        return self

    def __exit__(self, *_):
        self.end()
        self._thread.join(60)
        self._cloud.wait_replicated(self.image_id, ["site-a"])
        self._cloud.forget(self.image_id)


@pytest.fixture
def held_upload(quiet):
    with HeldUpload(quiet) as held:
        yield held


def timed(cloud, image_id):
    """The answer to one request that found a place to wait, and the seconds that it took."""
    while True:
        began = time.monotonic()
        answer = ask(cloud, image_id)
        if "Retry-After" not in answer.headers:
            return answer, time.monotonic() - began


def test_replica_that_stays_as_it_is_is_answered_at_the_cap(quiet, held_upload):
    answer, seconds = timed(quiet, held_upload.image_id)
    assert (answer.status_code, answer.json()["status"]) == (200, "uploading")
    assert MOST_SECONDS <= seconds < 60, "of the minute that it asked for"


def answer_to_one_request(quiet):
    """What a single request is told that is held while the upload ends."""
    with HeldUpload(quiet) as held, ThreadPoolExecutor() as pool:
        answer = pool.submit(timed, quiet, held.image_id)

        def is_held():
            """Its process has no place for others then; requests go to both processes."""
            return "Retry-After" in ask(quiet, held.image_id, "?wait=0.001").headers

        wait_until(lambda: is_held() or answer.done(), 60, "the request is held")
        held.end()
        return answer.result()[0]


def test_one_request_is_answered_when_the_replica_is_active(quiet):
    # A busy machine may take longer for the rest than the service keeps a request.
    answers = (answer_to_one_request(quiet) for _ in range(3))
    replica = next((each for each in answers if each.json()["status"] == "active"), None)
    assert replica is not None and replica.status_code == 200


def test_what_cannot_be_yet_says_when_it_may_be(quiet, held_upload):
    answer = ask(quiet, held_upload.image_id, "", "PUT")
    assert (answer.status_code, answer.headers["Retry-After"]) == (409, "5")
    assert "no data yet: it is saving" in answer.text
    answer = ask(quiet, held_upload.image_id, "", "DELETE", user="admin")
    assert (answer.status_code, answer.headers["Retry-After"]) == (409, "10")
    assert "is being written" in answer.text


def test_bytes_sent_follow_what_the_target_gets(quiet):
    """12 MiB at 2 MiB a second: REST comes to tell of all that has arrived, again and again."""
    target = quiet.targets["site-c"]
    size, before = 12 * MIB, target.received_bytes
    image_id = quiet.new_image(bytes(size))
    path = f"v2/images/{image_id}/replicas/site-c"
    told, arrived = [], []

    def look():
        now = time.monotonic()
        arrived.append((now, target.received_bytes - before))
        replica = quiet.request("GET", path).json()
        told.append((now, replica["bytes_sent"], replica["status"]))
        return replica

    wait_until(lambda: look()["status"] == "uploading", 60, "it is written")
    while look()["status"] == "uploading":
        # What probes and headers bring is counted with the bytes.
        wanted = min(target.received_bytes - before, size) - MIB // 4
        wait_until(lambda wanted=wanted: look()["bytes_sent"] >= wanted, 60, "it is told")
    quiet.wait_replicated(image_id, ["site-c"])
    assert look()["progress"] == 1.0
    steps = {sent for _, sent, status in told if status == "uploading" and 0 < sent < size}
    assert len(steps) >= 3, told
    print("oldest bytes_sent, in seconds:", max(ages(told, arrived)), "in steps:", len(steps))
    quiet.forget(image_id)


def ages(told, arrived):
    """How old the answers are at least, by when the target had no more than they tell of."""
    for now, sent, status in told:
        if status == "uploading":
            then = [moment for moment, count in arrived if count <= sent + MIB // 4]
            yield now - max(moment for moment in (*then, arrived[0][0]) if moment <= now)


class Crowd:
    """Clients that wait for one replica, each until it is active.

    :ivar statuses: of all answers
    :ivar held: how many of the requests were kept as long as the service keeps any
    """

    def __init__(self, cloud, image_id):
        self._url = f"{cloud.glance.url}v2/images/{image_id}/replicas/site-a{WAIT}"
        self._headers = {"X-Auth-Token": cloud.token()}
        self.over = threading.Event()
        self.statuses = []
        self.held = 0
        self.threads = [threading.Thread(target=self._wait) for _ in range(CLIENTS)]

    def _wait(self):
        with requests.Session() as session:
            session.trust_env = False
            while not self.over.is_set():
                answer = session.get(self._url, headers=self._headers, timeout=60)
                self.statuses.append(answer.status_code)
                if answer.status_code != 200 or answer.json()["status"] == "active":
                    return
                # Only who finds no place is told when to come again.
                self.held += "Retry-After" not in answer.headers
                self.over.wait(int(answer.headers.get("Retry-After", 0)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(90)


class Pulse:
    """Takes the time of ordinary requests, one round after the other."""

    def __init__(self, cloud, image_id):
        self._cloud = cloud
        self._image_id = image_id
        self.calls, self.uploads, self.uploaded = [], [], []

    def beat(self):
        for _ in range(4):
            self.calls.append(seconds_of(self._call))
        self.uploads.append(seconds_of(self._upload))

    def _call(self):
        self._cloud.request("GET", f"v2/images/{self._image_id}").raise_for_status()

    def _upload(self):
        self.uploaded.append(self._cloud.new_image(b"more bytes" * 20000))

    def medians(self):
        return statistics.median(self.calls), statistics.median(self.uploads)


def seconds_of(work):
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_many_who_wait_leave_threads_for_everybody_else(quiet, waiting_image):
    """Two processes with four threads each: one of them at most waits in each process."""
    alone, beside = Pulse(quiet, waiting_image), Pulse(quiet, waiting_image)
    for _ in range(8):
        alone.beat()
    with Crowd(quiet, waiting_image) as crowd:
        # The first ones are held.
        wait_until(lambda: len(crowd.statuses) >= CLIENTS - 4, 60, "the others have asked")
        answers, rounds_with_answers = len(crowd.statuses), 0
        # Until these are answered, while others come again.
        while not crowd.held or rounds_with_answers < 8:
            before = len(crowd.statuses)
            beside.beat()
            rounds_with_answers += len(crowd.statuses) > before
            assert len(beside.uploads) < 1000, "nobody is answered any more"
        answers = len(crowd.statuses) - answers
        # Who is held is answered now.
        quiet.targets["site-a"].start()
    ratios = [now / then for now, then in zip(beside.medians(), alone.medians(), strict=True)]
    print(f"medians of calls and uploads alone {alone.medians()}, beside {beside.medians()}")
    print(f"ratios {ratios}; {len(beside.calls)} calls, {answers} answers, {crowd.held} held")
    assert set(crowd.statuses) == {200}
    for image_id in (*alone.uploaded, *beside.uploaded):
        quiet.forget(image_id)
