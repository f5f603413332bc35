# SPDX-License-Identifier: Apache-2.0
"""A MariaDB Galera cluster: every node takes writes, which the others must certify."""

import os
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from tests.lab.databases import OWNER, MariaDb
from tests.lab.process import HOST, free_port

_LIBRARIES = (Path("/usr/lib/galera"), Path("/usr/lib64/galera-4"))
_STATE = "SHOW STATUS LIKE 'wsrep_local_state_comment'"


class GaleraNode(MariaDb):
    """One node; as root it runs as mysql, whose state transfers nobody else may do."""

    account = ("mysql", "mysql")

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(directory, name)
        self.peers = ""
        self.donors = ""
        self.founds_cluster = False
        self.cluster_port, self._increments_port, self._state_port = (
            free_port() for _ in range(3)
        )

    @property
    def address(self) -> str:
        """How the other nodes reach it."""
        return f"{HOST}:{self.cluster_port}"

    def command(self) -> list[str]:
        provider = (
            f"base_port={self.cluster_port};gmcast.listen_addr=tcp://{self.address};"
            f"ist.recv_addr={HOST}:{self._increments_port}"
        )
        options = {
            "binlog-format": "ROW",
            "innodb-autoinc-lock-mode": "2",
            "wsrep-on": "ON",
            "wsrep-provider": str(_library()),
            "wsrep-cluster-name": "lab",
            "wsrep-node-name": self.name,
            "wsrep-node-address": self.address,
            "wsrep-sst-method": "rsync",
            "wsrep-sst-donor": self.donors,
            "wsrep-sst-receive-address": f"{HOST}:{self._state_port}",
            "wsrep-provider-options": provider,
            "wsrep-cluster-address": f"gcomm://{self.peers}",
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        return super().command() + arguments + ["--wsrep-new-cluster"] * self.founds_cluster

    def ready(self) -> bool:
        return super().ready() and self.execute(_STATE) == [
            ("wsrep_local_state_comment", "Synced")
        ]


class Galera:
    """Nodes of one cluster, started one after the other; the last to go is the first.

    :ivar nodes: the servers
    """

    def __init__(self, directory: Path, nodes: int = 3) -> None:
        self.nodes = [
            GaleraNode(directory / f"galera-{number}", f"galera-{number}")
            for number in range(1, nodes + 1)
        ]
        for node in self.nodes:
            node.peers = ",".join(each.address for each in self.nodes)
            # A node that gives its state away stands still; the first is to be the last to do so.
            donors = [each.name for each in self.nodes[1:] if each is not node]
            node.donors = "".join(f"{name}," for name in donors)

    @classmethod
    def available(cls) -> str | None:
        """Return None, or why it cannot be started here."""
        return MariaDb.available() or (None if _library() else "galera-4 is not installed")

    def start(self) -> Self:
        first, *others = self.nodes
        first.founds_cluster = True
        try:
            first.start()
            # Started again, it joins those that are there.
            first.founds_cluster = False
            for node in others:
                node.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def new_owned_databases(self) -> list[str]:
        """Make an empty database; return its SQLAlchemy URL at each node."""
        url = sa.make_url(self.nodes[0].new_owned_database())
        return [node.connection(url.database or "", OWNER) for node in self.nodes]

    def new_database(self) -> str:
        """Make an empty database; return its SQLAlchemy URL at the first node."""
        return self.nodes[0].new_database()

    def refuse_writes(self) -> None:
        """Let the owner of databases read only from now on, at every node."""
        for node in self.nodes:
            node.refuse_writes()

    def accept_writes(self) -> None:
        for node in self.nodes:
            node.accept_writes()


def _library() -> Path | None:
    found = (directory / "libgalera_smm.so" for directory in _LIBRARIES)
    return next((path for path in found if os.access(path, os.R_OK)), None)
