# SPDX-License-Identifier: Apache-2.0
"""The servers and directories that functional tests share."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from tests.functional.cloud import Cloud
from tests.lab.coordinators import Redis
from tests.lab.databases import MariaDb, PostgreSql
from tests.lab.keystone import Keystone
from tests.lab.webservers import Nginx

MEMORY = Path("/dev/shm")
WANTED_BYTES = 8 << 30

Workdir = Callable[[str], Path]


class Installable(Protocol):
    """Something that tests start and that may be missing."""

    def available(self) -> str | None:
        """Return None, or why it cannot be started here."""


Require = Callable[[Installable], None]


@pytest.fixture(scope="session")
def workdir() -> Iterator[Workdir]:
    """Make directories, in memory where there is room, that go when the session ends."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > WANTED_BYTES
    top = Path(tempfile.mkdtemp(prefix="glance-repl-mw-", dir=MEMORY if in_memory else None))
    # Servers that drop root's rights have to pass.
    top.chmod(0o755)
    numbers = count(1)

    def make(name: str) -> Path:
        directory = top / f"{next(numbers)}-{name}"
        directory.mkdir()
        return directory

    yield make
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Programs that tests interrupt must not ignore it, as a shell's background jobs do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def require() -> Require:
    """Skip the test when a server or program is not installed; in CI, fail it."""

    def check(server: Installable) -> None:
        reason = server.available()
        if reason and os.environ.get("CI") == "true":
            pytest.fail(reason)
        elif reason:
            pytest.skip(reason)

    return check


@pytest.fixture(scope="session")
def keystone(workdir: Workdir) -> Iterator[Keystone]:
    """Keystone with the service user `replicator` and `alice`, a member of the project `demo`."""
    with Keystone(workdir("keystone")) as server:
        server.add_user("replicator", "lab-replicator-password", "service", ("admin",))
        server.add_user("alice", "lab-alice-password", "demo", ("member",))
        yield server


@pytest.fixture(scope="session")
def mariadb(workdir: Workdir, require: Require) -> Iterator[MariaDb]:
    """MariaDB; a test that ends it starts it again."""
    require(MariaDb)
    with MariaDb(workdir("mariadb")) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(workdir: Workdir, require: Require) -> Iterator[PostgreSql]:
    """PostgreSQL; a test that ends it starts it again."""
    require(PostgreSql)
    with PostgreSql(workdir("postgresql")) as server:
        yield server


@pytest.fixture(scope="module")
def redis(workdir: Workdir, require: Require) -> Iterator[Redis]:
    """Redis, which the nodes of one module share."""
    require(Redis)
    with Redis(workdir("redis"), "redis") as server:
        yield server


@pytest.fixture(scope="session")
def cloud(keystone: Keystone, workdir: Workdir, require: Require) -> Iterator[Cloud]:
    """Glance with the filter and three Nginx targets; tests leave it running and settled."""
    require(Nginx)
    with Cloud(workdir("cloud"), keystone, stores=("primary", "second")) as running:
        yield running
