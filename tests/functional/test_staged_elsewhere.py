# SPDX-License-Identifier: Apache-2.0
"""Nodes with a coordinator and staging areas of their own: no request waits for its own lock."""

import threading
import uuid
import zlib

import pytest

from tests.functional.cluster import Cluster
from tests.functional.test_location_races import PATCH_TYPE
from tests.lab.coordinators import Etcd, Redis
from tests.lab.faults import HANGING, HEALTHY, FaultyTarget
from tests.lab.webservers import Nginx

BODY = b"some bytes of an image"
DATA = {"Content-Type": "application/octet-stream"}
IMPORT = {"method": {"name": "glance-direct"}}
WITHOUT_LOCK = "is changed although another change has not ended"


@pytest.fixture(scope="module", params=[Redis, Etcd], ids=["redis", "etcd"])
def cluster(request, keystone, workdir, require, mariadb):
    require(Nginx)
    require(request.param)
    directory = workdir("staging-apart")
    keystone.add_user("bob", "lab-bob-password", "bob", ("member",))
    targets = {name: Nginx(directory / name) for name in ("site-a", "site-b")}
    targets["site-b"] = FaultyTarget(targets["site-b"])
    with (
        request.param(workdir("coordinator"), "coordinator") as coordinator,
        Cluster(
            directory,
            keystone,
            coordinator_urls=[coordinator.url] * 2,
            targets=targets,
            connection=mariadb.new_database(),
            options={"database": {"connection": mariadb.new_database()}},
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def staged_id(cluster):
    """An image that the first node has staged."""
    image_id = cluster.create_image()
    path = f"v2/images/{image_id}/stage"
    assert cluster.request("PUT", path, data=BODY, headers=DATA).status_code == 204
    return image_id


def waits_for_locks(cluster):
    return sum(node.log.read_text(errors="replace").count(WITHOUT_LOCK) for node in cluster.nodes)


def proxied(cluster):
    return cluster.nodes[1].log.read_text(errors="replace").count("which has image")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_what_another_node_has_staged_is_changed_at_once(cluster, staged_id, method):
    waits, asked = waits_for_locks(cluster), proxied(cluster)
    path = f"v2/images/{staged_id}" + ("/import" if method == "POST" else "")
    body = {"json": IMPORT} if method == "POST" else {}
    answer = cluster.request(method, path, glance=cluster.nodes[1], **body)
    assert answer.status_code in (202, 204), answer.text
    assert proxied(cluster) == asked + 1, "the test is of no use"
    assert waits_for_locks(cluster) == waits
    if method == "POST":
        cluster.wait_replicated(staged_id)


RENAMING = [{"op": "replace", "path": "/name", "value": "another"}]


def patch(cluster, image_id, changes, user="alice", glance=None):
    sent = {"json": changes, "headers": PATCH_TYPE, "user": user, "glance": glance}
    return cluster.request("PATCH", f"v2/images/{image_id}", **sent)


def collides(image_id, other):
    """Whether the two had one lock when there were 1024 of them."""
    return zlib.crc32(image_id.encode()) % 1024 == zlib.crc32(other.encode()) % 1024


def test_a_change_that_hangs_holds_up_nobody_else(cluster):
    """Glance asks the server of a location, which is silent, before it answers."""
    victim = cluster.create_image(visibility="community")
    ids = (str(uuid.uuid4()) for _ in iter(int, 1))
    chosen = next(each for each in ids if collides(each, victim))
    mine = cluster.create_image(user="bob", id=chosen)
    for image_id, user in ((victim, "alice"), (mine, "bob")):
        assert cluster.upload(image_id, BODY, user=user).status_code == 204
        cluster.wait_replicated(image_id)
    site = cluster.targets["site-b"]
    waits = waits_for_locks(cluster)
    value = {"url": f"{site.url}nothing", "metadata": {}}
    addition = [{"op": "add", "path": "/locations/-", "value": value}]
    site.switch(HANGING)
    hanging = threading.Thread(target=patch, args=(cluster, mine, addition, "bob"))
    hanging.start()
    try:
        # A stranger is refused before Glance asks the server.
        assert patch(cluster, victim, addition, "bob").status_code == 403
        for node in cluster.nodes:
            assert patch(cluster, victim, RENAMING, glance=node).status_code == 200
            assert patch(cluster, victim, RENAMING, glance=node).status_code == 200
        assert hanging.is_alive(), "the test is of no use"
        assert waits_for_locks(cluster) == waits
    finally:
        site.switch(HEALTHY)
        hanging.join()
