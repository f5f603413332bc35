# SPDX-License-Identifier: Apache-2.0
"""A crash campaign: users work all the time while parts of the deployment are killed or cut off.

::

    tools/chaos --rounds 500 --seed 7

In each round one fault, drawn from the seed, strikes for a moment and is healed. Every few rounds
the users pause, and `tests.chaos.invariants`, a program that looks only from outside, must find
that the deployment has come to rest with nothing lost and nothing left over.
"""

import argparse
import collections
import dataclasses
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import prettytable
from keystoneauth1.session import Session

from tests.chaos.deployment import chaos_cloud, keystone_with_users
from tests.chaos.faults import FAULTS, OF_GALERA, OF_SEVERAL_NODES
from tests.chaos.invariants import Finding, table
from tests.chaos.load import Load
from tests.chaos.observation import all_images
from tests.chaos.victims import manage
from tests.chaos.watch import Watch
from tests.functional.cloud import Cloud
from tests.lab import commands
from tests.lab.coordinators import Redis
from tests.lab.copies import Copies
from tests.lab.databases import DatabaseServer, MariaDb, PostgreSql
from tests.lab.faults import FaultyProxy
from tests.lab.galera import Galera
from tests.lab.images import image_bytes
from tests.lab.keystone import Keystone
from tests.lab.process import ServerError, wait_until
from tests.lab.webservers import Nginx

_MEMORY = Path("/dev/shm")
_LONGEST_CALM_SECONDS = 1.0
_DOWNLOAD_BYTES = (1, 4_000, 300_000, 5_000_000)
_DATABASES = {"mariadb": MariaDb, "postgresql": PostgreSql}
_CHECKER = "tests.chaos.invariants"


class Violated(Exception):
    """The deployment does not come to rest as it shall; the text is the whole report."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a campaign runs.

    :ivar rounds_per_check: after so many rounds, and at the end, everything must come to rest
    :ivar rest_seconds: within which it must
    :ivar minutes: no round begins later, None for no limit
    :ivar faults: by name, those that may strike
    :ivar nodes: how many API nodes there are; each fault strikes one of them
    :ivar database: where the replicas' rows and Glance's own records are: sqlite, mariadb,
        postgresql or galera, of which each API node uses another node for the rows
    :ivar fault_seconds: how long a fault lasts at most
    """

    seed: int
    rounds: int = 30
    rounds_per_check: int = 10
    rest_seconds: float = 120.0
    minutes: float | None = None
    faults: tuple[str, ...] = tuple(FAULTS)
    nodes: int = 1
    database: str = "sqlite"
    fault_seconds: float = 4.0


class Campaign:
    """Runs one campaign against a cloud that has been started.

    :param downloads: bodies by the URL that web-download may read
    """

    def __init__(self, cloud: Cloud, downloads: dict[str, bytes], plan: Plan) -> None:
        self._cloud = cloud
        self._plan = plan
        self._rng = random.Random(plan.seed)
        self._load = Load(cloud, downloads, plan.seed)
        self._faults = _possible(plan)
        self._to_strike: list[str] = []
        self._struck: collections.Counter[str] = collections.Counter()
        self._story: list[str] = []
        self._rest_seconds: list[float] = []
        self._images_alive = 0
        self._admin: Session = cloud.keystone.session()

    def run(self) -> None:
        """Run all rounds; blocks.

        :raises Violated: at the first check that fails
        """
        limit = self._plan.minutes
        end_at = float("inf") if limit is None else time.monotonic() + limit * 60
        watch = Watch(
            self._cloud.nodes, self._cloud.targets.values(), self._admin, self._load.ledger.report
        )
        with self._load, watch:
            for number in range(1, self._plan.rounds + 1):
                self._round(number)
                is_over = number == self._plan.rounds or time.monotonic() >= end_at
                if is_over or number % self._plan.rounds_per_check == 0:
                    self._check(number)
                if is_over:
                    break

    def summary(self) -> str:
        """The campaign in numbers."""
        shown = prettytable.PrettyTable(["What", "Number"])
        shown.align["What"], shown.align["Number"] = "l", "r"
        shown.add_row(["seed", self._plan.seed])
        for (what, outcome), number in sorted(self._load.counts.items()):
            shown.add_row([f"{what.replace('_', ' ')}: {outcome}", number])
        shown.add_row(["images alive at the end", self._images_alive], divider=True)
        for name in self._plan.faults:
            shown.add_row([name, self._struck[name]])
        shown.add_row(["rounds", sum(self._struck.values())], divider=True)
        if self._rest_seconds:
            shown.add_row(["checks passed", len(self._rest_seconds)])
            median = statistics.median(self._rest_seconds)
            shown.add_row(["seconds to come to rest, median", f"{median:.1f}"])
            shown.add_row(["seconds to come to rest, most", f"{max(self._rest_seconds):.1f}"])
        return str(shown)

    def _round(self, number: int) -> None:
        calm = self._rng.uniform(0, _LONGEST_CALM_SECONDS)
        name = self._next_fault()
        # Short ones are as likely as long ones: much happens in the first moments.
        lasts = self._plan.fault_seconds * self._rng.random() ** 2
        time.sleep(calm)
        if len(self._cloud.nodes) > 1:
            self._cloud.glance = self._rng.choice(self._cloud.nodes)
        if self._cloud.copies is not None:
            self._cloud.copies.take()
        with FAULTS[name](self._cloud, self._rng) as victim:
            self._struck[name] += 1
            self._tell(f"round {number}: {name} for {lasts:.1f} s: {victim}")
            time.sleep(lasts)

    def _next_fault(self) -> str:
        """Each strikes once before any strikes again."""
        if not self._to_strike:
            self._to_strike = self._rng.sample(self._faults, len(self._faults))
        return self._to_strike.pop()

    def _check(self, number: int) -> None:
        """Let everything come to rest, and see that it does."""
        self._load.pause()
        self._cloud.wake()
        begun = time.monotonic()
        self._load.clear_away()
        checked = self._run_checker()
        if checked.returncode and self._deletions_are_stopped():
            # Databases that were brought back know of no DELETE any more: an operator looks.
            self._tell(f"the operator releases: {manage(self._cloud, 'deletions', 'release')}")
            checked = self._run_checker()
        took = time.monotonic() - begun
        images = {each.image_id: each for each in all_images(self._admin, self._cloud.glance.url)}
        broken = self._load.ledger.broken(images)
        self._images_alive = sum(image.has_data for image in images.values())
        if checked.returncode or broken:
            raise Violated(self._report(number, checked, broken))
        self._rest_seconds.append(took)
        self._tell(f"round {number}: at rest after {took:.1f} s, {len(images)} images")
        self._load.resume()

    def _deletions_are_stopped(self) -> bool:
        config_file = self._cloud.glance.config_file
        return commands.manage("--config-file", config_file, "deletions", "show").returncode == 1

    def _run_checker(self) -> "subprocess.CompletedProcess[str]":
        cloud = self._cloud
        places = [
            f"--target={name}={target.url},{target.root}" for name, target in cloud.targets.items()
        ]
        return subprocess.run(
            [
                *(sys.executable, "-m", _CHECKER, "--glance", cloud.glance.url, *places),
                *(f"--spool={cloud.spool_of(node)}" for node in cloud.nodes),
                *("--config-file", str(cloud.glance.config_file)),
                *("--wait", str(self._plan.rest_seconds), "--format", "json"),
            ],
            cwd=Path(__file__).parents[2],
            env=cloud.keystone.client_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def _report(
        self, number: int, checked: "subprocess.CompletedProcess[str]", broken: list[str]
    ) -> str:
        lines = [f"seed {self._plan.seed}: round {number} did not come to rest", *self._story]
        if checked.stdout:
            found = json.loads(checked.stdout)["findings"]
            lines.append(table([Finding(**finding) for finding in found]))
        lines += [checked.stderr, *(f"broken promise: {promise}" for promise in broken)]
        return "\n".join([*lines, self.summary(), f"logs: {self._cloud.glance.log}"])

    def _tell(self, line: str) -> None:
        self._story.append(line)
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _possible(plan: Plan) -> Sequence[str]:
    """The faults of the plan that its deployment can have; all of them where it can have none."""
    impossible = OF_SEVERAL_NODES if plan.nodes == 1 else ()
    if plan.database != "galera":
        impossible += OF_GALERA
    return [name for name in plan.faults if name not in impossible] or plan.faults


@contextmanager
def downloads(directory: Path, seed: int) -> Iterator[tuple[Nginx, dict[str, bytes]]]:
    """A web server with images for web-download; gives it and the bodies by their URL."""
    rng = random.Random(f"{seed} downloads")
    with Nginx(directory) as server:
        bodies = {
            f"{server.url}{size}": image_bytes(size, rng.randbytes) for size in _DOWNLOAD_BYTES
        }
        for url, body in bodies.items():
            (server.root / url.rpartition("/")[2]).write_bytes(body)
        yield server, bodies


def run(directory: Path, keystone: Keystone, plan: Plan) -> str:
    """Run a campaign in a deployment of its own; returns its summary.

    :raises Violated:
    """
    with downloads(directory / "downloads", plan.seed) as (server, bodies), ExitStack() as stack:
        shared, server_of_rows = _shared(directory, plan, stack)
        cloud = chaos_cloud(directory, keystone, server.port, nodes=plan.nodes, **shared)
        cloud.database = server_of_rows
        with cloud:
            wait_until(lambda: cloud.request("GET", "v2/images").ok, 60, "Glance answers")
            if "database brought back" in plan.faults:
                cloud.copies = Copies(cloud.connection)
                wait_until(cloud.copies.take, 60, "the writer has made its tables")
            campaign = Campaign(cloud, bodies, plan)
            try:
                campaign.run()
            except Violated:
                raise
            except BaseException:
                print(campaign.summary())
                raise
            return campaign.summary()


def _shared(
    directory: Path, plan: Plan, stack: ExitStack
) -> tuple[dict[str, Any], DatabaseServer | Galera | None]:
    """Start what several nodes share, until the stack ends; returns how it is reached."""
    server: DatabaseServer | None = None
    shared: dict[str, Any] = {}
    if plan.nodes > 1:
        (directory / "redis").mkdir(parents=True)
        redis = stack.enter_context(Redis(directory / "redis", "redis"))
        ways = [stack.enter_context(FaultyProxy(redis)) for _ in range(plan.nodes)]
        shared["ways_to_coordinator"] = ways
    if plan.database == "galera":
        cluster = stack.enter_context(Galera(directory / "database", plan.nodes))
        shared["connections"] = cluster.new_owned_databases()
        shared["connection"] = shared["connections"][0]
        # As deployments have it: Glance's own records are written at one node only.
        shared["glance_connection"] = cluster.new_database()
        return shared, cluster
    if plan.database != "sqlite":
        (directory / "database").mkdir(parents=True)
        server = stack.enter_context(_DATABASES[plan.database](directory / "database"))
        shared["connection"] = server.new_owned_database()
        shared["glance_connection"] = server.new_database()
    return shared, server


def main() -> int:
    """Run a campaign with servers of its own, and leave nothing unless it fails."""
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    plan = Plan(
        seed=options.seed,
        rounds=options.rounds,
        rounds_per_check=options.check_every,
        rest_seconds=options.rest_seconds,
        minutes=options.minutes,
        faults=tuple(options.only or FAULTS),
        nodes=options.nodes,
        database=options.database,
        fault_seconds=options.fault_seconds,
    )
    print(f"seed {plan.seed}", flush=True)
    parent = _MEMORY if _MEMORY.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="glance-repl-mw-chaos-", dir=parent))
    directory.chmod(0o755)
    try:
        with keystone_with_users(directory / "keystone") as keystone:
            print(run(directory / "cloud", keystone, plan))
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
        prog="tools/chaos", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--minutes", type=float, help="begin no round later")
    parser.add_argument(
        "--only", action="append", choices=FAULTS, metavar="FAULT", help="may be given repeatedly"
    )
    parser.add_argument("--nodes", type=int, default=Plan.nodes)
    parser.add_argument(
        "--database", choices=("sqlite", *_DATABASES, "galera"), default=Plan.database
    )
    parser.add_argument("--check-every", type=int, default=Plan.rounds_per_check, metavar="ROUNDS")
    parser.add_argument(
        "--fault-seconds",
        type=float,
        default=Plan.fault_seconds,
        metavar="SECONDS",
        help="how long a fault lasts at most",
    )
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
