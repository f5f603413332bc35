# SPDX-License-Identifier: Apache-2.0
"""Faults in which a party that is trusted gives wrong answers, or none that can be built on.

Each is healed when its context is left, as an operator would heal it.
"""

import random
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import psutil

from glance_repl_mw.checks.database import sqlite_file
from tests.chaos.victims import Fault, any_target, kill_node, manage, signal_writers, told
from tests.functional.cloud import Cloud, writers_of
from tests.lab.faults import HEALTHY
from tests.lab.faults import Fault as Behaviour
from tests.lab.galera import Galera
from tests.lab.process import wait_until

_SERVICE_USER = ("replicator", "service")
_LOCK_SECONDS = 60
_CLAIM_SECONDS = 60


@contextmanager
def service_role_lost(cloud: Cloud, _rng: random.Random) -> Iterator[str]:
    """The writer's user is no administrator any more, only a member of its own project."""
    cloud.keystone.give_role(*_SERVICE_USER, "member")
    cloud.keystone.take_role(*_SERVICE_USER, "admin")
    try:
        yield "role admin of replicator"
    finally:
        cloud.keystone.give_role(*_SERVICE_USER, "admin")


@contextmanager
def endpoint_switched(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """A node's writer reaches another Glance of the same Keystone: empty, or a stranger's."""
    name = rng.choice(sorted(cloud.other_glances))
    other, way = cloud.other_glances[name], cloud.ways_to_glance[cloud.nodes.index(cloud.glance)]
    if not other.running:
        other.start()
        if name == "foreign":
            _fill(cloud, name)
    right = way.server
    way.lead_to(other)
    try:
        yield f"to the {name} one"
    finally:
        way.lead_to(right)


@contextmanager
def target_endless(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """Listings and objects of a target never end."""
    name, target = any_target(cloud, rng)
    methods = rng.choice((("PROPFIND",), ("GET",), ("GET", "PROPFIND")))
    behaviour = Behaviour(endless=rng.choice(("plain", "gzip")), methods=methods)
    target.switch(behaviour)
    try:
        yield f"{name}, {told(behaviour)}"
    finally:
        target.switch(HEALTHY)


@contextmanager
def target_emptied(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """An empty file system is where the objects were; they come back, or never do.

    Where they never do, the operator says so; until then the target is not used.
    """
    name, target = any_target(cloud, rng)
    aside = target.root.with_name("aside")
    comes_back = rng.random() < 0.5
    target.root.rename(aside)
    target.root.mkdir()
    try:
        yield f"{name}, {'for a while' if comes_back else 'for good'}"
    finally:
        if comes_back:
            target.root.rename(target.root.with_name("emptied"))
            aside.rename(target.root)
            shutil.rmtree(target.root.with_name("emptied"))
        else:
            shutil.rmtree(aside)
            wait_until(
                lambda: "(status 0)" in manage(cloud, "target", "claim", name),
                _CLAIM_SECONDS,
                "the operator claims what is there now",
            )


@contextmanager
def database_refusing(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """Rows can be read but not written; the writer may be killed before that is healed."""
    with ExitStack() as stack:
        if cloud.database is not None:
            how = "read-only"
            cloud.database.refuse_writes()
            stack.callback(cloud.database.accept_writes)
        elif rng.random() < 0.7:
            how = "the writer's disk takes nothing"
            for writer in writers_of(cloud.glance):
                stack.callback(_limit_files, writer, psutil.RLIM_INFINITY)
                _limit_files(writer, 0)
        else:
            how = "locked by another process"
            stack.enter_context(_locked(cloud.connection))
        dies = rng.random() < 0.5
        yield f"{how}{', and the writer is killed' if dies else ''}"
        if dies:
            signal_writers(cloud, signal.SIGKILL)


@contextmanager
def database_node_killed(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """A node of a Galera cluster dies and joins again; not the one with Glance's own records."""
    if not isinstance(cloud.database, Galera):
        yield "nothing: the database has no nodes"
        return
    node = rng.choice(cloud.database.nodes[1:])
    node.kill()
    yield node.name
    node.start()


@contextmanager
def database_brought_back(cloud: Cloud, rng: random.Random) -> Iterator[str]:
    """All nodes are stopped, and begin again with the rows as they were some rounds ago."""
    copies = cloud.copies
    if copies is None or not copies.taken:
        yield "nothing: there is no copy"
        return
    age = rng.randrange(len(copies.taken))
    copy = copies.taken[-1 - age]
    yield f"as it was {age} rounds ago"
    for node in cloud.nodes:
        kill_node(node)
    copies.bring_back(copy)
    for node in cloud.nodes:
        node.start()


FAULTS: tuple[Fault, ...] = (
    service_role_lost,
    endpoint_switched,
    target_endless,
    target_emptied,
    database_refusing,
    database_node_killed,
    database_brought_back,
)


def _fill(cloud: Cloud, name: str) -> None:
    """Give another Glance images that have nothing to do with those of the cloud."""
    glance = cloud.other_glances[name]
    for body in (b"first", b"second", bytes(100_000)):
        image_id = cloud.create_image(glance=glance)
        cloud.upload(image_id, body, glance=glance).raise_for_status()


def _limit_files(process: psutil.Process, most_bytes: int) -> None:
    """From then on, writes to any file are refused: EFBIG, which SQLite calls a disk I/O error."""
    with suppress(psutil.NoSuchProcess):
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (most_bytes, hard))


@contextmanager
def _locked(connection: str) -> Iterator[None]:
    """Hold the lock that each writing transaction of SQLite needs."""
    file = sqlite_file(connection)
    assert file is not None
    with closing(sqlite3.connect(file, timeout=_LOCK_SECONDS, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")
