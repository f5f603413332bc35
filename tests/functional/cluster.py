# SPDX-License-Identifier: Apache-2.0
"""A cloud with several API nodes: one database, one store, and a spool and a writer for each."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.functional.cloud import KEPT, Cloud, merged, writers_of
from tests.lab.faults import FaultyProxy
from tests.lab.glance import Glance
from tests.lab.keystone import Keystone
from tests.lab.process import wait_until
from tests.lab.uwsgi import PATIENT_SQLITE


class Cluster(Cloud):
    """As `Cloud`, whose Glance is the first node.

    :param coordinator_urls: the coordinator as each node reaches it
    :param cloud: as for `Cloud`; Glance's own database is a file of the first node, unless
        ``options`` name another one
    :ivar glance: any of the nodes, which the methods of `Cloud` go to; at first the first one
    :ivar ways_to_coordinator: by which each node reaches it, where that can be cut
    """

    ways_to_coordinator: Sequence[FaultyProxy] = ()

    def __init__(
        self, directory: Path, keystone: Keystone, *, coordinator_urls: list[str], **cloud: Any
    ) -> None:
        super().__init__(directory, keystone, **cloud)
        first = self.glance
        file = {"connection": f"sqlite:///{first.directory}/glance.sqlite?timeout=60"}
        shared = {
            "database": file,
            "primary": {"filesystem_store_datadir": str(first.directory / "primary")},
        }
        others = []
        for number in range(2, len(coordinator_urls) + 1):
            node = Glance(
                directory / f"glance-{number}",
                keystone,
                target_ports=first.target_ports,
                replication=True,
                uwsgi_arguments=PATIENT_SQLITE,
            )
            own = {
                "spool_dir": str(directory / f"spool-{number}"),
                "endpoint_override": node.url,
            }
            node.options = merged(shared, first.options, {"replication": own})
            others.append(node)
        self.nodes = [first, *others]
        for node, url in zip(self.nodes, coordinator_urls, strict=True):
            node.options = merged(node.options, {"replication": {"coordination_url": url}})

    def start(self) -> "Cluster":
        self.glance = self.nodes[0]
        super().start()
        for node in self.nodes[1:]:
            node.start()
        self.wake()
        return self

    def stop(self) -> None:
        self.glance = self.nodes[0]
        for node in self.nodes[1:]:
            node.stop()
        try:
            super().stop()
        finally:
            for node in self.nodes[1:]:
                for writer in writers_of(node):
                    writer.kill()

    def wake(self) -> None:
        super().wake()
        for node in self.nodes:
            if node.running:
                self.writer_at(node)

    def writer_at(self, node: Glance) -> psutil.Process:
        """The node's writer; waits until it runs."""
        return wait_until(lambda: writers_of(node), 60, "a writer runs")[0]

    def kill_node(self, node: Glance) -> None:
        """Kill all that runs on the node, at once."""
        writers = writers_of(node)
        node.kill()
        for writer in writers:
            writer.kill()
        wait_until(lambda: not writers_of(node), 60, "the writer is dead")

    def spool_files(self) -> set[str]:
        spools = [self.spool_of(node) for node in self.nodes]
        return {name for spool in spools if spool.exists() for name in os.listdir(spool)} - KEPT
