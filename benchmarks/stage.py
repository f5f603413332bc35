# SPDX-License-Identifier: Apache-2.0
"""What runs during the measurements: Keystone, a bare Glance, Glances with the filter, targets."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Self

from benchmarks.site import Site
from glance_repl_mw.opts import REPLICATION_OPTIONS
from tests.functional.cloud import PATIENT_SQLITE, Cloud, merged
from tests.lab.databases import MariaDb
from tests.lab.glance import Glance
from tests.lab.keystone import Keystone
from tests.lab.webservers import Nginx

MEMORY = Path("/dev/shm")
TARGETS = 3
COPIES = ("copy-a", "copy-b", "copy-c")
PROCESSES = 2
# Enough for the hundred uploads at once of one scenario.
THREADS = 64
# Which the tests set otherwise.
_AS_BY_DEFAULT = {
    "replication": {
        each.name: str(each.default)
        for each in REPLICATION_OPTIONS
        if each.name in ("writer_nice", "give_way_seconds")
    }
}


class GlanceDatabase(MariaDb):
    """MariaDB as it comes, without what the tests make stricter."""

    def command(self) -> list[str]:
        return [*super().command(), "--loose-innodb-snapshot-isolation=OFF"]


class Stage:
    """Keystone, one Glance without the filter and one with it, each with three nginx servers.

    Their records are in MariaDB, as in a cloud, where it is installed: requests would wait for
    each other at an SQLite file. The rows of the replicas are in SQLite, as they are by default.

    The bare one is a multi-store Glance that can import to all its stores at once: one more
    worker than the three copies, since the first of its four stores is the primary.
    """

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="glance-repl-mw-bench-", dir=MEMORY))
        self._numbers = count(1)
        self._stack = ExitStack()

        self.database: MariaDb | None = None

    def __enter__(self) -> Self:
        try:
            if MariaDb.available() is None:
                database = GlanceDatabase(self.directory("mariadb"))
                self.database = self._stack.enter_context(database)
            self.keystone = self._stack.enter_context(Keystone(self.directory("keystone")))
            self.keystone.add_user("replicator", "bench-replicator", "service", ("admin",))
            self.keystone.add_user("alice", "bench-alice", "demo", ("member",))
            self.bare = self._bare()
            self.ours = self._stack.enter_context(self.filtered())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self._stack.close()
        finally:
            shutil.rmtree(self.top)

    def directory(self, name: str) -> Path:
        """A new directory in memory, that servers without root's rights can enter."""
        self.top.chmod(0o755)
        directory = self.top / f"{next(self._numbers)}-{name}"
        directory.mkdir()
        return directory

    @contextmanager
    def filtered(self, targets: int | Mapping[str, Any] = TARGETS, **cloud: Any) -> Iterator[Site]:
        """A Glance with the filter, whose writer runs; servers by name, or so many nginx.

        :param cloud: further arguments of `tests.functional.cloud.Cloud`
        """
        directory = self.directory("filtered")
        if isinstance(targets, int):
            targets = {f"target-{n}": Nginx(directory / f"target-{n}") for n in range(targets)}
        options = (self._database_options(), _AS_BY_DEFAULT, cloud.get("options", {}))
        cloud["options"] = merged(*options)
        with Cloud(directory, self.keystone, targets=targets, **self._server(), **cloud) as ours:
            ours.wake()
            ours.writer()
            yield Site(ours.glance, self.keystone, list(targets.values()), ours, self.database)

    def _bare(self) -> Site:
        directory = self.directory("bare")
        targets = [
            self._stack.enter_context(Nginx(directory / f"target-{n}")) for n in range(TARGETS)
        ]
        glance = Glance(
            directory / "glance",
            self.keystone,
            stores=("primary", *COPIES),
            target_ports=[target.port for target in targets],
            options=merged(
                self._database_options(),
                {"image_import_opts": {"max_parallel_stores": str(1 + TARGETS)}},
            ),
            **self._server(),
        )
        self._stack.enter_context(glance)
        return Site(glance, self.keystone, targets, database=self.database)

    def _server(self) -> dict[str, Any]:
        patience = () if self.database else PATIENT_SQLITE
        return {"processes": PROCESSES, "threads": THREADS, "uwsgi_arguments": patience}

    def _database_options(self) -> dict[str, dict[str, str]]:
        """Options for a Glance with a database of its own."""
        if self.database is None:
            return {}
        return {"database": {"connection": self.database.new_database()}}
