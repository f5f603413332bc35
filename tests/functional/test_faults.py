# SPDX-License-Identifier: Apache-2.0
"""A target that is down, hangs, crawls or fails slows nobody, and catches up by itself."""

import datetime
import re
import signal
import time

import pytest
import requests
from oslo_utils import timeutils

from glance_repl_mw.db import schema
from glance_repl_mw.db.survey import ReplicaSurvey
from tests.functional.cloud import MIB, Cloud, at_once
from tests.functional.rawupload import Upload
from tests.lab.faults import DOWN, HANGING, HEALTHY, Fault, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

HEALTHY_SITES = ("site-a", "site-b")
RETRY_MAX_SECONDS = 2
LONGEST_PAUSE = datetime.timedelta(seconds=RETRY_MAX_SECONDS * 1.2)
SLOW_BYTES_PER_SECOND = 100 << 10

UNDELETABLE = Fault(status=500, methods=("DELETE",))

# What the target does, and what the row says about it. Who sends while the connection is reset
# learns of it from the reset, or from the connection that is closed when he reads the answer.
FAULTS = {
    "down": (DOWN, "refused"),
    "hangs": (HANGING, "no answer for 2 s"),
    "hangs-half-way": (Fault(hang_after=MIB), "for 2 s"),
    "500": (Fault(status=500), "500"),
    "507-to-large-bodies": (Fault(status=507, status_over_bytes=1024), "507"),
    "cut": (Fault(cut_after=MIB), "reset|closed (the )?connection"),
}


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """Two healthy targets; `bad` notices soon that nothing moves, `patient` very late."""
    require(Nginx)
    directory = workdir("faults")
    targets = {
        "site-a": Nginx(directory / "site-a"),
        "site-b": Nginx(directory / "site-b"),
        "bad": FaultyTarget(Nginx(directory / "bad")),
        "patient": FaultyTarget(Nginx(directory / "patient")),
    }
    soon = {"stall_timeout_seconds": "2", "connect_timeout_seconds": "2"}
    retry = {"retry_initial_seconds": "0.2", "retry_max_seconds": str(RETRY_MAX_SECONDS)}
    with Cloud(
        directory,
        keystone,
        targets=targets,
        target_options={"bad": soon, "patient": {"stall_timeout_seconds": "120"}},
        options={"replication": retry},
    ) as cloud:
        yield cloud


@pytest.fixture
def bad(cloud):
    yield cloud.targets["bad"]
    cloud.targets["bad"].switch(HEALTHY)


@pytest.fixture
def patient(cloud):
    yield cloud.targets["patient"]
    cloud.targets["patient"].switch(HEALTHY)


def assert_complete(cloud, image_id, body):
    """The image is replicated, and the healthy targets got it at the first attempt."""
    cloud.assert_replicated(image_id, body)
    for name in HEALTHY_SITES:
        assert [status for _, status in cloud.puts(image_id, name)] == [201]


@pytest.mark.parametrize("name", FAULTS)
def test_target_that_fails_harms_no_other_and_catches_up(name, cloud, bad):
    fault, words = FAULTS[name]
    body = image_bytes(3 * MIB)
    bad.switch(fault)
    image_id = cloud.new_image(body)
    urls = cloud.wait_replicated(image_id, [*HEALTHY_SITES, "patient"])
    assert [cloud.object_bytes(*place) == body for place in urls.items()] == [True] * 3
    assert "bad" not in cloud.replica_urls(image_id)

    def tried_again():
        row = cloud.row(image_id, "bad")
        return row if row.status == "error" and row.attempts >= 2 else None

    row = wait_until(tried_again, 60, "two attempts have failed")
    assert re.search(words, row.error)
    assert row.next_attempt_at <= row.updated_at + LONGEST_PAUSE
    assert row.progress < 1
    assert cloud.image(image_id)["status"] == "active"

    bad.switch(HEALTHY)
    assert_complete(cloud, image_id, body)
    assert [status for _, status in cloud.puts(image_id, "bad")].count(201) == 1


def test_healthy_targets_are_locations_while_another_hangs(cloud, patient):
    bodies = [image_bytes(2 * MIB) for _ in range(8)]
    patient.switch(Fault(hang_after=MIB))
    image_ids = at_once(8, cloud.new_image, bodies)
    for image_id in image_ids:
        cloud.wait_replicated(image_id, [*HEALTHY_SITES, "bad"])
    for image_id in image_ids:
        row = cloud.row(image_id, "patient")
        assert (row.status, row.attempts, row.error) == ("uploading", 0, None)
    # A look at whether it is up, or at its marker, is another one, which may be kept for a while.
    one_for_each = range(len(image_ids), len(image_ids) + 2)
    wait_until(lambda: patient.open_connections in one_for_each, 60, "one connection for each")
    patient.switch(HEALTHY)
    for image_id, body in zip(image_ids, bodies, strict=True):
        assert_complete(cloud, image_id, body)


def test_slow_target_takes_its_time_and_needs_one_attempt(cloud, bad):
    body = image_bytes(MIB)
    bad.switch(Fault(bytes_per_second=SLOW_BYTES_PER_SECOND))
    started = time.monotonic()
    image_id = cloud.new_image(body)
    cloud.wait_replicated(image_id, [*HEALTHY_SITES, "patient"])
    assert bad.received_bytes < len(body)
    row = cloud.row(image_id, "bad")
    assert (row.status, row.attempts, row.error) == ("uploading", 0, None)
    assert_complete(cloud, image_id, body)
    assert time.monotonic() - started > len(body) / SLOW_BYTES_PER_SECOND * 0.9
    assert [status for _, status in cloud.puts(image_id, "bad")] == [201]


def test_server_that_wakes_up_with_old_requests_leaves_no_second_object(cloud, bad):
    """A stopped server has whole requests in its kernel's buffers, and serves them at last."""
    body = image_bytes(300_000)
    cloud.wait_settled()
    bad.server.signal(signal.SIGSTOP)
    try:
        image_id = cloud.new_image(body)
        cloud.wait_replicated(image_id, [*HEALTHY_SITES, "patient"])
        wait_until(lambda: cloud.row(image_id, "bad").attempts, 60, "an attempt has failed")
    finally:
        bad.server.signal(signal.SIGCONT)
    assert_complete(cloud, image_id, body)


def test_refused_upload_leaves_nothing_at_a_target_that_was_down_meanwhile(cloud, bad):
    image_id = cloud.create_image(disk_format="qcow2")
    bad.switch(Fault(hang_after=MIB))

    def wrong_format():
        yield image_bytes(2 * MIB)
        wait_until(lambda: bad.received_bytes >= MIB, 60, "a part is there")

    assert cloud.upload(image_id, wrong_format()).status_code == 415
    bad.switch(DOWN)
    wait_until(lambda: cloud.row(image_id, "bad").status == "deleting", 60, "to be deleted")
    wait_until(lambda: cloud.row(image_id, "bad").attempts > 0, 60, "a removal has failed")
    assert timeutils.utcnow() - cloud.row(image_id, "bad").updated_at < LONGEST_PAUSE * 5
    bad.switch(HEALTHY)
    cloud.assert_no_trace(image_id)


@pytest.mark.parametrize("fault", [DOWN, UNDELETABLE], ids=["down", "deletes nothing"])
def test_late_delete_of_an_upload_takes_nothing_from_the_next_one_of_the_image(cloud, bad, fault):
    """It comes when the object of the next one is already there, or comes, too."""
    image_id = cloud.create_image()
    bad.switch(Fault(hang_after=MIB))
    upload = Upload(cloud.glance, image_id, 3 * MIB, token=cloud.token())
    upload.send(image_bytes(2 * MIB))
    wait_until(lambda: bad.received_bytes >= MIB, 60, "a part is there")
    upload.leave()
    bad.switch(fault)
    wait_until(lambda: cloud.image(image_id)["status"] == "queued", 60, "Glance has given up")
    wait_until(lambda: cloud.row(image_id, "bad").status == "deleting", 60, "to be deleted")
    wait_until(lambda: cloud.row(image_id, "bad").attempts > 0, 60, "a removal has failed")
    broken_off = cloud.row(image_id, "bad")
    body = image_bytes(2 * MIB)
    assert cloud.upload(image_id, body).status_code == 204
    others = [name for name in cloud.targets if name != "bad"]
    cloud.wait_replicated(image_id, others if fault is DOWN else None)
    survey = ReplicaSurvey(schema.open_database(cloud.connection))

    def status_of_the_first():
        rows = survey.of_images([image_id])[image_id]
        return next(str(row.status) for row in rows if row.id == broken_off.id)

    assert status_of_the_first() == "deleting"
    bad.switch(HEALTHY)
    wait_until(lambda: status_of_the_first() == "deleted", 60, "what was broken off is removed")
    cloud.assert_replicated(image_id, body)


PROXIED = [
    (HEALTHY, 100_000, 201),
    (Fault(status=507), 100_000, 507),
    (Fault(status=507, status_over_bytes=1000), 100, 201),
    (Fault(bytes_per_second=1_000_000), 100_000, 201),
    (Fault(cut_after=50_000), 100_000, requests.ConnectionError),
    (Fault(hang_after=50_000), 100_000, requests.ReadTimeout),
    (HANGING, 100, requests.ReadTimeout),
    (DOWN, 100, requests.ConnectionError),
    (HEALTHY, 100, 201),
]


def test_proxy_does_what_its_faults_say(workdir, require):
    require(Nginx)
    with FaultyTarget(Nginx(workdir("proxied"))) as target:

        def put(number, count, timeout):
            url = f"{target.url}{number}"
            return requests.put(url, data=bytes(count), timeout=timeout).status_code

        for number, (fault, count, outcome) in enumerate(PROXIED):
            target.switch(fault)
            if isinstance(outcome, int):
                assert put(number, count, timeout=30) == outcome
            else:
                with pytest.raises(outcome):
                    put(number, count, timeout=1)
        written = [number for number, row in enumerate(PROXIED) if row[2] == 201]
        assert sorted(int(path.name) for path in target.root.iterdir()) == written
