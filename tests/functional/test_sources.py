# SPDX-License-Identifier: Apache-2.0
"""Who is read for a repair and is wrong or slow holds up no other image."""

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.functional.test_reconciler import mark_broken
from tests.functional.test_staging import stage
from tests.lab.faults import HEALTHY, Fault, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.slowserver import SlowServer
from tests.lab.webservers import Nginx

QUOTA_BYTES = 12 * MIB
WRITER_GRACE_SECONDS = 10
QUICK = {
    "reconcile_interval_seconds": "1",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
    "spool_max_bytes": str(QUOTA_BYTES),
    "writer_grace_seconds": str(WRITER_GRACE_SECONDS),
    # Nothing but the feeder reads whole replicas.
    "scrub_bytes_per_second": "0",
}
FLOOD = Fault(dripping=(64 * 1024, 0.0))
DRIP = Fault(dripping=(1, 2.0))
BODY = image_bytes(200_000)
OTHERS_SECONDS = 90
MALLORY, ALICE = "admin", "alice"


@pytest.fixture(scope="module")
def slow_server():
    with SlowServer(3 * MIB) as server:
        yield server


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require, slow_server):
    """Two targets, of which the test rules one; and a server of a user's own."""
    require(Nginx)
    directory = workdir("sources")
    targets = {
        "bad": FaultyTarget(Nginx(directory / "bad")),
        "site-b": Nginx(directory / "site-b"),
    }
    options = {"replication": QUICK}
    cloud = Cloud(directory, keystone, targets=targets, options=options, processes=4)
    cloud.glance.target_ports = [*cloud.glance.target_ports, slow_server.port]
    with cloud:
        yield cloud


@pytest.fixture(autouse=True)
def healed(cloud):
    yield
    cloud.targets["bad"].switch(HEALTHY)


def to_be_repaired(cloud, number=1):
    """So many images that are at both targets, and are to be repaired at one of them."""
    image_ids = [cloud.new_image(BODY) for _ in range(number)]
    for image_id in image_ids:
        cloud.wait_replicated(image_id)
    cloud.wait_settled()
    return image_ids


def wait_repaired(cloud, image_id):
    """Wait until the image has another object at the target."""
    old = cloud.row(image_id, "site-b").object_name

    def is_repaired():
        row = cloud.row(image_id, "site-b")
        return row.status == "active" and row.object_name != old

    return is_repaired


def repair(cloud, image_ids):
    """Have the images repaired, and wait until they are."""
    waits = [wait_repaired(cloud, image_id) for image_id in image_ids]
    for image_id in image_ids:
        mark_broken(cloud, image_id, "site-b")
    for is_repaired in waits:
        wait_until(is_repaired, OTHERS_SECONDS, "it is repaired")


def test_replica_without_end_is_no_source_and_is_found_out(cloud):
    (image_id,) = to_be_repaired(cloud)
    bad = cloud.row(image_id, "bad").object_name
    cloud.targets["bad"].switch(FLOOD)
    repair(cloud, [image_id])
    assert len(cloud.downloads(image_id)) == 1
    # Its own repair may be over before anybody sees it in `error`: writes go well all the time.
    wait_until(lambda: cloud.row(image_id, "bad").object_name != bad, 60, "it is found out")
    cloud.targets["bad"].switch(HEALTHY)
    cloud.assert_replicated(image_id, BODY)


def test_replicas_that_drip_hold_up_no_repair(cloud):
    """They are all read from there first, which is why the old code repaired none of them."""
    first, *others = to_be_repaired(cloud, 6)
    cloud.targets["bad"].switch(DRIP)
    mark_broken(cloud, first, "site-b")
    wait_until(lambda: cloud.targets["bad"].open_connections, 60, "it is read")
    repair(cloud, others[2:])
    cloud.targets["bad"].switch(HEALTHY)
    for image_id in (first, *others):
        cloud.assert_replicated(image_id, BODY)


def test_slow_server_of_a_user_holds_up_nobody_elses_repair(cloud, slow_server):
    alices = to_be_repaired(cloud, 2)
    slow = [cloud.create_image(user=MALLORY) for _ in range(6)]
    for image_id in slow:
        value = {"url": f"{slow_server.url}{image_id}", "metadata": {}}
        answer = cloud.request(
            "PATCH",
            f"v2/images/{image_id}",
            json=[{"op": "add", "path": "/locations/-", "value": value}],
            headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
            user=MALLORY,
        )
        answer.raise_for_status()
    try:
        wait_until(lambda: len(slow_server.begun) > 1, 60, "two of the slow ones are read")
        repair(cloud, alices)
        body = image_bytes(QUOTA_BYTES)
        large = cloud.new_image(body)
        assert set(cloud.wait_replicated(large)) == set(cloud.targets)
        writer = cloud.writer()
        writer.terminate()
        writer.wait(WRITER_GRACE_SECONDS + 20)
    finally:
        for image_id in slow:
            cloud.request("DELETE", f"v2/images/{image_id}", user=MALLORY)


def test_staged_images_that_nobody_imports_leave_room_for_a_repair(cloud):
    body = image_bytes(4 * MIB)
    image_id = cloud.new_image(body)
    cloud.wait_replicated(image_id)
    cloud.wait_settled()
    for _ in range(3):
        assert stage(cloud, cloud.create_image(), image_bytes(3 * MIB)).status_code == 204
    repair(cloud, [image_id])
    assert cloud.row(image_id, "site-b").attempts == 0
    cloud.wait_replicated(image_id)
