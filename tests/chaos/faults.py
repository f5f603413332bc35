# SPDX-License-Identifier: Apache-2.0
"""What the campaign does to a deployment: faults, and what an operator may do meanwhile.

Each is healed when its context is left.
"""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.chaos import betrayals
from tests.chaos.victims import (
    Fault,
    any_target,
    finished_objects,
    manage,
    name_of,
    send,
    signal_writers,
    told,
    wait_port_free,
)
from tests.functional.cloud import Cloud
from tests.functional.cluster import Cluster
from tests.lab.faults import DOWN, HANGING, HEALTHY
from tests.lab.faults import Fault as Behaviour
from tests.lab.process import wait_until

_RELOAD_SECONDS = 150


@contextmanager
def api_worker_killed(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    victim = rng.choice(cloud.glance.worker_pids())
    send(victim, signal.SIGKILL)
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
    wait_port_free(cloud.glance)
    cloud.glance.start()


@contextmanager
def node_killed(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """Glance and the writer at the same moment, as when the machine dies."""
    signal_writers(cloud, signal.SIGKILL)
    with glance_killed(cloud, rng) as victim:
        signal_writers(cloud, signal.SIGKILL)
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
        yield f"from node {number + 1}, {told(behaviour)}"
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
        yield f"from its writer, {told(behaviour)}"
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
    yield signal_writers(cloud, signal.SIGKILL)


@contextmanager
def writer_terminated(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    yield signal_writers(cloud, signal.SIGTERM)


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
    name, target = any_target(cloud, rng)
    target.server.kill()
    yield name
    target.server.start()


@contextmanager
def target_stopped(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    name, target = any_target(cloud, rng)
    with _stopped(target.server.pid):
        yield name


@contextmanager
def target_cut_off(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """It refuses connections, hangs, answers 503 or not at all, or resets connections."""
    name, target = any_target(cloud, rng)
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
        yield f"{name}, {told(behaviour)}"
    finally:
        target.switch(HEALTHY)


@contextmanager
def object_spoiled(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """A finished object loses a bit, its second half, or all of it, and is left so."""
    name, target = any_target(cloud, rng)
    finished = finished_objects(target.root)
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
    name, _ = any_target(cloud, rng)
    said = manage(cloud, "target", "drain", "--no-wait", name)
    try:
        yield f"{name}: {said}"
    finally:
        manage(cloud, "target", "restore", name)


@contextmanager
def target_backfilled(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    name, _ = any_target(cloud, rng)
    yield f"{name}: {manage(cloud, 'backfill', '--target', name)}"


@contextmanager
def replicas_verified(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    yield manage(cloud, "verify", "--read-back", "--sample", "3")


OF_SEVERAL_NODES: tuple[str, ...] = ("coordinator cut off",)
OF_GALERA: tuple[str, ...] = ("database node killed",)
FAULTS: dict[str, Fault] = {
    name_of(fault): fault
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
        *betrayals.FAULTS,
    )
}


@contextmanager
def _stopped(pid: int) -> Iterator[str]:
    send(pid, signal.SIGSTOP)
    try:
        yield f"process {pid}"
    finally:
        send(pid, signal.SIGCONT)


def _flip_bit(path: Path) -> None:
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes(each ^ 1 for each in first))


def _cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)
