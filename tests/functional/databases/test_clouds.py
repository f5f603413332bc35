# SPDX-License-Identifier: Apache-2.0
"""A whole cloud whose replicas' database is on a server."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.functional.test_target_faults import QUICK
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

UPLOADS = 12


@pytest.fixture(scope="module")
def cloud(server, keystone, workdir, require):
    require(Nginx)
    directory = workdir("database-cloud")
    targets = {name: Nginx(directory / name) for name in ("site-a", "site-b")}
    options = {"replication": QUICK}
    with Cloud(
        directory, keystone, targets=targets, options=options, connection=server.new_database()
    ) as cloud:
        yield cloud


def test_upload_and_delete(cloud):
    body = image_bytes(MIB)
    image_id = cloud.new_image(body)
    for target, url in cloud.wait_replicated(image_id).items():
        assert cloud.object_bytes(target, url) == body
    answer = cloud.request("GET", f"v2/images/{image_id}/replicas")
    assert [replica["status"] for replica in answer.json()["replicas"]] == ["active", "active"]
    assert cloud.request("DELETE", f"v2/images/{image_id}").status_code == 204
    wait_until(lambda: not cloud.objects(image_id), 60, "the objects are gone")
    wait_until(
        lambda: set(cloud.statuses(image_id).values()) == {"deleted"}, 60, "rows are closed"
    )


def test_uploads_while_the_database_restarts(cloud, server):
    cloud.wait_replicated(cloud.new_image(b"first"))
    writer = cloud.writer().pid
    bodies = [image_bytes(100_000 + number) for number in range(UPLOADS)]
    with ThreadPoolExecutor(3) as pool:
        uploading = [pool.submit(cloud.new_image, body) for body in bodies]
        wait_until(lambda: sum(each.done() for each in uploading) > 2, 60, "some are uploaded")
        server.kill()
        image_ids = [each.result() for each in uploading]
        server.start()
    for image_id, body in zip(image_ids, bodies, strict=True):
        for target, url in cloud.wait_replicated(image_id).items():
            assert cloud.object_bytes(target, url) == body
    cloud.wait_settled()
    for image_id in image_ids:
        assert {name: len(found) for name, found in cloud.objects(image_id).items()} == {
            "site-a": 1,
            "site-b": 1,
        }
    assert cloud.writer().pid == writer
