# SPDX-License-Identifier: Apache-2.0
"""Whatever becomes of an image or of a replica, the others follow."""

import sqlite3
import time
import uuid

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

QUICK = {
    "reconcile_interval_seconds": "1",
    "missing_image_delay_seconds": "1",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
    "probe_interval_seconds": "0.3",
}
DELAY_SECONDS = 8
SITES = ("site-a", "site-b", "site-c")


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """Its targets can be listed, and orphans are looked for all the time."""
    require(Nginx)
    directory = workdir("reconciler")
    targets = {name: Nginx(directory / name, autoindex=True) for name in SITES}
    options = {"replication": {**QUICK, "orphan_interval_seconds": "1"}}
    with Cloud(directory, keystone, targets=targets, options=options) as cloud:
        yield cloud


def test_images_that_are_older_than_the_installation(keystone, workdir, require):
    require(Nginx)
    directory = workdir("older")
    bodies = {}
    cloud = Cloud(directory, keystone, options={"replication": QUICK})
    filters, cloud.glance.paste_filters = cloud.glance.paste_filters, {}
    with cloud:
        for number in range(3):
            body = image_bytes(MIB + number)
            bodies[cloud.new_image(body)] = body
        hidden = cloud.new_image(b"hidden image")
        bodies[hidden] = b"hidden image"
        change = [{"op": "replace", "path": "/os_hidden", "value": True}]
        media = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        answer = cloud.request("PATCH", f"v2/images/{hidden}", json=change, headers=media)
        assert answer.status_code == 200, answer.text
        cloud.glance.paste_filters = filters
        cloud.glance.write_config()
        cloud.glance.reload()
        cloud.image(hidden)
        for image_id, body in bodies.items():
            cloud.assert_replicated(image_id, body)
            assert len(cloud.downloads(image_id)) == 1


def test_a_lost_replica_is_repaired_from_another_one(cloud):
    body = image_bytes(2 * MIB)
    image_id = cloud.new_image(body)
    urls = cloud.wait_replicated(image_id)
    cloud.wait_settled()
    mark_broken(cloud, image_id, "site-b")
    wait_until(
        lambda: cloud.replica_urls(image_id).get("site-b") not in (None, urls["site-b"]),
        60,
        "site-b has another object",
    )
    change_location(cloud, image_id, urls["site-b"])
    cloud.assert_replicated(image_id, body)
    assert cloud.downloads(image_id) == []


def mark_broken(cloud, image_id, target):
    """Let a replica seem to be broken, as a verification does, but for its location."""
    with sqlite3.connect(cloud.directory / "replication.sqlite") as database:
        database.execute(
            "UPDATE replicas SET status = 'error', former_objects = object_name, "
            "next_attempt_at = '2020-01-01 00:00:00' WHERE image_id = ? AND target = ?",
            (image_id, target),
        )


def change_location(cloud, image_id, gone):
    """Remove a location as anybody may who has the right."""
    urls = cloud.locations(image_id)
    if gone not in urls:
        return
    change = {"op": "remove", "path": f"/locations/{urls.index(gone)}"}
    answer = patch(cloud, image_id, change)
    assert answer.status_code == 200, answer.text


def patch(cloud, image_id, change):
    """Send one change of an image as the administrator; returns Glance's answer."""
    media = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    path = f"v2/images/{image_id}"
    return cloud.request("PATCH", path, json=[change], headers=media, user="admin")


def test_a_removed_location_comes_back(cloud):
    body = image_bytes(MIB)
    image_id = cloud.new_image(body)
    urls = cloud.wait_replicated(image_id)
    cloud.wait_settled()
    change_location(cloud, image_id, urls["site-a"])
    wait_until(
        lambda: cloud.replica_urls(image_id).get("site-a") == urls["site-a"], 60, "it is back"
    )
    cloud.assert_replicated(image_id, body)
    assert len(cloud.puts(image_id, "site-a")) == 1


def test_a_location_that_is_removed_together_with_its_object(cloud):
    body = image_bytes(MIB)
    image_id = cloud.new_image(body)
    urls = cloud.wait_replicated(image_id)
    cloud.wait_settled()
    (cloud.targets["site-a"].root / urls["site-a"].rpartition("/")[2]).unlink()
    change_location(cloud, image_id, urls["site-a"])
    wait_until(
        lambda: cloud.replica_urls(image_id).get("site-a") not in (None, urls["site-a"]),
        60,
        "it is made anew",
    )
    cloud.assert_replicated(image_id, body)


def test_the_objects_of_a_deleted_image_go(cloud):
    image_id = cloud.new_image(image_bytes(MIB))
    cloud.wait_replicated(image_id)
    cloud.wait_settled()
    assert cloud.request("DELETE", f"v2/images/{image_id}").status_code == 204
    wait_until(lambda: not cloud.objects(image_id), 60, "no object is left")
    cloud.assert_no_trace(image_id)


def test_the_objects_of_an_image_that_vanished_from_the_database_go(cloud):
    image_id = cloud.new_image(image_bytes(MIB))
    cloud.wait_replicated(image_id)
    cloud.wait_settled()
    with sqlite3.connect(cloud.glance.directory / "glance.sqlite", timeout=60) as database:
        database.execute("UPDATE images SET deleted = 1 WHERE id = ?", (image_id,))
    wait_until(lambda: not cloud.objects(image_id), 60, "no object is left")
    cloud.assert_no_trace(image_id)


def test_the_object_at_a_target_that_is_down_goes_later(cloud):
    image_id = cloud.new_image(image_bytes(MIB))
    cloud.wait_replicated(image_id)
    cloud.wait_settled()
    site = cloud.targets["site-c"]
    site.stop()
    assert cloud.request("DELETE", f"v2/images/{image_id}").status_code == 204
    wait_until(lambda: list(cloud.objects(image_id)) == ["site-c"], 60, "the others' objects go")
    site.start()
    wait_until(lambda: not cloud.objects(image_id), 60, "no object is left")
    cloud.assert_no_trace(image_id)


def test_a_deleted_database_of_replicas_is_made_up_for(cloud):
    body = image_bytes(MIB)
    image_id = cloud.new_image(body)
    urls = cloud.wait_replicated(image_id)
    cloud.wait_settled()
    with sqlite3.connect(cloud.directory / "replication.sqlite", timeout=60) as database:
        database.execute("DELETE FROM replicas")
    assert cloud.wait_replicated(image_id) == urls
    cloud.assert_replicated(image_id, body)
    assert len(cloud.puts(image_id, "site-a")) == 1


def test_a_second_location_of_ours_that_no_row_knows_goes_with_its_object(cloud):
    body = image_bytes(MIB)
    image_id = cloud.new_image(body)
    urls = cloud.wait_replicated(image_id)
    cloud.wait_settled()
    name = f"{image_id}.{uuid.uuid4().hex}.1"
    second = f"{cloud.targets['site-a'].url}{name}"
    addition = {"op": "add", "path": "/locations/-", "value": {"url": second, "metadata": {}}}

    def add():
        # The object alone is an orphan, which may be gone before Glance looks at it.
        (cloud.targets["site-a"].root / name).write_bytes(body)
        return patch(cloud, image_id, addition).status_code == 200

    wait_until(add, 60, "there is a second location")
    wait_until(lambda: second not in cloud.locations(image_id), 60, "it goes")
    wait_until(lambda: name not in cloud.objects(image_id)["site-a"], 60, "its object goes")
    assert cloud.replica_urls(image_id) == urls
    cloud.assert_replicated(image_id, body)
    assert len(cloud.puts(image_id, "site-a")) == 1


@pytest.fixture(scope="module")
def strict(keystone, workdir, require):
    """Deleted images can be restored for a while, and removed locations do not come back."""
    require(Nginx)
    options = {
        "DEFAULT": {"delayed_delete": "True", "scrub_time": str(DELAY_SECONDS)},
        "replication": {**QUICK, "heal_removed_locations": "False"},
    }
    with Cloud(workdir("strict"), keystone, options=options) as cloud:
        yield cloud


@pytest.mark.parametrize("restored", [True, False])
def test_a_deleted_image_that_can_be_restored_keeps_its_replicas(restored, strict):
    image_id = strict.new_image(image_bytes(MIB))
    urls = strict.wait_replicated(image_id)
    strict.wait_settled()
    deleted_at = time.monotonic()
    assert strict.request("DELETE", f"v2/images/{image_id}").status_code == 204
    wait_until(lambda: strict.row(image_id, "site-a").error, 60, "the deletion is noticed")
    if restored:
        with sqlite3.connect(strict.glance.directory / "glance.sqlite", timeout=60) as database:
            database.execute(
                "UPDATE images SET deleted = 0, status = 'active' WHERE id = ?", (image_id,)
            )
            database.execute(
                "UPDATE image_locations SET deleted = 0, status = 'active' WHERE image_id = ?",
                (image_id,),
            )
        wait_until(lambda: not strict.row(image_id, "site-a").error, 60, "it is back")
        assert strict.wait_replicated(image_id) == urls
        assert all(len(names) == 1 for names in strict.objects(image_id).values())
    else:
        wait_until(lambda: not strict.objects(image_id), 60, "no object is left")
        assert time.monotonic() - deleted_at > DELAY_SECONDS


def test_the_wish_of_who_removed_a_location_is_respected(strict):
    image_id = strict.new_image(image_bytes(MIB))
    urls = strict.wait_replicated(image_id)
    strict.wait_settled()
    change_location(strict, image_id, urls["site-b"])
    wait_until(lambda: "site-b" not in strict.objects(image_id), 60, "its object goes")
    # Later comparisons have found another image, and let this one be.
    other = strict.new_image(image_bytes(MIB))
    strict.wait_replicated(other)
    strict.wait_settled()
    assert set(strict.replica_urls(image_id)) == {"site-a", "site-c"}
    assert strict.statuses(image_id)["site-b"] == "deleted"
