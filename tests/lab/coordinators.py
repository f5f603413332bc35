# SPDX-License-Identifier: Apache-2.0
"""Real servers that tooz coordinates nodes with."""

from tests.lab.process import HOST, Server, free_port
from tests.lab.webserver_base import find_program


class Redis(Server):
    """Redis in memory, without a password."""

    @staticmethod
    def available() -> str | None:
        """Return None, or why it cannot be started here."""
        return None if find_program("redis-server") else "redis-server is not installed"

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int) -> str:
        """The URL for tooz, also through a proxy; a node is dead after 3 silent seconds."""
        return f"redis://{HOST}:{port}?timeout=3&lock_timeout=15"

    def command(self) -> list[str]:
        program = find_program("redis-server") or "redis-server"
        return [program, "--bind", HOST, "--port", str(self.port), "--save", ""]


class Etcd(Server):
    """A single etcd, whose data stay when it is started again."""

    @staticmethod
    def available() -> str | None:
        """Return None, or why it cannot be started here."""
        return None if find_program("etcd") else "etcd (etcd-server) is not installed"

    @property
    def url(self) -> str:
        return f"etcd3+http://{HOST}:{self.port}?timeout=3&membership_timeout=3&lock_timeout=15"

    def command(self) -> list[str]:
        clients, peers = (f"http://{HOST}:{port}" for port in (self.port, free_port()))
        return [
            find_program("etcd") or "etcd",
            f"--data-dir={self.directory}/data",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
        ]
