# SPDX-License-Identifier: Apache-2.0
"""A target that is down loses its locations before it harms readers, and gets them back proven."""

import json
import threading

import pytest
import requests

from tests.functional.cloud import Cloud, at_once
from tests.lab.faults import DOWN, HANGING, HEALTHY, Fault, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

IMAGES = 6
BODY_BYTES = 200_000
FAULTS = {"down": DOWN, "hangs": HANGING, "503": Fault(status=503)}
SOON = {"probe_interval_seconds": "0.2", "withdraw_after_seconds": "1"}
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """Two targets; `bad` is asked first, as its locations come first. What is bad is repaired."""
    require(Nginx)
    directory = workdir("withdrawal")
    targets = {
        "bad": FaultyTarget(Nginx(directory / "bad")),
        "good": FaultyTarget(Nginx(directory / "good")),
    }
    short = {"stall_timeout_seconds": "2", "connect_timeout_seconds": "2"}
    with Cloud(
        directory,
        keystone,
        targets=targets,
        target_options={"bad": short},
        options={"replication": {**SOON, "retry_max_seconds": "2", "writer_grace_seconds": "5"}},
    ) as cloud:
        yield cloud


@pytest.fixture
def bad(cloud):
    yield cloud.targets["bad"]
    for target in cloud.targets.values():
        target.switch(HEALTHY)


@pytest.fixture
def images(cloud, bad):
    """Bodies by image, each replicated to both targets; they go at the end."""
    bodies = [image_bytes(BODY_BYTES) for _ in range(IMAGES)]
    image_ids = at_once(4, cloud.new_image, bodies)
    for image_id in image_ids:
        cloud.wait_replicated(image_id)
    yield dict(zip(image_ids, bodies, strict=True))
    bad.switch(HEALTHY)
    for image_id in image_ids:
        cloud.forget(image_id)


def wait_withdrawn(cloud, image_ids):
    for image_id in image_ids:
        wait_until(
            lambda each=image_id: set(cloud.replica_urls(each)) == {"good"}, 60, "withdrawn"
        )
        row = wait_until(
            lambda each=image_id: stored_row(cloud, each), 60, "the row says that it is withdrawn"
        )
        assert row.next_attempt_at is None
        assert row.error.startswith("withdrawn: ")


def stored_row(cloud, image_id):
    row = cloud.row(image_id, "bad")
    return row if row.status == "stored" else None


@pytest.mark.parametrize("fault", FAULTS)
def test_locations_of_a_bad_target_go_and_return(fault, cloud, bad, images):
    before = {image_id: cloud.image(image_id)["locations"] for image_id in images}
    bad.switch(FAULTS[fault])
    wait_withdrawn(cloud, images)
    for image_id, body in images.items():
        kept = [each for each in before[image_id] if not each["url"].startswith(bad.url)]
        assert cloud.image(image_id)["locations"] == kept
        name = cloud.row(image_id, "bad").object_name
        assert (bad.root / name).read_bytes() == body
    bad.switch(HEALTHY)
    for image_id in images:
        cloud.wait_replicated(image_id)
        after = cloud.image(image_id)["locations"]
        assert sorted(each["url"] for each in after) == sorted(
            each["url"] for each in before[image_id]
        )
        assert cloud.row(image_id, "bad").error is None
        assert len(cloud.puts(image_id, "bad")) == 1


def test_download_hangs_with_a_hanging_location_and_works_once_it_is_withdrawn(cloud, bad, images):
    image_id, body = next(iter(images.items()))
    cloud.glance.primary_path(image_id).unlink()
    urls = cloud.replica_urls(image_id)
    assert cloud.locations(image_id)[1:] == [urls["bad"], urls["good"]]
    bad.switch(HANGING)
    outcome = []

    def download():
        try:
            answer = cloud.request("GET", f"v2/images/{image_id}/file", timeout=PATIENCE_SECONDS)
            outcome.append(answer.content)
        except requests.RequestException as error:
            outcome.append(error)

    reader = threading.Thread(target=download)
    reader.start()
    wait_until(lambda: bad.open_connections, 60, "Glance has asked the bad target")
    wait_withdrawn(cloud, [image_id])
    assert not outcome, "the location hangs, so that who reads it waits"
    answer = cloud.request("GET", f"v2/images/{image_id}/file", timeout=PATIENCE_SECONDS)
    assert answer.content == body
    reader.join()
    bad.switch(HEALTHY)
    cloud.wait_replicated(image_id)


def test_only_proven_replicas_return_and_a_bad_one_is_repaired(cloud, bad, images):
    corrupt, missing, *others = images
    bad.switch(DOWN)
    wait_withdrawn(cloud, images)
    spoiled = bad.root / cloud.row(corrupt, "bad").object_name
    spoiled.write_bytes(b"x" + images[corrupt][1:])
    lost = bad.root / cloud.row(missing, "bad").object_name
    lost.unlink()
    bad.switch(HEALTHY)
    for image_id in others:
        cloud.wait_replicated(image_id)
        assert len(cloud.puts(image_id, "bad")) == 1
    for image_id, path in ((corrupt, spoiled), (missing, lost)):
        urls = cloud.wait_replicated(image_id)
        assert not urls["bad"].endswith(path.name)
        assert cloud.object_bytes("bad", urls["bad"]) == images[image_id]
        assert len(cloud.puts(image_id, "bad")) == 2
    wait_until(lambda: not spoiled.exists(), 60, "the corrupt object is deleted")


def test_withdrawal_goes_on_in_another_writer(cloud, bad, images):
    bad.switch(DOWN)
    wait_withdrawn(cloud, images)
    cloud.writer().kill()
    cloud.request("GET", "v2/images")
    cloud.writer()
    bad.switch(HEALTHY)
    for image_id in images:
        cloud.wait_replicated(image_id)


def test_last_location_stays(cloud, bad, images):
    image_id = next(iter(images))
    primary = [{"op": "remove", "path": "/locations/0"}]
    cloud.request(
        "PATCH",
        f"v2/images/{image_id}",
        user="admin",
        data=json.dumps(primary),
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
    ).raise_for_status()
    for target in cloud.targets.values():
        target.switch(DOWN)

    def notes():
        rows = cloud.rows(image_id)
        return sorted((str(row.status), (row.error or "").partition(":")[0]) for row in rows)

    one_of_two = [("active", "not withdrawn"), ("stored", "withdrawn")]
    wait_until(lambda: notes() == one_of_two, 60, "one stays and says why")
    assert len(cloud.locations(image_id)) == 1
    for target in cloud.targets.values():
        target.switch(HEALTHY)
    cloud.wait_replicated(image_id)
    wait_until(lambda: notes() == [("active", "")] * 2, 60, "the note is gone")
