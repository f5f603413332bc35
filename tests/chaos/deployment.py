# SPDX-License-Identifier: Apache-2.0
"""The deployment that the campaign runs against: a `Cloud` that notices and heals things soon."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.functional.cloud import Cloud, merged
from tests.functional.cluster import Cluster
from tests.lab.coordinators import Redis
from tests.lab.faults import FaultyProxy, FaultyTarget
from tests.lab.glance import Glance
from tests.lab.keystone import Keystone
from tests.lab.webservers import Nginx

SITES = ("site-a", "site-b", "site-c")
# Intervals of seconds instead of minutes and hours, so that a campaign sees them pass often.
QUICK = {
    "reconcile_interval_seconds": "2",
    # Longer than any fault that makes images seem to be missing, as the default of a day is longer
    # than those that operators need hours to see.
    "missing_image_delay_seconds": "12",
    # Users who get no answer leave many deletes that no node has seen.
    "missing_images_percent": "100",
    "missing_images_per_hour": "100000",
    "probe_interval_seconds": "0.5",
    "withdraw_after_seconds": "2",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "2",
    "scrub_interval_seconds": "10",
    "scrub_bytes_per_second": str(32 << 20),
    "orphan_interval_seconds": "3",
    "writer_grace_seconds": "3",
    "take_over_after_seconds": "2",
    "timeout": "3",
}
_QUICK_TARGET = {"connect_timeout_seconds": "2", "stall_timeout_seconds": "3"}


@contextmanager
def keystone_with_users(directory: Path) -> Iterator[Keystone]:
    """Keystone with the users that a `Cloud` expects."""
    with Keystone(directory) as keystone:
        keystone.add_user("replicator", "lab-replicator-password", "service", ("admin",))
        keystone.add_user("alice", "lab-alice-password", "demo", ("member",))
        yield keystone


def chaos_cloud(
    directory: Path,
    keystone: Keystone,
    download_port: int,
    *,
    nodes: int = 1,
    connection: str | None = None,
    connections: Sequence[str] = (),
    glance_connection: str | None = None,
    ways_to_coordinator: Sequence[FaultyProxy] = (),
) -> Cloud:
    """Glance and three nginx behind proxies that can fail; not started.

    :param download_port: from which web-download may read
    :param nodes: how many API nodes there are
    :param connection: of the replicas' database, None for a file
    :param connections: of the same database, where each node reaches it at another server
    :param glance_connection: of Glance's own one
    :param ways_to_coordinator: to the Redis that several nodes need, one for each
    """
    targets = {name: FaultyTarget(Nginx(directory / name, autoindex=True)) for name in SITES}
    ports = [80, 443, download_port, *(target.port for target in targets.values())]
    arguments: dict[str, Any] = {
        "targets": targets,
        "target_options": dict.fromkeys(targets, _QUICK_TARGET),
        "options": {
            "replication": QUICK,
            "import_filtering_opts": {"allowed_ports": f"[{','.join(map(str, ports))}]"},
            # A role that is taken away is missed at once, not in five minutes.
            "keystone_authtoken": {"token_cache_time": "-1"},
        },
        "connection": connection,
    }
    if glance_connection:
        arguments["options"]["database"] = {"connection": glance_connection}
    cloud: Cloud
    if nodes == 1:
        cloud = Cloud(directory, keystone, **arguments)
    else:
        urls = [Redis.url_at(way.port) for way in ways_to_coordinator]
        cloud = cluster = Cluster(directory, keystone, coordinator_urls=urls, **arguments)
        cluster.ways_to_coordinator = ways_to_coordinator
    cloud.ways_to_glance = [FaultyProxy(node) for node in cloud.nodes]
    for node, way in zip(cloud.nodes, cloud.ways_to_glance, strict=True):
        node.options = merged(node.options, {"replication": {"endpoint_override": way.url}})
    for node, own in zip(cloud.nodes, connections, strict=False):
        node.options = merged(node.options, {"replication": {"connection": own}})
    cloud.other_glances = {
        name: Glance(directory / f"{name}-glance", keystone) for name in ("empty", "foreign")
    }
    return cloud
