# SPDX-License-Identifier: Apache-2.0
"""Two sites: who downloads a whole image at the second one fills the target there."""

import signal

import psutil
import pytest
import sqlalchemy as sa

from glance_repl_mw.db import schema
from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.db.session import Context
from tests.functional.cloud import MIB, at_once, merged
from tests.functional.cluster import Cluster
from tests.lab.faults import DOWN, HANGING, HEALTHY, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

HERE, THERE = "site-b", "site-a"
# Much more than the sockets on the way hold.
LARGE_BYTES = 48 * MIB
CACHE = {"cache": {"paste.filter_factory": "glance.api.middleware.cache:CacheFilter.factory"}}
OPTIONS = {
    # What reads replicas besides Glance would be counted with its reads.
    "scrub_bytes_per_second": "0",
    "reconcile_interval_seconds": "2",
    "probe_interval_seconds": "0.5",
    "retry_max_seconds": "1",
}
HURRIED = {"stall_timeout_seconds": "2", "connect_timeout_seconds": "2"}


@pytest.fixture(scope="module")
def sites(keystone, workdir, require, redis):
    """Uploads at the first node go to site-a; site-b, a lazy one, belongs to the second node."""
    require(Nginx)
    directory = workdir("sites")
    cluster = Cluster(
        directory,
        keystone,
        coordinator_urls=[redis.url, redis.url],
        targets={
            THERE: Nginx(directory / THERE),
            HERE: FaultyTarget(Nginx(directory / HERE)),
        },
        target_options={HERE: {"mode": "lazy", **HURRIED}},
        options={"replication": OPTIONS},
    )
    second = cluster.nodes[1]
    # It is far from the primary store, and reads replicas.
    near = {"replication": {"local_target": HERE}, "http": {"weight": "100"}}
    second.options = merged(second.options, near)
    with cluster:
        yield cluster


def new_image(sites, body):
    """An image that was uploaded at the first node, and that site-b lacks."""
    image_id = sites.new_image(body, glance=sites.nodes[0])
    sites.wait_replicated(image_id, [THERE])
    sites.wait_settled()
    assert HERE not in sites.statuses(image_id)
    return image_id


def download(sites, image_id, node=1, **arguments):
    path = f"v2/images/{image_id}/file"
    return sites.request("GET", path, glance=sites.nodes[node], **arguments)


def reads(sites, image_id, target):
    """How often the whole image was read at a target; probes read a few bytes."""
    requests = sites.targets[target].requests()
    return sum(
        (method, status) == ("GET", 200) and image_id in path for method, path, status in requests
    )


def assert_not_filled(sites, image_id):
    """Nothing came of a download which has ended."""
    sites.wait_settled()
    assert HERE not in sites.statuses(image_id)
    assert not sites.objects(image_id).get(HERE)


def test_first_download_fills_the_target_of_the_site(sites):
    body = image_bytes(3 * MIB)
    image_id = new_image(sites, body)
    assert download(sites, image_id).content == body
    sites.assert_replicated(image_id, body)
    # The bytes came over once, for the client.
    assert reads(sites, image_id, THERE) == 1
    assert [status for _, status in sites.puts(image_id, HERE)] == [201]
    assert sites.replica_urls(image_id)[HERE]
    number_of_reads = reads(sites, image_id, HERE)
    assert download(sites, image_id).content == body
    wait_until(lambda: reads(sites, image_id, HERE) > number_of_reads, 60, "nginx has logged it")
    assert reads(sites, image_id, THERE) == 1, "nothing crossed again"
    sites.wait_settled()
    assert len(sites.puts(image_id, HERE)) == 1


def test_elsewhere_locations_are_read_in_glances_own_order(sites):
    """Only downloads at the site see its target first."""
    body = image_bytes(MIB)
    image_id = new_image(sites, body)
    download(sites, image_id)
    sites.wait_replicated(image_id)
    number_of_reads = reads(sites, image_id, HERE)
    path = f"v2/images/{image_id}"
    shown = [
        sites.request("GET", path, user="admin", glance=node).json()["locations"]
        for node in sites.nodes
    ]
    urls = [sites.replica_urls(image_id)[name] for name in (THERE, HERE)]
    assert [each["url"] for each in shown[0]][1:] == urls
    assert [each["url"] for each in shown[1]][:2] == urls
    assert download(sites, image_id, node=0).content == body
    assert reads(sites, image_id, HERE) == number_of_reads


@pytest.fixture
def target_here(sites):
    yield sites.targets[HERE]
    sites.targets[HERE].switch(HEALTHY)


def test_download_does_not_wait_for_a_target_that_hangs(sites, target_here):
    body = image_bytes(3 * MIB)
    image_id = new_image(sites, body)
    target_here.switch(HANGING)
    assert download(sites, image_id, timeout=60).content == body
    # The writer tries, and the target does not answer.
    wait_until(lambda: sites.statuses(image_id).get(HERE) == "error", 60, "a push fails")
    assert download(sites, image_id, timeout=60).content == body
    target_here.switch(HEALTHY)
    sites.wait_replicated(image_id)
    assert sites.objects(image_id).keys() == {THERE, HERE}


def test_replica_that_cannot_be_reached_is_left_for_another(sites, target_here):
    body = image_bytes(MIB)
    image_id = new_image(sites, body)
    download(sites, image_id)
    sites.wait_replicated(image_id)
    target_here.switch(DOWN)
    assert download(sites, image_id, timeout=60).content == body
    target_here.switch(HANGING)
    wait_until(lambda: has_failed_here(sites), 60, "the writers have asked it in vain")
    number_of_reads = reads(sites, image_id, THERE)
    # Glance would wait for the answer for ever.
    assert download(sites, image_id, timeout=60).content == body
    assert reads(sites, image_id, THERE) == number_of_reads + 1
    assert sites.replica_urls(image_id)[HERE], "its location is still there"


def has_failed_here(sites):
    answer = sites.request("GET", "v2/replication/targets", user="admin")
    (target,) = (each for each in answer.json()["targets"] if each["name"] == HERE)
    return len(target["nodes"]) == 2 and all(node["error"] for node in target["nodes"])


def test_downloads_at_once_make_one_replica(sites):
    body = image_bytes(MIB)
    image_id = new_image(sites, body)
    answers = at_once(6, lambda _: download(sites, image_id).content, range(6))
    assert answers == [body] * 6
    sites.assert_replicated(image_id, body)
    assert reads(sites, image_id, THERE) == 6


def test_download_elsewhere_fills_nothing(sites):
    image_id = new_image(sites, image_bytes(MIB))
    assert download(sites, image_id, node=0).status_code == 200
    assert_not_filled(sites, image_id)


def test_part_of_an_image_fills_nothing(sites):
    body = image_bytes(MIB)
    image_id = new_image(sites, body)
    answer = download(sites, image_id, headers={"Range": f"bytes=0-{MIB // 2 - 1}"})
    assert (answer.status_code, answer.content) == (206, body[: MIB // 2])
    assert_not_filled(sites, image_id)


@pytest.fixture
def begun(sites):
    """A large image, of which a client has got a part that is in the spool."""
    image_id = new_image(sites, bytes(LARGE_BYTES))
    answer = download(sites, image_id, stream=True)
    next(answer.iter_content(MIB))
    spool = sites.spool_of(sites.nodes[1])
    wait_until(lambda: list(spool.glob("*.data")), 60, "the download is spooled")
    yield image_id, answer
    answer.close()
    sites.forget(image_id)


def test_client_that_leaves_early_leaves_nothing(sites, begun):
    image_id, answer = begun
    answer.close()
    assert_not_filled(sites, image_id)


def test_process_that_dies_leaves_nothing(sites, begun):
    image_id, _ = begun
    for process in sites.nodes[1].worker_pids():
        psutil.Process(process).send_signal(signal.SIGKILL)
    sites.wake()
    assert_not_filled(sites, image_id)


def test_what_the_image_cache_answers_fills_nothing(sites):
    """Last, since the cache stays: an image that is cached, of which the replica is lost."""
    node = sites.nodes[1]
    cache = node.directory / "cache"
    cache.mkdir()
    options = {"image_cache_dir": str(cache), "image_cache_driver": "centralized_db"}
    node.options = merged(node.options, {"DEFAULT": options})
    node.paste_filters |= CACHE
    node.write_config()
    node.reload()
    sites.wake()
    body = image_bytes(MIB)
    image_id = new_image(sites, body)
    assert download(sites, image_id).content == body
    wait_until((cache / image_id).exists, 60, "it is cached")
    # What goes into the cache fills the target as well.
    sites.wait_replicated(image_id)
    sites.wait_settled()
    forget_replica(sites, image_id)
    number_of_reads = reads(sites, image_id, THERE)
    assert download(sites, image_id).content == body
    assert reads(sites, image_id, THERE) == number_of_reads
    assert_not_filled(sites, image_id)


def forget_replica(sites, image_id):
    """As if site-b had never had the image."""
    url = sites.replica_urls(image_id)[HERE]
    number = sites.locations(image_id).index(url)
    change = [{"op": "remove", "path": f"/locations/{number}"}]
    kind = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    path = f"v2/images/{image_id}"
    sites.request("PATCH", path, user="admin", json=change, headers=kind).raise_for_status()
    next(sites.targets[HERE].root.rglob(f"{image_id}*")).unlink()
    here = (ReplicaRow.image_id == image_id, ReplicaRow.target == HERE)
    with schema.open_database(sites.connection).writer.using(Context()) as session:
        session.execute(sa.delete(ReplicaRow).where(*here))
