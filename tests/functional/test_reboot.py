# SPDX-License-Identifier: Apache-2.0
"""The whole machine dies or is shut down, with everything on it, and comes back."""

import contextlib
import queue
import signal
import threading

import pytest
import requests

from tests.functional.cloud import MIB, Cloud
from tests.lab.faults import HEALTHY, Fault, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

HALF_WAY = Fault(hang_after=MIB)
OPTIONS = {
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
    # A busy machine may need longer to end Glance.
    "writer_grace_seconds": "120",
}


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    require(Nginx)
    directory = workdir("reboot")
    targets = {
        "site-a": Nginx(directory / "site-a"),
        "site-b": FaultyTarget(Nginx(directory / "site-b")),
    }
    with Cloud(directory, keystone, targets=targets, options={"replication": OPTIONS}) as cloud:
        yield cloud


@pytest.fixture
def half_sent(cloud):
    """An image of which Glance has the first half; its client never sends the second."""
    image_id = cloud.create_image()
    pieces = queue.SimpleQueue()

    def upload():
        with contextlib.suppress(requests.RequestException):
            cloud.upload(image_id, iter(pieces.get, b""))

    thread = threading.Thread(target=upload)
    thread.start()
    pieces.put(image_bytes(2 * MIB))
    wait_until(lambda: cloud.rows(image_id), 60, "the upload is in hand")
    yield image_id
    pieces.put(b"")
    thread.join()


def test_everything_is_killed_at_once(cloud, half_sent):
    done = {cloud.new_image(body): body for body in (image_bytes(MIB), image_bytes(3 * MIB))}
    for image_id in done:
        cloud.wait_replicated(image_id)
    site = cloud.targets["site-b"]
    site.switch(HALF_WAY)
    body = image_bytes(4 * MIB)
    under_way = cloud.new_image(body)
    wait_until(lambda: site.received_bytes >= MIB, 60, "half is sent")

    victims = [cloud.writer()]
    cloud.glance.kill()
    for process in victims:
        process.kill()
    cloud.targets["site-a"].kill()
    site.server.kill()
    wait_until(lambda: not cloud.writers(), 60, "nothing runs")

    cloud.targets["site-a"].start()
    site.server.start()
    site.switch(HEALTHY)
    cloud.glance.start()
    cloud.request("GET", "v2/images").raise_for_status()
    for image_id, content in {**done, under_way: body}.items():
        cloud.assert_replicated(image_id, content)
    cloud.assert_no_trace(half_sent)


def test_everything_is_shut_down_at_once(cloud):
    """A push that can be finished within the grace time is, though Glance is gone by then."""
    site = cloud.targets["site-a"]
    # Before the first push to a target the writer asks what it can do.
    cloud.wait_replicated(cloud.new_image(b"first"))
    body = image_bytes(2 * MIB)
    site.signal(signal.SIGSTOP)
    try:
        image_id = cloud.new_image(body)
        cloud.wait_replicated(image_id, ["site-b"])
        wait_until(lambda: cloud.row(image_id, "site-a").bytes_sent, 60, "the push is under way")
        cloud.writer().terminate()
        cloud.glance.stop()
        assert cloud.puts(image_id, "site-a") == []
    finally:
        site.signal(signal.SIGCONT)
    wait_until(lambda: not cloud.writers(), 60, "nothing runs")
    written = cloud.puts(image_id, "site-a")
    assert [status for _, status in written] == [201]

    cloud.glance.start()
    cloud.request("GET", "v2/images").raise_for_status()
    cloud.assert_replicated(image_id, body)
    assert cloud.puts(image_id, "site-a") == written
    assert len(cloud.puts(image_id, "site-b")) == 1
