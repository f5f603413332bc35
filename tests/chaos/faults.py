"""What the campaign does to a deployment: faults, and what an operator may do meanwhile.

Each is healed when its context is left.
"""

import dataclasses
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.functional.cloud import Cloud
from tests.functional.cluster import Cluster
from tests.lab.faults import DOWN, HANGING, HEALTHY, FaultyTarget
from tests.lab.faults import Fault as Behaviour
from tests.lab.process import HOST, clean_environment, wait_until

_START_SECONDS = 60
_RELOAD_SECONDS = 150
_COMMAND_SECONDS = 120

# Strikes when it is entered; gives what it hit, for the log.
Fault = Callable[[Cloud, random.Random], AbstractContextManager[str]]


@contextmanager
def api_worker_killed(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    victim = rng.choice(cloud.glance.worker_pids())
    _send(victim, signal.SIGKILL)
    yield f"process {victim}"
    cloud.glance.wait_ready()


@contextmanager
def api_worker_stopped(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    with _stopped(rng.choice(cloud.glance.worker_pids())) as victim:
        yield victim


@contextmanager
def glance_killed(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    cloud.glance.kill()
    yield "all processes"
    # Killed workers may hold the port a little longer than their master.
    wait_until(lambda: _is_free(cloud.glance.port), _START_SECONDS, "Glance's port is free")
    cloud.glance.start()


@contextmanager
def node_killed(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """Glance and the writer at the same moment, as when the machine dies."""
    _signal_writers(cloud, signal.SIGKILL)
    with glance_killed(cloud, rng) as victim:
        _signal_writers(cloud, signal.SIGKILL)
        yield victim


@contextmanager
def coordinator_cut_off(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """One node cannot reach it: connections are refused, or nothing answers."""
    if not isinstance(cloud, Cluster):
        yield "nothing: one node needs none"
        return
    number = cloud.nodes.index(cloud.glance)
    behaviour = rng.choice((DOWN, HANGING))
    cloud.ways_to_coordinator[number].switch(behaviour)
    try:
        yield f"from node {number + 1}, {_told(behaviour)}"
    finally:
        cloud.ways_to_coordinator[number].switch(HEALTHY)


@contextmanager
def glance_stopped(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    """The master and all API workers, as when the machine hangs; not the writer."""
    # The master first: it would replace workers that do not answer.
    pids = [cloud.glance.pid, *cloud.glance.worker_pids()]
    with ExitStack() as stack:
        for pid in pids:
            stack.enter_context(_stopped(pid))
        yield f"{len(pids)} processes"


@contextmanager
def glance_cut_off(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """Its node's writer cannot reach it, or gets no answers; users can."""
    way = cloud.ways_to_glance[cloud.nodes.index(cloud.glance)]
    changes = rng.choice(((), ("PATCH",)))
    behaviour = rng.choice(
        (
            DOWN,
            HANGING,
            Behaviour(status=503, methods=changes),
            Behaviour(mute=True, methods=changes),
            Behaviour(cut_after=int(2 ** rng.uniform(0, 14))),
        )
    )
    way.switch(behaviour)
    try:
        yield f"from its writer, {_told(behaviour)}"
    finally:
        way.switch(HEALTHY)


@contextmanager
def glance_restarted(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    cloud.glance.stop()
    yield "all processes"
    cloud.glance.start()


@contextmanager
def glance_reloaded(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    old = set(cloud.glance.worker_pids())
    cloud.glance.signal(signal.SIGHUP)
    yield "all API workers"
    wait_until(
        lambda: not old & set(cloud.glance.worker_pids()), _RELOAD_SECONDS, "old API workers go"
    )
    cloud.glance.wait_ready()


@contextmanager
def writer_killed(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    yield _signal_writers(cloud, signal.SIGKILL)


@contextmanager
def writer_terminated(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    yield _signal_writers(cloud, signal.SIGTERM)


@contextmanager
def writer_stopped(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    writers = cloud.writers()
    if not writers:
        yield "nothing: no writer runs"
        return
    with _stopped(writers[0].pid) as victim:
        yield victim


@contextmanager
def target_killed(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    name, target = _any_target(cloud, rng)
    target.server.kill()
    yield name
    target.server.start()


@contextmanager
def target_stopped(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    name, target = _any_target(cloud, rng)
    with _stopped(target.server.pid):
        yield name


@contextmanager
def target_cut_off(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """It refuses connections, hangs, answers 503 or not at all, or resets connections."""
    name, target = _any_target(cloud, rng)
    behaviour = rng.choice(
        (
            DOWN,
            HANGING,
            Behaviour(status=503),
            Behaviour(status=503, status_over_bytes=1024),
            Behaviour(mute=True),
            Behaviour(hang_after=int(2 ** rng.uniform(0, 22))),
            Behaviour(cut_after=int(2 ** rng.uniform(0, 22))),
        )
    )
    target.switch(behaviour)
    try:
        yield f"{name}, {_told(behaviour)}"
    finally:
        target.switch(HEALTHY)


@contextmanager
def object_spoiled(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """A finished object loses a bit, its second half, or all of it, and is left so."""
    name, target = _any_target(cloud, rng)
    finished = sorted(path for path in target.root.iterdir() if path.suffix != ".partial")
    if not finished:
        yield f"nothing: {name} is empty"
        return
    path, harm = rng.choice(finished), rng.choice((_flip_bit, _cut_short, Path.unlink))
    with suppress(FileNotFoundError):  # deleted meanwhile
        harm(path)
    yield f"{harm.__name__.strip('_')} {path.name} at {name}"


@contextmanager
def target_drained(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """The operator drains a target, and changes his mind."""
    name, _ = _any_target(cloud, rng)
    said = _manage(cloud, "target", "drain", "--no-wait", name)
    try:
        yield f"{name}: {said}"
    finally:
        _manage(cloud, "target", "restore", name)


@contextmanager
def target_backfilled(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    name, _ = _any_target(cloud, rng)
    yield f"{name}: {_manage(cloud, 'backfill', '--target', name)}"


@contextmanager
def replicas_verified(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    yield _manage(cloud, "verify", "--read-back", "--sample", "3")


OF_SEVERAL_NODES = ("coordinator cut off",)
FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        api_worker_killed,
        api_worker_stopped,
        glance_killed,
        node_killed,
        coordinator_cut_off,
        glance_stopped,
        glance_cut_off,
        glance_restarted,
        glance_reloaded,
        writer_killed,
        writer_terminated,
        writer_stopped,
        target_killed,
        target_stopped,
        target_cut_off,
        object_spoiled,
        target_drained,
        target_backfilled,
        replicas_verified,
    )
}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextmanager
def _stopped(pid: int) -> Iterator[str]:
    _send(pid, signal.SIGSTOP)
    try:
        yield f"process {pid}"
    finally:
        _send(pid, signal.SIGCONT)


def _signal_writers(cloud: Cloud, number: signal.Signals) -> str:
    writers = cloud.writers()
    for writer in writers:
        _send(writer.pid, number)
    return ", ".join(f"process {writer.pid}" for writer in writers) or "nothing: no writer runs"


def _manage(cloud: Cloud, *arguments: str) -> str:
    """What an operator does meanwhile; returns the end of what the command says."""
    command = [sys.executable, "-m", "glance_repl_mw.cmd.manage", "--config-file"]
    process = subprocess.run(
        [*command, str(cloud.glance.config_file), *arguments],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
    )
    lines = (process.stdout + process.stderr).strip().splitlines() or ["nothing to say"]
    return f"{lines[-1]} (status {process.returncode})"


def _flip_bit(path: Path) -> None:
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes(each ^ 1 for each in first))


def _cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _told(behaviour: Behaviour) -> str:
    usual = dataclasses.asdict(HEALTHY)
    unusual = dataclasses.asdict(behaviour).items() - usual.items()
    return ", ".join(f"{name}={value}" for name, value in sorted(unusual))


def _any_target(cloud: Cloud, rng: random.Random) -> tuple[str, FaultyTarget]:
    name = rng.choice(sorted(cloud.targets))
    target = cloud.targets[name]
    assert isinstance(target, FaultyTarget)
    return name, target


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        psutil.Process(pid).send_signal(number)
