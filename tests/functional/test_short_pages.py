# SPDX-License-Identifier: Apache-2.0
"""A Glance that shows fewer images at once than it is asked for."""

import json

import pytest

from tests.functional.cloud import Cloud, at_once
from tests.functional.test_manage import manage
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

SITE = "site-a"
IMAGES = 32
MOST = 10
SIZE = 10_000
WAIT_SECONDS = 120
OPTIONS = {
    "DEFAULT": {"api_limit_max": str(MOST), "limit_param_default": "5"},
    "replication": {
        "reconcile_interval_seconds": "1",
        "retry_initial_seconds": "0.2",
        "retry_max_seconds": "1",
        "missing_images_percent": "10",
    },
}


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    require(Nginx)
    directory = workdir("short-pages")
    targets = {SITE: Nginx(directory / SITE, autoindex=True)}
    with Cloud(directory, keystone, targets=targets, options=OPTIONS) as running:
        yield running


@pytest.fixture(scope="module")
def images(cloud):
    image_ids = at_once(4, cloud.new_image, [image_bytes(SIZE) for _ in range(IMAGES)])
    for image_id in image_ids:
        cloud.wait_replicated(image_id)
    return image_ids


def verified(cloud, *arguments):
    """The verdicts of `verify` by image."""
    config = cloud.glance.config_file
    process = manage("--config-file", config, "verify", *arguments, "--format", "json")
    assert process.stderr == ""
    return {line["image_id"]: line["verdict"] for line in json.loads(process.stdout)}


def test_no_image_is_missing_beyond_the_page(cloud, images):
    def all_are_good():
        return verified(cloud) == dict.fromkeys(images, "good")

    # Replicas are not verified while they have just been made.
    wait_until(all_are_good, WAIT_SECONDS, "every replica is found good")
    assert "are missing in Glance" not in cloud.glance.log.read_text()
    assert {str(row.status) for row in cloud.rows()} == {"active"}


def test_orphans_are_told_from_the_objects_of_all_images(cloud, images):
    config = cloud.glance.config_file
    process = manage("--config-file", config, "verify", "--orphans")
    assert (process.returncode, process.stderr) == (0, ""), process.stdout


def test_delete_is_seen_among_many(cloud, images):
    image_id = images[-1]
    cloud.request("DELETE", f"v2/images/{image_id}").raise_for_status()
    wait_until(
        lambda: cloud.statuses(image_id) == {SITE: "deleted"}, WAIT_SECONDS, "the replica goes"
    )
    wait_until(lambda: not cloud.objects(image_id), WAIT_SECONDS, "its object goes")


def test_backfill_looks_at_all_images(cloud, images):
    config = cloud.glance.config_file
    process = manage("--config-file", config, "backfill", "--target", SITE, "--dry-run")
    assert process.returncode == 0, process.stderr
    assert "lacks: 0;" in process.stdout
