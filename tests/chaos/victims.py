# SPDX-License-Identifier: Apache-2.0
"""What the faults of the campaign strike, and what an operator does to it."""

import dataclasses
import random
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil

from tests.functional.cloud import Cloud, writers_of
from tests.lab import commands
from tests.lab.faults import HEALTHY, FaultyTarget
from tests.lab.faults import Fault as Behaviour
from tests.lab.glance import Glance
from tests.lab.process import HOST, wait_until

OF_OURS = "glance-repl-"
_END_SECONDS = 60

# Strikes when it is entered; gives what it hit, for the log.
Fault = Callable[[Cloud, random.Random], AbstractContextManager[str]]


def signal_writers(cloud: Cloud, number: signal.Signals) -> str:
    writers = cloud.writers()
    for writer in writers:
        send(writer.pid, number)
    return ", ".join(f"process {writer.pid}" for writer in writers) or "nothing: no writer runs"


def manage(cloud: Cloud, *arguments: str) -> str:
    """What an operator does meanwhile; returns the end of what the command says."""
    process = commands.manage("--config-file", cloud.glance.config_file, *arguments)
    lines = (process.stdout + process.stderr).strip().splitlines() or ["nothing to say"]
    return f"{lines[-1]} (status {process.returncode})"


def told(behaviour: Behaviour) -> str:
    usual = dataclasses.asdict(HEALTHY)
    unusual = dataclasses.asdict(behaviour).items() - usual.items()
    return ", ".join(f"{name}={value}" for name, value in sorted(unusual))


def any_target(cloud: Cloud, rng: random.Random) -> tuple[str, FaultyTarget]:
    name = rng.choice(sorted(cloud.targets))
    target = cloud.targets[name]
    assert isinstance(target, FaultyTarget)
    return name, target


def name_of(fault: Fault) -> str:
    """What a user of the campaign calls it."""
    return fault.__name__.replace("_", " ")


def finished_objects(root: Path) -> list[Path]:
    """The objects of images at a target, without what is being written."""
    return sorted(
        path
        for path in root.iterdir()
        if path.suffix != ".partial" and not path.name.startswith(OF_OURS)
    )


def send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        psutil.Process(pid).send_signal(number)


def kill_node(node: Glance) -> None:
    """Kill all that runs on the node; returns when nothing of it is left."""
    writers = writers_of(node)
    node.kill()
    for writer in writers:
        send(writer.pid, signal.SIGKILL)
    wait_until(lambda: not writers_of(node), _END_SECONDS, "the writer ends")
    wait_port_free(node)


def wait_port_free(node: Glance) -> None:
    """Killed workers may hold the port a little longer than their master."""
    wait_until(lambda: _is_free(node.port), _END_SECONDS, "Glance's port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
