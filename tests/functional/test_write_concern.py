# SPDX-License-Identifier: Apache-2.0
"""Uploads whose answer waits until so many replicas are active."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.cloud import MIB, Cloud, at_once, three_targets
from tests.lab.faults import HEALTHY, Fault, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

HEADER = "X-Replication-Status"
PROPERTY = "replication_write_concern"
HALF_WAY = Fault(hang_after=MIB)
OPTIONS = {
    "replication": {
        "write_concern": "all",
        "retry_initial_seconds": "0.2",
        "retry_max_seconds": "1",
    }
}


@pytest.fixture(scope="module")
def waiting(keystone, workdir, require):
    """Uploads wait for all replicas; site-c can be held."""
    require(Nginx)
    directory = workdir("write-concern")
    targets = three_targets(directory)
    targets["site-c"] = FaultyTarget(targets["site-c"])
    site_options = {"site-c": {"stall_timeout_seconds": "2"}}
    with Cloud(
        directory, keystone, targets=targets, target_options=site_options, options=OPTIONS
    ) as cloud:
        yield cloud


@pytest.fixture
def held_site(waiting):
    """site-c takes one MiB of an image and then no more."""
    site = waiting.targets["site-c"]
    site.switch(HALF_WAY)
    yield site
    site.switch(HEALTHY)


@pytest.mark.parametrize("chunked", [False, True])
def test_answer_comes_with_the_last_replica(waiting, chunked):
    body = image_bytes(MIB)
    image_id = waiting.create_image()
    answer = waiting.upload(image_id, body, chunked=chunked)
    assert (answer.status_code, answer.headers[HEADER]) == (204, "active=3/3")
    assert set(waiting.statuses(image_id).values()) == {"active"}
    assert len(waiting.replica_urls(image_id)) == 3


def test_answer_waits_for_a_slow_target(waiting, held_site):
    image_id = waiting.create_image()
    with ThreadPoolExecutor(1) as uploader:
        answer = uploader.submit(waiting.upload, image_id, image_bytes(3 * MIB))
        waiting.wait_replicated(image_id, ["site-a", "site-b"])
        assert not answer.done()
        held_site.switch(HEALTHY)
        assert answer.result().headers[HEADER] == "active=3/3"


def test_property_of_an_administrator_wins(waiting, held_site):
    image_id = waiting.create_image(user="admin", **{PROPERTY: "quorum"})
    answer = waiting.upload(image_id, image_bytes(3 * MIB), user="admin")
    assert (answer.status_code, answer.headers[HEADER]) == (204, "active=2/3")
    assert waiting.statuses(image_id)["site-c"] != "active"
    held_site.switch(HEALTHY)
    waiting.wait_replicated(image_id)


def test_property_of_a_user_is_ignored(waiting):
    image_id = waiting.create_image(**{PROPERTY: "none"})
    assert waiting.upload(image_id, b"some bytes").headers[HEADER] == "active=3/3"


def test_an_empty_image_can_have_no_replica(waiting):
    answer = waiting.upload(waiting.create_image(), b"")
    assert (answer.status_code, answer.headers[HEADER]) == (204, "active=0/3")


def test_a_refused_upload_waits_for_nothing(waiting):
    image_id = waiting.new_image(b"some bytes")
    answer = waiting.upload(image_id, b"other bytes")
    assert answer.status_code == 409
    assert HEADER not in answer.headers


def test_waiting_uploads_leave_glance_to_the_writer(waiting):
    """As many as Glance has threads; the writer needs one of them to add locations."""
    image_ids = [waiting.create_image() for _ in range(2 * 4)]
    answers = at_once(len(image_ids), lambda each: waiting.upload(each, b"bytes"), image_ids)
    assert {answer.status_code for answer in answers} == {204}
    assert {answer.headers.get(HEADER) for answer in answers} <= {"active=3/3", None}
    for image_id in image_ids:
        waiting.wait_replicated(image_id)
    wait_until(lambda: not waiting.spool_files(), 60, "the spool is empty")
