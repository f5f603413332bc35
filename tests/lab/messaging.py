# SPDX-License-Identifier: Apache-2.0
"""A real RabbitMQ."""

import os
from pathlib import Path
from typing import Self

from tests.lab.process import HOST, Server, free_port
from tests.lab.webserver_base import find_program

# What /usr/sbin has drops root's rights, and with them the way to the tests' directories.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class PortMapper(Server):
    """The epmd of one RabbitMQ, which would else start one that stays."""

    def command(self) -> list[str]:
        return [find_program("epmd") or "epmd"]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self.settings()}

    def settings(self) -> dict[str, str]:
        """What tells an Erlang program to use this one."""
        return {"ERL_EPMD_PORT": str(self.port), "ERL_EPMD_ADDRESS": HOST}


class RabbitMq(Server):
    """RabbitMQ with its user `guest`; its queues stay when it is started again."""

    def __init__(self, directory: Path, name: str = "rabbitmq", port: int | None = None) -> None:
        super().__init__(directory, name, port)
        self._port_mapper = PortMapper(directory, f"{name}-epmd")
        self._distribution_port = free_port()

    @staticmethod
    def available() -> str | None:
        """Return None, or why it cannot be started here."""
        return None if os.access(PROGRAM, os.X_OK) else "rabbitmq-server is not installed"

    @property
    def url(self) -> str:
        """The URL for oslo.messaging."""
        return f"rabbit://guest:guest@{HOST}:{self.port}/"

    @property
    def amqp_url(self) -> str:
        """The same for other clients."""
        return f"amqp://guest:guest@{HOST}:{self.port}//"

    def command(self) -> list[str]:
        return [str(PROGRAM)]

    def environment(self) -> dict[str, str]:
        nothing = str(self.directory / "none")
        settings = {
            "NODENAME": f"rabbit-{self.port}@localhost",
            "NODE_IP_ADDRESS": HOST,
            "NODE_PORT": str(self.port),
            "DIST_PORT": str(self._distribution_port),
            "MNESIA_BASE": str(self.directory / "mnesia"),
            "LOGS": "-",
            "PID_FILE": str(self.directory / "pid"),
            "CONFIG_FILE": nothing,
            "CONF_ENV_FILE": nothing,
            "ENABLED_PLUGINS_FILE": nothing,
        }
        return {
            **super().environment(),
            **self._port_mapper.settings(),
            **{f"RABBITMQ_{name}": value for name, value in settings.items()},
            # Where the secret lies that its processes share.
            "HOME": str(self.directory),
        }

    def start(self) -> Self:
        if not self._port_mapper.running:
            self._port_mapper.start()
        return super().start()

    def stop(self) -> None:
        super().stop()
        self._port_mapper.stop()

    def kill(self) -> None:
        super().kill()
        self._port_mapper.kill()
