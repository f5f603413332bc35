# SPDX-License-Identifier: Apache-2.0
"""Power cuts: a node loses, again and again, what it had not fsynced, and must come to rest.

::

    tools/powercuts --cuts 500 --seed 7

The spool and the SQLite file lie on a disk that forgets. Users upload, rename and delete through
the real filter, the real writer replicates to two nginx; Glance and the targets are elsewhere and
stay. At a moment drawn from the seed, between two changes of the disk, all processes of the node
are killed and the disk is left with what it has to keep, or with part of the rest. The node begins
again from that, and meets the next cut, perhaps in the middle of its recovery. Every few cuts the
users rest, and `tests.chaos.invariants` must find that nothing is lost and nothing left over.
"""

import argparse
import collections
import dataclasses
import multiprocessing
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from contextlib import closing, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.chaos import deployment, invariants
from tests.chaos.observation import (
    NotSeen,
    Observation,
    Place,
    all_images,
    object_names,
    read_all,
    spool_files,
)
from tests.chaos.watch import Watch
from tests.lab.glance import Glance, Options
from tests.lab.keystone import Keystone
from tests.lab.process import ServerError, wait_until
from tests.lab.uwsgi import PATIENT_SQLITE
from tests.lab.webservers import Nginx
from tests.powercut import node
from tests.powercut.mount import LosingDisk

_MEMORY = Path("/dev/shm")
_SITES = ("site-a", "site-b")
_LONGEST_POWER_SECONDS = 40.0
# Powers of two.
_FEWEST_CHANGES, _MOST_CHANGES = 5.0, 10.5
_NEVER = 1 << 40
_REST_PAUSE_SECONDS = 0.3
_JOIN_SECONDS = 30
# Nothing makes images seem to be missing here, and no target is ever down.
_QUICK = {
    **deployment.QUICK,
    "reconcile_interval_seconds": "1",
    "missing_image_delay_seconds": "1",
    "orphan_interval_seconds": "1",
    "spool_min_free_bytes": "0",
    "give_way_seconds": "0",
    "writer_nice": "0",
}


class Violated(Exception):
    """Something was lost or left over after a power cut; the text is the whole report."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many cuts there are.

    :ivar cuts_per_check: after so many, and at the end, everything must come to rest
    :ivar rest_seconds: within which it must
    """

    seed: int
    cuts: int = 40
    cuts_per_check: int = 10
    # For 60 of them files that look half made stay in the spool.
    rest_seconds: float = 300.0


class Node:
    """An API node with its spool and its rows on a disk that forgets.

    :param glance: where it is without the filter, on another machine
    """

    def __init__(
        self, directory: Path, disk: LosingDisk, glance: Glance, options: Options
    ) -> None:
        self.spool = disk.path / "spool"
        self.database = disk.path / "replication.sqlite"
        self._config_file = directory / "replication.conf"
        self._log = directory / "node.log"
        self._glance = glance
        parser = ConfigParser(interpolation=None)
        parser.read_dict(options)
        with self._config_file.open("w") as file:
            parser.write(file)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([node.__name__])

    def begin(self, token: str | None, seed: str) -> list[BaseProcess]:
        """Start the writer and, with a user's token, the API process."""
        common = (str(self._config_file), str(self._log))
        processes = [self._context.Process(target=node.run_writer, args=common, daemon=True)]
        if token:
            arguments = (*common, self._glance.url, token, seed)
            processes.append(
                self._context.Process(target=node.run_api, args=arguments, daemon=True)
            )
        for process in processes:
            process.start()
        return processes

    def rows(self) -> list[dict[str, Any]]:
        """All replicas as the database has them.

        :raises NotSeen:
        """
        try:
            with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
                database.row_factory = sqlite3.Row
                return [dict(row) for row in database.execute("SELECT * FROM replicas")]
        except sqlite3.Error as error:
            raise NotSeen(f"the rows: {error}") from error


class PowerCuts:
    """Runs one campaign against what has been started."""

    def __init__(
        self, plan: Plan, disk: LosingDisk, there: Node, glance: Glance, targets: dict[str, Nginx]
    ) -> None:
        self._plan = plan
        self._disk = disk
        self._node = there
        self._glance = glance
        self._targets = targets
        self._rng = random.Random(plan.seed)
        self._admin = glance.keystone.session()
        self._user = glance.keystone.session("alice", "demo")
        self._seen: list[str] = []
        self._story: list[str] = []
        self._counts: collections.Counter[str] = collections.Counter()

    def run(self) -> str:
        """Cut as often as planned; returns a summary.

        :raises Violated: at the first check that fails
        """
        watch = Watch([self._glance], self._targets.values(), self._admin, self._seen.append)
        with watch:
            self._make_all()
            for number in range(1, self._plan.cuts + 1):
                self._live(number)
                if number == self._plan.cuts or number % self._plan.cuts_per_check == 0:
                    self._check(number)
        told = ", ".join(f"{number} {what}" for what, number in sorted(self._counts.items()))
        return f"seed {self._plan.seed}: {told}"

    def _make_all(self) -> None:
        """Let the tables and directories be there that are made once in a node's life."""
        processes = self._begin(users=False, seed="", strike_after=_NEVER)
        wait_until(self._is_made, self._plan.rest_seconds, "the writer has made its tables")
        self._disk.sync()
        self._cut(processes, None)

    def _is_made(self) -> bool:
        try:
            self._node.rows()
        except NotSeen:
            return False
        return (self._node.spool / "node").exists()

    def _begin(self, *, users: bool, seed: str, strike_after: int) -> list[BaseProcess]:
        processes = self._node.begin(self._user.get_token() if users else None, seed)
        self._disk.arm([process.pid or 0 for process in processes], strike_after)
        return processes

    def _live(self, number: int) -> None:
        """Let the node work until its power goes, and the disk lose what it may."""
        # Early cuts are as likely as late ones: much happens in the first moments.
        after = int(2 ** self._rng.uniform(_FEWEST_CHANGES, _MOST_CHANGES))
        seed = f"{self._plan.seed} {number}"
        processes = self._begin(users=True, seed=seed, strike_after=after)
        for process in processes:
            process.join(_LONGEST_POWER_SECONDS / len(processes))
        luck = self._rng.choice((None, self._rng.getrandbits(32), self._rng.getrandbits(32)))
        self._cut(processes, luck)
        how = "strictly" if luck is None else f"with luck {luck}"
        self._counts["strict cuts" if luck is None else "lucky cuts"] += 1
        self._story.append(f"cut {number} after {after} changes, {how}")

    def _cut(self, processes: list[BaseProcess], luck: int | None) -> None:
        self._disk.strike()
        for process in processes:
            process.join(_JOIN_SECONDS)
            if process.exitcode != -signal.SIGKILL:
                self._seen.append(f"a process of the node ended with {process.exitcode}")
        self._disk.cut(luck)

    def _check(self, number: int) -> None:
        """Let the writer alone bring everything to rest, and see that it does."""
        begun = time.monotonic()
        self._clear_away()
        processes = self._begin(users=False, seed="", strike_after=_NEVER)
        findings, seen = self._wait_until_held()
        self._cut(processes, None)
        took = time.monotonic() - begun
        if self._seen or any(finding.violations for finding in findings):
            lines = [f"seed {self._plan.seed}: not at rest after cut {number}", *self._story]
            raise Violated("\n".join([*lines, invariants.table(findings), *self._seen]))
        images = sum(image.has_data for image in seen.images.values()) if seen else 0
        print(f"cut {number}: at rest after {took:.1f} s, {images} images with data", flush=True)
        self._counts["checks passed"] += 1

    def _clear_away(self) -> None:
        """Delete what has no data; Glance may wait for the rest of a dead client's upload."""
        for image in all_images(self._admin, self._glance.url):
            if not image.has_data:
                url = f"{self._glance.url}v2/images/{image.image_id}"
                self._admin.delete(url, raise_exc=False)

    def _wait_until_held(self) -> tuple[list[invariants.Finding], Observation | None]:
        end_at = time.monotonic() + self._plan.rest_seconds
        while True:
            is_last = time.monotonic() >= end_at
            try:
                seen = self._look()
                findings = invariants.examine(seen)
                if is_last or not any(finding.violations for finding in findings):
                    return findings, seen
            except NotSeen as error:
                if is_last:
                    return [invariants.Finding("everything can be seen", 0, [str(error)])], None
            time.sleep(_REST_PAUSE_SECONDS)

    def _look(self) -> Observation:
        images = {each.image_id: each for each in all_images(self._admin, self._glance.url)}
        places = tuple(
            Place(name, target.url, target.root) for name, target in self._targets.items()
        )
        return Observation(
            places=places,
            images=images,
            contents=read_all(image for image in images.values() if image.has_data),
            objects={place.name: object_names(place) for place in places},
            spool=spool_files(self._node.spool),
            rows=self._node.rows(),
        )


def options_for(
    disk: LosingDisk, glance: Glance, targets: Mapping[str, Nginx], keystone: Keystone
) -> dict[str, dict[str, str]]:
    """The sections of the node's configuration file."""
    return {
        "replication": {
            "enabled_targets": ",".join(f"{name}:http" for name in targets),
            "spool_dir": str(disk.path / "spool"),
            "connection": f"sqlite:///{disk.path}/replication.sqlite",
            "writer": "external",
            "auth_type": "password",
            "endpoint_override": glance.url,
            **keystone.credentials("replicator", "service"),
            **_QUICK,
        },
        **{f"replication:{name}": {"url": target.url} for name, target in targets.items()},
    }


@contextmanager
def started(directory: Path, keystone: Keystone, plan: Plan) -> Iterator[PowerCuts]:
    """All that a campaign needs, in a directory of its own."""
    targets = {name: Nginx(directory / name, autoindex=True) for name in _SITES}
    ports = [target.port for target in targets.values()]
    glance = Glance(
        directory / "glance", keystone, target_ports=ports, uwsgi_arguments=PATIENT_SQLITE
    )
    disk = LosingDisk(directory / "disk")
    with targets[_SITES[0]], targets[_SITES[1]], glance, disk:
        there = Node(directory, disk, glance, options_for(disk, glance, targets, keystone))
        yield PowerCuts(plan, disk, there, glance, targets)


def main() -> int:
    """Run a campaign with servers of its own, and leave nothing unless it fails."""
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    plan = Plan(options.seed, options.cuts, options.check_every, options.rest_seconds)
    print(f"seed {plan.seed}", flush=True)
    parent = _MEMORY if _MEMORY.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="glance-repl-mw-powercuts-", dir=parent))
    try:
        with (
            deployment.keystone_with_users(directory / "keystone") as keystone,
            started(directory / "cloud", keystone, plan) as cuts,
        ):
            print(cuts.run())
    except (Violated, ServerError, TimeoutError) as error:
        print(f"{error}\neverything is left in {directory}", file=sys.stderr)
        return 1
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/powercuts", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--cuts", type=int, default=Plan.cuts)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--check-every", type=int, default=Plan.cuts_per_check, metavar="CUTS")
    parser.add_argument(
        "--rest-seconds",
        type=float,
        default=Plan.rest_seconds,
        metavar="SECONDS",
        help="within which everything must come to rest",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
