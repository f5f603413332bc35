# SPDX-License-Identifier: Apache-2.0
"""Replicas that are asked for, deleted and filled at two nodes of one database and one site."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from glance_repl_mw.db import schema
from glance_repl_mw.db.survey import ReplicaSurvey
from tests.functional.cloud import MIB, at_once
from tests.functional.cluster import Cluster
from tests.functional.test_location_races import PATCH_TYPE
from tests.functional.test_manage import manage
from tests.lab.faults import HEALTHY, Fault, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

EAGER, LAZY = "site-a", "site-b"
# More than the sockets on the way hold.
LARGE_BYTES = 12 * MIB
HALF_WAY = Fault(hang_after=MIB)
# By chance a node gets the work of each second image.
TRIES = 30
ROUNDS = 4
OLDER = 30
OPTIONS = {
    "local_target": LAZY,
    "api_wait_max_seconds": "120",
    "reconcile_interval_seconds": "2",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
    "scrub_bytes_per_second": "0",
}


@pytest.fixture(scope="module")
def cluster(keystone, workdir, require, redis, mariadb):
    """Whole images that are downloaded at either node fill site-b."""
    require(Nginx)
    directory = workdir("replicas-at-nodes")
    targets = {
        EAGER: Nginx(directory / EAGER),
        LAZY: FaultyTarget(Nginx(directory / LAZY)),
    }
    with Cluster(
        directory,
        keystone,
        coordinator_urls=[redis.url, redis.url],
        targets=targets,
        target_options={LAZY: {"mode": "lazy"}},
        options={"replication": OPTIONS},
        connection=mariadb.new_database(),
    ) as cluster:
        yield cluster


@pytest.fixture
def site(cluster):
    """A target that can be held."""
    yield cluster.targets[LAZY]
    cluster.targets[LAZY].switch(HEALTHY)


def new_image(cluster, body, node):
    """An image that was uploaded at the node, and that site-b lacks."""
    image_id = cluster.new_image(body, glance=cluster.nodes[node])
    cluster.wait_replicated(image_id, [EAGER])
    cluster.wait_settled()
    return image_id


def ask(cluster, node, method, image_id, target=LAZY, query=""):
    path = f"v2/images/{image_id}/replicas/{target}{query}"
    return cluster.request(method, path, user="admin", glance=cluster.nodes[node])


def name_of(cluster, node):
    return (cluster.spool_of(cluster.nodes[node]) / "node").read_text()


def rows(cluster, image_id, target=LAZY):
    """All that there are, not only the one that counts."""
    found = ReplicaSurvey(schema.open_database(cluster.connection)).of_images([image_id])
    return [row for row in found.get(image_id, []) if row.target == target]


def image_in_hand(cluster, site, worker, asked):
    """Ask one node for replicas until the other has one in hand; returns id and body."""
    body = image_bytes(LARGE_BYTES)
    for _ in range(TRIES):
        image_id = cluster.new_image(body, glance=cluster.nodes[worker])
        cluster.wait_replicated(image_id, [EAGER])
        site.switch(HALF_WAY)
        assert ask(cluster, asked, "PUT", image_id).status_code == 202
        if node_that_makes(cluster, image_id) == name_of(cluster, worker):
            return image_id, body
        site.switch(HEALTHY)
        cluster.wait_replicated(image_id)
    raise AssertionError("all the work is the one node's")


def node_that_makes(cluster, image_id):
    """Wait until a writer has the replica in hand; returns its node's name."""

    def taken():
        row = cluster.row(image_id, LAZY)
        return row if row.node or row.status == "active" else None

    return wait_until(taken, 60, "it is in hand").node


def demand_at_both(cluster, image_id):
    return at_once(2, lambda node: ask(cluster, node, "PUT", image_id).status_code, range(2))


def download_at_both(cluster, image_id):
    """Twice at each node; returns the bodies."""

    def download(number):
        path = f"v2/images/{image_id}/file"
        return cluster.request("GET", path, glance=cluster.nodes[number % 2]).content

    return at_once(4, download, range(4))


def test_replica_that_another_node_makes_is_asked_for_and_waited_for(cluster, site):
    image_id, body = image_in_hand(cluster, site, worker=1, asked=0)
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(wait_at, cluster, 0, image_id)

        def progress():
            return ask(cluster, 0, "GET", image_id).json()["progress"]

        assert wait_until(progress, 60, "bytes are under way") < 1
        assert not waiting.done()
        site.switch(HEALTHY)
        assert waiting.result()["progress"] == 1
    cluster.assert_replicated(image_id, body)


def wait_at(cluster, node, image_id):
    """As a consumer does: ask again, when an attempt has failed, until the replica is active."""
    while True:
        answer = ask(cluster, node, "GET", image_id, query="?wait=120")
        assert answer.status_code == 200, answer.text
        if answer.json()["status"] == "active":
            return answer.json()


def test_demands_at_both_nodes_at_the_same_moment_make_one_replica(cluster):
    body = image_bytes(MIB)
    for _ in range(ROUNDS):
        image_id = new_image(cluster, body, 0)
        assert set(demand_at_both(cluster, image_id)) <= {200, 202}
        cluster.assert_replicated(image_id, body)
        assert len(rows(cluster, image_id)) == 1
        assert [status for _, status in cluster.puts(image_id, LAZY)] == [201]


@pytest.mark.parametrize("node", [0, 1])
def test_replica_that_another_node_made_is_deleted_and_made_again(cluster, node):
    body = image_bytes(MIB)
    image_id = new_image(cluster, body, 1 - node)
    url = cluster.replica_urls(image_id)[EAGER]
    assert ask(cluster, node, "DELETE", image_id, EAGER).status_code == 202
    wait_until(lambda: cluster.statuses(image_id)[EAGER] == "deleted", 60, "it is deleted")
    assert EAGER not in cluster.objects(image_id)
    assert url not in cluster.locations(image_id)
    assert ask(cluster, 1 - node, "PUT", image_id, EAGER).status_code == 202
    assert cluster.wait_replicated(image_id, [EAGER])[EAGER] != url


def test_replica_with_the_last_location_is_not_deleted(cluster):
    body = image_bytes(MIB)
    image_id = new_image(cluster, body, 0)
    url = cluster.replica_urls(image_id)[EAGER]
    path = f"v2/images/{image_id}"
    change = [{"op": "remove", "path": "/locations/0"}]
    cluster.request("PATCH", path, user="admin", headers=PATCH_TYPE, json=change)
    assert cluster.locations(image_id) == [url]
    before = cluster.row(image_id, EAGER)
    for node in range(2):
        answer = ask(cluster, node, "DELETE", image_id, EAGER)
        assert (answer.status_code, "only location" in answer.text) == (409, True)
    assert cluster.row(image_id, EAGER) == before
    assert cluster.locations(image_id) == [url]
    assert cluster.request("GET", f"{path}/file").content == body


def test_downloads_at_both_nodes_at_the_same_moment_make_one_replica(cluster):
    body = image_bytes(MIB)
    for _ in range(ROUNDS):
        image_id = new_image(cluster, body, 0)
        assert download_at_both(cluster, image_id) == [body] * 4
        cluster.assert_replicated(image_id, body)
        states = [str(row.status) for row in rows(cluster, image_id)]
        assert states.count("active") == 1
        assert set(states) <= {"active", "deleted"}


def test_nodes_share_a_backfill(cluster):
    """Each image is one node's, and each node has some."""
    bodies = [image_bytes(50_000 + number) for number in range(OLDER)]
    images = dict(zip(at_once(4, cluster.new_image, bodies), bodies, strict=True))
    for image_id in images:
        cluster.wait_replicated(image_id, [EAGER])
    config = cluster.nodes[1].config_file
    before = [len(node.requests()) for node in cluster.nodes]
    planned = manage("--config-file", config, "backfill", "--target", LAZY)
    number = re.search(rf"planned for target {LAZY}: (\d+);", planned.stdout)
    # Images of other tests may lack it, too.
    assert number and int(number[1]) >= OLDER, planned

    def all_made():
        found = [row for row in cluster.rows() if row.image_id in images and row.target == LAZY]
        return [str(row.status) for row in found] == ["active"] * OLDER

    wait_until(all_made, 120, "all are made")

    def added():
        """The images at each node, which adds locations at its own Glance."""
        for node, done in zip(cluster.nodes, before, strict=True):
            patched = [each.path for each in node.requests()[done:] if each.method == "PATCH"]
            yield images.keys() & {path.rpartition("/")[2] for path in patched}

    wait_until(lambda: set.union(*added()) == images.keys(), 60, "the logs have all requests")
    first, second = added()
    assert first and second
    assert not first & second
    for image_id, body in images.items():
        cluster.assert_replicated(image_id, body)
        assert [status for _, status in cluster.puts(image_id, LAZY)] == [201]
