# SPDX-License-Identifier: Apache-2.0
"""Several nodes share a database and a coordinator, and the work."""

from collections import Counter

import pytest

from tests.functional.cloud import MIB, at_once, three_targets
from tests.functional.cluster import Cluster
from tests.functional.test_location_races import (
    BODY,
    PATCH_TYPE,
    add_location,
    at_the_same_moment,
    foreign_urls,
    rename,
)
from tests.lab.faults import DOWN, HANGING, HEALTHY, Fault, FaultyProxy, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

NODES = 2
ROUNDS = 40
OPTIONS = {
    # Else the replicas' locations are added long after what others do at the same moment.
    "location_batch_seconds": "0",
    "reconcile_interval_seconds": "2",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
    "take_over_after_seconds": "3",
    "missing_image_delay_seconds": "1",
}
HALF_WAY = Fault(hang_after=MIB)


@pytest.fixture(scope="module")
def cluster(keystone, workdir, require, redis, mariadb):
    """Two nodes; the second reaches the coordinator through a proxy. site-c can be held."""
    require(Nginx)
    directory = workdir("cluster")
    targets = three_targets(directory)
    targets["site-c"] = FaultyTarget(targets["site-c"])
    way = FaultyProxy(redis)
    urls = [redis.url, redis.url_at(way.port)]
    with (
        way,
        Cluster(
            directory,
            keystone,
            coordinator_urls=urls,
            targets=targets,
            connection=mariadb.new_database(),
            options={
                "replication": OPTIONS,
                "database": {"connection": mariadb.new_database()},
            },
        ) as cluster,
    ):
        cluster.way_to_coordinator = way
        yield cluster


@pytest.fixture
def site(cluster):
    """A target that can be held."""
    yield cluster.targets["site-c"]
    cluster.targets["site-c"].switch(HEALTHY)


def test_each_node_replicates_what_it_receives(cluster):
    bodies = [image_bytes(MIB + number) for number in range(12)]

    def upload(number):
        return cluster.new_image(bodies[number], glance=cluster.nodes[number % NODES])

    for body, image_id in zip(bodies, at_once(4, upload, range(len(bodies))), strict=True):
        cluster.assert_replicated(image_id, body)
        assert [len(cluster.puts(image_id, target)) for target in cluster.targets] == [1, 1, 1]
        assert not cluster.downloads(image_id)


def test_no_location_is_lost_that_other_nodes_add(cluster):
    """The upload is one node's; a location and another name come through the other."""
    first, second = cluster.nodes

    def race(number):
        (url,) = foreign_urls(cluster.targets["site-a"], number, "copy")
        image_id = cluster.new_image(BODY, glance=first)
        at_the_same_moment(
            (add_location, cluster, image_id, url, second),
            (rename, cluster, image_id, "another name", second),
        )
        return image_id, url

    lost = Counter()
    for image_id, url in at_once(4, race, range(ROUNDS)):
        cluster.wait_replicated(image_id)
        image = cluster.image(image_id)
        lost["location"] += url not in [location["url"] for location in image["locations"]]
        lost["name"] += image["name"] != "another name"
    assert lost.total() == 0, f"lost in {ROUNDS} rounds: {lost}"


def hold(cluster, site, node):
    """Upload an image at the node, of which half is under way to the held target."""
    cluster.wait_settled()
    site.switch(HALF_WAY)
    body = image_bytes(4 * MIB)
    image_id = cluster.new_image(body, glance=node)
    cluster.wait_replicated(image_id, ["site-a", "site-b"])
    wait_until(lambda: site.received_bytes >= MIB, 60, "half is sent")
    return image_id, body


def test_work_of_a_dead_node_is_taken_over(cluster, site):
    first, second = cluster.nodes
    image_id, body = hold(cluster, site, second)
    cluster.kill_node(second)
    site.switch(HEALTHY)
    cluster.wait_replicated(image_id)
    assert "taken over from node" in first.log.read_text()
    second.start()
    cluster.wake()
    cluster.assert_replicated(image_id, body)


def test_spool_of_a_node_that_comes_back_is_the_last_source(cluster, site):
    """The others have found in vain that there is no other one."""
    first, second = cluster.nodes
    image_id, body = hold(cluster, site, second)
    cluster.kill_node(second)
    for path in (first.primary_path(image_id), *files_of(cluster, image_id)):
        # What was taken over by then may have gone already.
        path.unlink(missing_ok=True)
    site.switch(HEALTHY)

    def has_failed():
        row = cluster.row(image_id, "site-c")
        return row.node is None and row.attempts and "is gone" not in (row.error or "")

    wait_until(has_failed, 60, "the work is taken over in vain")
    assert not files_of(cluster, image_id)
    second.start()
    cluster.wake()
    # When the loss at the other targets is found, is not this test's.
    url = cluster.wait_replicated(image_id, ["site-c"])["site-c"]
    assert cluster.object_bytes("site-c", url) == body
    cluster.forget(image_id)


def files_of(cluster, image_id):
    """What the targets have of the image."""
    return [path for each in cluster.targets.values() for path in each.root.rglob(f"*{image_id}*")]


def test_upload_that_dies_with_its_node_leaves_nothing(cluster, site):
    first, second = cluster.nodes
    cluster.wait_settled()
    image_id = cluster.create_image(glance=first)

    def dying():
        yield image_bytes(3 * MIB)
        wait_until(lambda: site.received_bytes >= MIB, 60, "it is under way")
        cluster.kill_node(second)
        yield image_bytes(MIB)

    site.switch(HEALTHY)
    with pytest.raises(OSError):
        cluster.upload(image_id, dying(), glance=second)
    wait_until(
        lambda: set(cluster.statuses(image_id).values()) == {"deleted"}, 60, "it is taken over"
    )
    second.start()
    cluster.wake()
    cluster.assert_no_trace(image_id)


def test_no_location_is_lost_at_a_node_that_is_cut_off(cluster):
    """It refuses to add one; what the other node adds, and other changes, go on."""
    first, second = cluster.nodes

    def race(number):
        (url,) = foreign_urls(cluster.targets["site-a"], number, "cut")
        image_id = cluster.new_image(BODY, glance=first)
        change = {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}}
        path, sent = f"v2/images/{image_id}", {"headers": PATCH_TYPE, "json": [change]}
        answer = cluster.request("PATCH", path, user="admin", glance=second, **sent)
        return image_id, url, answer

    cluster.way_to_coordinator.switch(DOWN)
    try:
        raced = at_once(4, race, range(ROUNDS // 4))
        rename(cluster, raced[0][0], "another name", second)
        for image_id, _, _ in raced:
            cluster.wait_replicated(image_id)
    finally:
        cluster.way_to_coordinator.switch(HEALTHY)
    for _, _, answer in raced:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), answer.text
    assert cluster.image(raced[0][0])["name"] == "another name"
    for image_id, url, _ in raced:
        add_location(cluster, image_id, url, second)
        assert url in cluster.locations(image_id)
        assert len(cluster.replica_urls(image_id)) == 3


@pytest.mark.parametrize("fault", [DOWN, HANGING], ids=["refused", "silent"])
def test_node_that_is_cut_off_while_it_holds_work(fault, cluster, site):
    """It lives, but the others take it for dead, and take its work over."""
    second = cluster.nodes[1]
    image_id, body = hold(cluster, site, second)
    cluster.way_to_coordinator.switch(fault)
    try:
        other_body = image_bytes(MIB)
        other = cluster.new_image(other_body, glance=second)
        wait_until(
            lambda: cluster.row(image_id, "site-c").node != node_name(cluster, second),
            60,
            "the work is taken over",
        )
        site.switch(HEALTHY)
        # The cut lasts until all is done without the node, and a request of its own was refused;
        # of which image depends on how soon the others have its work.
        images = (image_id, other)
        for each in images:
            cluster.wait_replicated(each)
        wait_until(
            lambda: any(is_refused(second, each) for each in images), 60, "it tries to add its own"
        )
    finally:
        cluster.way_to_coordinator.switch(HEALTHY)
    cluster.assert_replicated(image_id, body)
    cluster.assert_replicated(other, other_body)


def is_refused(node, image_id):
    """Whether the node has refused to change the image's record."""
    return ("PATCH", f"/v2/images/{image_id}", 503) in node.requests()


def node_name(cluster, node):
    return (cluster.spool_of(node) / "node").read_text()
