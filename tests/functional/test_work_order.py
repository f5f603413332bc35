# SPDX-License-Identifier: Apache-2.0
"""What is most urgent comes first: asked-for replicas, then repairs, then the backfill."""

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.functional.test_manage import manage
from tests.functional.test_writer import Writer, upload_unseen
from tests.lab.images import image_bytes
from tests.lab.webservers import Nginx

OPTIONS = {"writer": "external", "repair_concurrency": "1"}
SITE = "site-a"


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """One target, and a writer that runs when a test says so and fetches one image at a time."""
    require(Nginx)
    directory = workdir("order")
    targets = {SITE: Nginx(directory / SITE)}
    with Cloud(directory, keystone, targets=targets, options={"replication": OPTIONS}) as cloud:
        yield cloud


def run(cloud, command, *arguments, status=0):
    """Run glance-repl-manage, which is to end with this exit status."""
    process = manage("--config-file", cloud.glance.config_file, command, *arguments)
    assert process.returncode == status, process.stdout + process.stderr


def ask_for(cloud, image_id):
    answer = cloud.request("PUT", f"v2/images/{image_id}/replicas/{SITE}")
    assert answer.status_code == 202, answer.text


def spoil(cloud, image_id):
    """Take a replica's object away, and have that found."""
    (cloud.targets[SITE].root / cloud.row(image_id, SITE).object_name).unlink()
    run(cloud, "verify", image_id, status=1)


def read_from_glance(cloud, image_ids):
    """These images in the order in which they were downloaded."""
    paths = [request.path for request in cloud.glance.requests() if request.method == "GET"]
    return [each for path in paths for each in image_ids if path.endswith(f"{each}/file")]


def test_urgent_replicas_are_fetched_first(cloud):
    """Whatever a replica was once made for, it is a repair when it has gone bad."""
    with Writer(cloud):
        pass
    body = image_bytes(MIB)
    repaired = [upload_unseen(cloud, body) for _ in range(2)]
    run(cloud, "backfill", "--target", SITE)
    ask_for(cloud, repaired[0])
    with Writer(cloud):
        for image_id in repaired:
            cloud.assert_replicated(image_id, body)
    assert read_from_glance(cloud, repaired) == repaired
    backfilled = [upload_unseen(cloud, body) for _ in range(2)]
    run(cloud, "backfill", "--target", SITE)
    for image_id in repaired:
        spoil(cloud, image_id)
    asked_for = [upload_unseen(cloud, body) for _ in range(2)]
    for image_id in asked_for:
        ask_for(cloud, image_id)
    images = [*asked_for, *repaired, *backfilled]
    with Writer(cloud):
        for image_id in images:
            cloud.assert_replicated(image_id, body)
    assert read_from_glance(cloud, images)[len(repaired) :] == images
