# SPDX-License-Identifier: Apache-2.0
"""A target with a limit gets no more than that, as long as it takes, and slows no other."""

import bisect
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.cloud import CHUNK_BYTES, MIB, Cloud
from tests.lab.certificates import Authority
from tests.lab.faults import HANGING, HEALTHY, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

RATE = 4 * MIB
WINDOW_SECONDS = 10
IMAGES = 4
IMAGE_BYTES = 9 * MIB
GROWING_BYTES = 12 * MIB
SAMPLE_SECONDS = 0.05
CONNECTIONS = 2
UPLOADS = 6
LIMITED = ("plain", "tls")


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """Two targets with a limited rate and one with few connections; one is free, one crawls."""
    require(Nginx)
    directory = workdir("limits")
    authority = Authority(directory / "ca")
    targets = {
        "free": Nginx(directory / "free"),
        "plain": FaultyTarget(Nginx(directory / "plain")),
        "tls": FaultyTarget(Nginx(directory / "tls", tls=authority.server())),
        "narrow": FaultyTarget(Nginx(directory / "narrow")),
        "crawling": Nginx(directory / "crawling"),
    }
    limit = {"max_bytes_per_second": str(RATE)}
    with Cloud(
        directory,
        keystone,
        targets=targets,
        target_options={
            "plain": limit,
            "tls": {**limit, "ca_file": str(authority.ca_file)},
            "narrow": {"max_connections": str(CONNECTIONS)},
            "crawling": {"max_bytes_per_second": "1000", "stall_timeout_seconds": "2"},
        },
        # Connections are those of pushes only.
        options={"replication": {"probe_interval_seconds": "3600"}},
    ) as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def tidy(cloud):
    """No push crawls on when the test is over: a writer does not end before its pushes."""
    yield
    for image_id in {row.image_id for row in cloud.rows()}:
        cloud.forget(image_id)
    cloud.wait_settled()


class Meter:
    """Notes, while it is entered, how many bytes have come to a target by then."""

    def __init__(self, target):
        self.target = target
        self.before = target.received_bytes
        self.times = []
        self.counts = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._over.set()
        self._thread.join()

    def _measure(self):
        while not self._over.wait(SAMPLE_SECONDS):
            moment, count = time.monotonic(), self.target.received_bytes - self.before
            # A thread that had to wait in between has a count that is later than its moment.
            if time.monotonic() - moment < SAMPLE_SECONDS:
                self.times.append(moment)
                self.counts.append(count)

    def most_in_a_window(self):
        """The highest rate in any ten seconds."""
        rates = [0.0]
        for begin, moment in enumerate(self.times):
            end = bisect.bisect_left(self.times, moment + WINDOW_SECONDS)
            if end < len(self.times):
                rates.append(self._rate(begin, end))
        return max(rates)

    def average(self, first_bytes, last_bytes):
        """The rate from the moment when so many bytes had come until so many had."""
        begin = bisect.bisect_left(self.counts, first_bytes)
        return self._rate(begin, bisect.bisect_left(self.counts, last_bytes))

    def _rate(self, begin, end):
        seconds = self.times[end] - self.times[begin]
        return (self.counts[end] - self.counts[begin]) / seconds


def upload_all(cloud, measured):
    """Upload some images at once, and one that grows for as long; returns their bodies by id."""
    growing = image_bytes(GROWING_BYTES)
    started = measured.received_bytes
    total = GROWING_BYTES + IMAGES * IMAGE_BYTES

    def grow():
        for begin in range(0, GROWING_BYTES, CHUNK_BYTES):
            due = started + 0.8 * total * begin / GROWING_BYTES
            wait_until(lambda due=due: measured.received_bytes >= due, 60, f"{due:.0f} bytes")
            yield growing[begin : begin + CHUNK_BYTES]

    bodies = [image_bytes(IMAGE_BYTES) for _ in range(IMAGES)]
    with ThreadPoolExecutor() as pool:
        uploads = pool.map(cloud.new_image, bodies)
        return {cloud.new_image(grow()): growing, **dict(zip(uploads, bodies, strict=True))}


def is_stored(cloud, image_id, name):
    row = cloud.row(image_id, name)
    return row is not None and row.status in ("stored", "active")


@pytest.mark.parametrize("name", LIMITED)
def test_all_pushes_together_keep_to_the_limit(name, cloud, capsys):
    target = cloud.targets[name]
    with Meter(target) as meter:
        bodies = upload_all(cloud, target)
        for image_id in bodies:
            # Glance does not trust the lab's authority, so that this is as far as TLS gets.
            wait_until(lambda each=image_id: is_stored(cloud, each, name), 60, "it is stored")
    for image_id, body in bodies.items():
        assert (target.root / cloud.row(image_id, name).object_name).read_bytes() == body
        assert [status for _, status in cloud.puts(image_id, name)] == [201]
    most = meter.most_in_a_window() / RATE
    average = meter.average(MIB, IMAGES * IMAGE_BYTES + GROWING_BYTES - MIB) / RATE
    with capsys.disabled():
        print(
            f" most in {WINDOW_SECONDS} s {most:.1%}, average {average:.1%} of the limit ", end=""
        )
    assert 0 < most <= 1.05
    # A busy machine may take its time.
    assert average > 0.6


def test_limited_target_slows_no_other(cloud):
    body = image_bytes(MIB)
    image_id = cloud.new_image(body)
    cloud.wait_replicated(image_id, ["plain", "free"])
    row = cloud.row(image_id, "crawling")
    assert (row.status, row.attempts, row.error) == ("uploading", 0, None)


def test_refused_upload_is_cut_while_it_waits_for_its_turn(cloud):
    image_id = cloud.create_image(disk_format="qcow2")

    def wrong_format():
        yield image_bytes(MIB)
        wait_until(lambda: cloud.row(image_id, "crawling"), 60, "it is in hand")
        wait_until(lambda: cloud.row(image_id, "crawling").bytes_sent, 60, "it crawls")

    assert cloud.upload(image_id, wrong_format()).status_code == 415
    cloud.assert_no_trace(image_id)


def test_target_that_hangs_gets_no_more_connections_than_its_limit(cloud):
    narrow = cloud.targets["narrow"]
    # Before the first push to a target the writer asks what it can do.
    cloud.wait_replicated(cloud.new_image(b"first"), ["narrow"])
    narrow.switch(HANGING)
    ids = [cloud.new_image(image_bytes(MIB)) for _ in range(UPLOADS)]
    for image_id in ids:
        cloud.wait_replicated(image_id, ["free"])
    wait_until(lambda: narrow.accepted >= CONNECTIONS, 60, "pushes are under way")
    assert narrow.most_open == CONNECTIONS
    narrow.switch(HEALTHY)
    for image_id in ids:
        cloud.wait_replicated(image_id, ["narrow", "free"])
