# SPDX-License-Identifier: Apache-2.0
"""Ids in capitals: MariaDB finds an image whatever capitals one asks with, SQLite only its own."""

import uuid

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.functional.test_location_races import PATCH_TYPE
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

QUICK = {"reconcile_interval_seconds": "1", "orphan_interval_seconds": "1"}
BODY = image_bytes(MIB)


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require, mariadb):
    require(Nginx)
    directory = workdir("capitals")
    options = {"database": {"connection": mariadb.new_database()}, "replication": QUICK}
    targets = {name: Nginx(directory / name) for name in ("site-a", "site-b")}
    with Cloud(
        directory, keystone, targets=targets, options=options, connection=mariadb.new_database()
    ) as cloud:
        yield cloud


def assert_once(cloud, image_id):
    """See that each target has the image once, under Glance's own id, and keeps it so."""
    cloud.wait_replicated(image_id)
    cloud.wait_settled()
    # Enough for the reconciler to compare all images several times.
    later = cloud.new_image(b"another image")
    cloud.wait_replicated(later)
    names = {name for found in cloud.objects().values() for name in found}
    assert {len(found) for found in cloud.objects(image_id).values()} == {1}
    assert [name for name in names if name.lower().startswith(image_id.lower())]
    live = [row for row in cloud.rows() if row.image_id.lower() == image_id.lower()]
    open_rows = [row for row in live if row.status != "deleted"]
    assert {row.image_id for row in open_rows} == {image_id}
    assert len(open_rows) == len(cloud.targets)
    assert {str(row.status) for row in open_rows} == {"active"}
    assert len(cloud.locations(image_id)) == 1 + len(cloud.targets)


def test_upload_whose_path_has_capitals(cloud):
    image_id = cloud.create_image()
    assert cloud.upload(image_id.upper(), BODY).status_code == 204
    assert_once(cloud, image_id)
    answers = [
        cloud.request("GET", f"v2/images/{each}/replicas", user="admin").json()
        for each in (image_id, image_id.upper())
    ]
    assert answers[0] == answers[1]
    assert {each["image_id"] for each in answers[0]["replicas"]} == {image_id}


def test_image_that_has_capitals(cloud):
    image_id = cloud.create_image(id=str(uuid.uuid4()).upper())
    assert image_id == image_id.upper()
    assert cloud.upload(image_id, BODY).status_code == 204
    assert_once(cloud, image_id)


def test_upload_whose_path_lacks_capitals(cloud):
    image_id = cloud.create_image(id=str(uuid.uuid4()).upper())
    assert cloud.upload(image_id.lower(), BODY).status_code == 204
    assert_once(cloud, image_id)


@pytest.mark.parametrize("stored", [str.lower, str.upper])
def test_change_and_delete_whose_path_has_other_capitals(cloud, stored):
    image_id = cloud.create_image(id=stored(str(uuid.uuid4())))
    other = image_id.swapcase()
    cloud.upload(image_id, BODY)
    cloud.wait_replicated(image_id)
    change = [{"op": "replace", "path": "/name", "value": "another"}]
    answer = cloud.request("PATCH", f"v2/images/{other}", json=change, headers=PATCH_TYPE)
    assert answer.status_code == 200
    assert_once(cloud, image_id)
    assert cloud.request("DELETE", f"v2/images/{other}").status_code == 204
    wait_until(lambda: not cloud.objects(image_id), 60, "the objects are gone")
