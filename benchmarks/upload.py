"""Upload seconds with and without the filter, and the lag of the last location.

Real Keystone and Glance under uWSGI, three nginx targets, all data in memory; the two contenders
take turns in one run, so that the machine's noise meets both::

    python -m benchmarks.upload --mib 1024 --runs 5
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.lab.glance import Glance
from tests.lab.keystone import Keystone
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

TARGETS = 3
LOCATIONS_SECONDS = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--chunked", action="store_true", help="send no Content-Length")
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    arguments = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="glance-repl-mw-bench-", dir=arguments.directory))
    top.chmod(0o755)
    try:
        with ExitStack() as stack:
            bench = Bench(stack, top, arguments.mib, arguments.chunked)
            report(bench.alternate(arguments.runs))
    finally:
        shutil.rmtree(top)


class Bench:
    """One Keystone, two Glances (bare and with the filter), three targets, one image file."""

    def __init__(self, stack: ExitStack, top: Path, mib: int, chunked: bool) -> None:
        self.chunked = chunked
        self.keystone = stack.enter_context(Keystone(top / "keystone"))
        self.keystone.add_user("replicator", "bench-replicator", "service", ("admin",))
        self.targets = [
            stack.enter_context(Nginx(top / f"target-{number}")) for number in range(TARGETS)
        ]
        ports = [target.port for target in self.targets]
        self.bare = stack.enter_context(
            Glance(top / "bare", self.keystone, target_ports=ports, processes=1)
        )
        self.filtered = Glance(
            top / "filtered", self.keystone, target_ports=ports, replication=True, processes=1
        )
        self.filtered.options = self._options(top)
        stack.enter_context(self.filtered)
        self.image = top / "image.raw"
        with self.image.open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(1 << 20))

    def _options(self, top: Path) -> dict[str, dict[str, str]]:
        names = [f"target-{number}" for number in range(TARGETS)]
        replication = {
            "enabled_targets": ",".join(f"{name}:http" for name in names),
            "spool_dir": str(top / "spool"),
            "connection": f"sqlite:///{top}/replication.sqlite",
            "auth_type": "password",
            "endpoint_override": self.filtered.url,
            **self.keystone.credentials("replicator", "service"),
        }
        sections = {
            f"replication:{name}": {"url": target.url}
            for name, target in zip(names, self.targets, strict=True)
        }
        return {"replication": replication, **sections}

    def alternate(self, runs: int) -> list[dict[str, float]]:
        """Upload by turns to both; the first pair warms up and does not count."""
        results = []
        for run in range(runs + 1):
            bare, _ = self.upload(self.bare, 0)
            filtered, lag = self.upload(self.filtered, TARGETS)
            row = {"bare": bare, "filter": filtered, "lag": lag}
            print(json.dumps({"run": run, **row}), file=sys.stderr)
            results.append(row)
        return results[1:]

    def upload(self, glance: Glance, replicas: int) -> tuple[float, float]:
        """Seconds of the upload and from its end to the last of so many further locations."""
        client = glance.client(self.keystone.credentials())
        image = client.images.create(name="bench", disk_format="raw", container_format="bare")
        begun = time.monotonic()
        self.curl(f"{glance.url}v2/images/{image.id}/file")
        uploaded = time.monotonic()
        wait_until(
            lambda: len(client.images.get(image.id).locations) == 1 + replicas,
            LOCATIONS_SECONDS,
            "all locations",
        )
        located = time.monotonic()
        client.images.delete(image.id)
        for target in self.targets:
            for path in target.root.iterdir():
                path.unlink()
        return uploaded - begun, located - uploaded

    def curl(self, url: str) -> None:
        token = self.keystone.session().get_token()
        headers = ["Content-Type: application/octet-stream", f"X-Auth-Token: {token}"]
        if self.chunked:
            headers.append("Transfer-Encoding: chunked")
        arguments = [word for header in headers for word in ("-H", header)]
        command = ["curl", "-sSf", "-T", str(self.image), *arguments, url]
        subprocess.run(command, check=True)


def report(rows: list[dict[str, float]]) -> None:
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    pairs = [row["filter"] / row["bare"] for row in rows]
    result = {
        "runs": len(rows),
        "median_seconds_bare": round(medians["bare"], 3),
        "median_seconds_filter": round(medians["filter"], 3),
        "ratio_of_medians": round(medians["filter"] / medians["bare"], 3),
        "ratios_pair_by_pair": [round(ratio, 3) for ratio in pairs],
        "lag_seconds_median": round(medians["lag"], 3),
        "lag_seconds_all": [round(row["lag"], 3) for row in rows],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
