# SPDX-License-Identifier: Apache-2.0
"""Images that come through Glance's import, by each of its methods and with its plugins on."""

import gzip

import pytest

from tests.functional.cloud import MIB, Cloud, three_targets
from tests.lab.glance import Glance
from tests.lab.images import image_bytes
from tests.lab.process import HOST, wait_until
from tests.lab.qemu import QemuImg
from tests.lab.webservers import Nginx

REMOTE_REGION = "RegionTwo"
QUICK = {
    "reconcile_interval_seconds": "1",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
}


@pytest.fixture(scope="module")
def origin(workdir, require):
    """A web server with files for web-download."""
    require(Nginx)
    with Nginx(workdir("origin")) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def remote(keystone, workdir):
    """The Glance of another region, without the filter."""
    with Glance(workdir("remote"), keystone) as glance:
        keystone.add_service("image", glance.url.rstrip("/"), REMOTE_REGION)
        yield glance


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require, origin, remote):
    require(QemuImg)
    directory = workdir("imports")
    targets = three_targets(directory)
    ports = [80, 443, *(server.port for server in (origin, remote, *targets.values()))]
    options = {
        "DEFAULT": {"enabled_import_methods": "[glance-direct,web-download,glance-download]"},
        "image_import_opts": {
            "image_import_plugins": "[image_decompression,image_conversion]",
        },
        "image_conversion": {"output_format": "raw"},
        "import_filtering_opts": {
            "allowed_hosts": f"[{HOST}]",
            "allowed_schemes": "[http]",
            "allowed_ports": f"[{','.join(map(str, ports))}]",
        },
        "replication": QUICK,
    }
    with Cloud(directory, keystone, targets=targets, options=options) as cloud:
        yield cloud


def stage(cloud, image_id, body):
    headers = {"Content-Type": "application/octet-stream"}
    answer = cloud.request("PUT", f"v2/images/{image_id}/stage", data=body, headers=headers)
    assert answer.status_code == 204, answer.text


def begin_import(cloud, image_id, **method):
    answer = cloud.request("POST", f"v2/images/{image_id}/import", json={"method": method})
    assert answer.status_code == 202, answer.text


def wait_active(cloud, image_id):
    wait_until(lambda: cloud.image(image_id)["status"] == "active", 60, "the import has ended")


def test_staged_bytes_are_kept_and_used(cloud):
    body = image_bytes(3 * MIB)
    image_id = cloud.create_image()
    stage(cloud, image_id, body)
    assert cloud.spool_files()
    begin_import(cloud, image_id, name="glance-direct")
    cloud.assert_replicated(image_id, body)
    assert cloud.downloads(image_id) == []


def test_staged_bytes_that_glance_decompresses_are_read_from_it(cloud):
    body = image_bytes(2 * MIB)
    image_id = cloud.create_image()
    stage(cloud, image_id, gzip.compress(body, compresslevel=1))
    begin_import(cloud, image_id, name="glance-direct")
    cloud.assert_replicated(image_id, body)
    assert len(cloud.downloads(image_id)) == 1


def test_staged_bytes_that_glance_converts_are_read_from_it(cloud, workdir):
    body = image_bytes(2 * MIB)
    image_id = cloud.create_image(disk_format="qcow2")
    stage(cloud, image_id, QemuImg.qcow2(body, workdir("qcow2")))
    begin_import(cloud, image_id, name="glance-direct")
    cloud.assert_replicated(image_id, body)
    assert cloud.image(image_id)["disk_format"] == "raw"
    assert len(cloud.downloads(image_id)) == 1


def test_staged_bytes_of_an_image_that_is_deleted_are_dropped(cloud):
    image_id = cloud.create_image()
    stage(cloud, image_id, image_bytes(MIB))
    assert cloud.request("DELETE", f"v2/images/{image_id}").status_code == 204
    wait_until(lambda: not cloud.spool_files(), 60, "the spool is empty")
    assert not cloud.objects(image_id)


def test_web_download(cloud, origin):
    body = image_bytes(2 * MIB)
    (origin.root / "image.raw").write_bytes(body)
    image_id = cloud.create_image()
    begin_import(cloud, image_id, name="web-download", uri=f"{origin.url}image.raw")
    wait_active(cloud, image_id)
    cloud.assert_replicated(image_id, body)
    assert len(cloud.downloads(image_id)) == 1


def test_glance_download(cloud, remote):
    body = image_bytes(2 * MIB)
    remote_id = cloud.create_image(glance=remote)
    assert cloud.upload(remote_id, body, glance=remote).status_code == 204
    image_id = cloud.create_image()
    begin_import(
        cloud,
        image_id,
        name="glance-download",
        glance_region=REMOTE_REGION,
        glance_image_id=remote_id,
        glance_service_interface="public",
    )
    wait_active(cloud, image_id)
    cloud.assert_replicated(image_id, body)
    assert len(cloud.downloads(image_id)) == 1
