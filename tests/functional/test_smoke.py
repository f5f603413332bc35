# SPDX-License-Identifier: Apache-2.0
"""The main things on real servers, in short: what ``tools/test --smoke`` runs."""

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

QUICK = {
    "reconcile_interval_seconds": "1",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
    "probe_interval_seconds": "0.3",
}
BODY = image_bytes(3 * MIB + 1)


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    require(Nginx)
    with Cloud(workdir("smoke"), keystone, options={"replication": QUICK}) as running:
        yield running


def replicas(cloud, image_id):
    """What the REST API tells the owner: the status by target."""
    answer = cloud.request("GET", f"v2/images/{image_id}/replicas")
    answer.raise_for_status()
    return {each["target"]: each["status"] for each in answer.json()["replicas"]}


def test_upload_is_at_every_target_and_its_bits_were_read_once(cloud):
    image_id = cloud.new_image(BODY)
    cloud.assert_replicated(image_id, BODY)
    assert cloud.downloads(image_id) == []
    assert replicas(cloud, image_id) == dict.fromkeys(cloud.targets, "active")


def test_refused_upload_leaves_nothing(cloud):
    image_id = cloud.create_image()
    answer = cloud.upload(image_id, BODY, announce=len(BODY) - 1)
    assert answer.status_code == 400, answer.text
    cloud.assert_no_trace(image_id)


def test_deleted_image_takes_its_objects_along(cloud):
    image_id = cloud.new_image(BODY)
    cloud.wait_replicated(image_id)
    cloud.request("DELETE", f"v2/images/{image_id}").raise_for_status()
    cloud.assert_no_trace(image_id)
    assert cloud.request("GET", f"v2/images/{image_id}/replicas").status_code == 404


def test_dead_target_holds_up_nobody_and_is_served_when_it_is_back(cloud):
    dead, *living = cloud.targets
    cloud.targets[dead].stop()
    try:
        image_id = cloud.new_image(BODY)
        assert set(cloud.wait_replicated(image_id, living)) == set(living)
        wait_until(lambda: replicas(cloud, image_id).get(dead) == "error", 60, "its replica fails")
    finally:
        cloud.targets[dead].start()
    cloud.assert_replicated(image_id, BODY)


def test_replica_is_deleted_and_asked_for_again_by_rest(cloud):
    image_id = cloud.new_image(BODY)
    cloud.wait_replicated(image_id)
    cloud.wait_settled()
    target = next(iter(cloud.targets))
    path = f"v2/images/{image_id}/replicas/{target}"
    cloud.request("DELETE", path, user="admin").raise_for_status()
    wait_until(lambda: target not in cloud.objects(image_id), 60, "its object goes")
    cloud.request("PUT", path, user="admin").raise_for_status()
    shown = cloud.request("GET", path, params={"wait": 60}).json()
    assert shown["status"] == "active", shown
    cloud.assert_replicated(image_id, BODY)
