"""Backfill of many small images to a new target, and the restart with many rows.

A real Keystone, a real Glance under uWSGI and nginx targets, all data in memory::

    python -m benchmarks.reconciler backfill --images 2000
    python -m benchmarks.reconciler restart --rows 10000
"""

import argparse
import collections
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.functional.cloud import Cloud
from tests.lab.keystone import Keystone
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

UPLOADERS = 4
SECONDS = 3600
OBSERVED_SECONDS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    what = parser.add_subparsers(required=True)
    backfill = what.add_parser("backfill")
    backfill.add_argument("--images", type=int, default=2000)
    backfill.add_argument("--bytes", type=int, default=65536)
    backfill.set_defaults(run=measure_backfill)
    restart = what.add_parser("restart")
    restart.add_argument("--rows", type=int, default=10000)
    restart.set_defaults(run=measure_restart)
    arguments = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="glance-repl-mw-bench-", dir=arguments.directory))
    top.chmod(0o755)
    try:
        print(json.dumps(arguments.run(top, arguments), indent=2))
    finally:
        shutil.rmtree(top)


def measure_backfill(top: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """First to one target, with Glance as the source, then to another, from the first."""
    with a_cloud(top, ["first"]) as cloud:
        filters, cloud.glance.paste_filters = cloud.glance.paste_filters, {}
        cloud.start()
        with ThreadPoolExecutor(UPLOADERS) as pool:
            bodies = (os.urandom(arguments.bytes) for _ in range(arguments.images))
            image_ids = list(pool.map(cloud.new_image, bodies))
        cloud.glance.paste_filters = filters
        results = {}
        for source, targets in (("glance", ["first"]), ("replica", ["first", "second"])):
            configure(cloud, targets)
            results[f"source {source}"] = backfilled(cloud, targets[-1], image_ids[-1], arguments)
        return results


def backfilled(
    cloud: Cloud, target: str, image_id: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Reload Glance, and wait until the target has all images."""
    cloud.glance.reload()
    asked_before = len(cloud.glance.requests())
    cloud.image(image_id)
    begun = time.monotonic()
    with peak_memory(cloud) as memory:
        wait_until(
            lambda: count(cloud, target) == arguments.images, SECONDS, f"{target} has all images"
        )
    seconds = time.monotonic() - begun
    requests = cloud.glance.requests()[asked_before + 1 :]
    kinds = collections.Counter(kind_of(request) for request in requests)
    return {
        "images": arguments.images,
        "bytes_each": arguments.bytes,
        "seconds": round(seconds, 1),
        "images_per_second": round(arguments.images / seconds, 1),
        "writer_peak_mib": round(max(memory) / 2**20, 1),
        "requests_to_glance": dict(kinds),
        "requests_per_image": round(sum(kinds.values()) / arguments.images, 3),
    }


def measure_restart(top: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds from the start of the writer to the first push; rows of images that exist."""
    with a_cloud(top, ["first"]) as cloud:
        cloud.start()
        image_id = cloud.new_image(b"the first image makes the database")
        cloud.wait_replicated(image_id, ["first"])
        cloud.wait_settled()
        insert_rows(cloud, arguments.rows)
        return {"rows": arguments.rows, "restarts": [restarted(cloud) for _ in range(5)]}


def restarted(cloud: Cloud) -> dict[str, Any]:
    """Kill the writer, and upload at once; Glance starts another one."""
    writer = cloud.writer()
    asked_before = len(cloud.glance.requests())
    writer.kill()
    writer.wait()
    image_id = cloud.new_image(os.urandom(1 << 20))
    started = cloud.writer().create_time()
    wait_until(lambda: cloud.row(image_id, "first"), 60, "the upload is in hand")
    in_hand = time.time()
    cloud.wait_replicated(image_id, ["first"])
    wait_until(lambda: time.time() - started > OBSERVED_SECONDS, 60, "it was observed")
    requests = cloud.glance.requests()[asked_before:]
    return {
        "seconds_from_start_of_writer_to_upload_in_hand": round(in_hand - started, 2),
        f"requests_in_{OBSERVED_SECONDS}_s": dict(collections.Counter(map(kind_of, requests))),
    }


def insert_rows(cloud: Cloud, count: int) -> None:
    """Copy the one row there is for other images; half of them wait for a repair."""
    with sqlite3.connect(cloud.directory / "replication.sqlite", timeout=60) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(replicas)")]
        row = dict(
            zip(columns, database.execute("SELECT * FROM replicas").fetchone(), strict=True)
        )
        for number in range(count):
            image_id = str(uuid.uuid4())
            changed = {"id": None, "image_id": image_id, "upload_id": uuid.uuid4().hex}
            if number % 2:
                changed |= {"status": "error", "next_attempt_at": "2020-01-01 00:00:00.000000"}
            values = row | changed
            marks = ",".join("?" * len(values))
            names = ",".join(values)
            database.execute(
                f"INSERT INTO replicas ({names}) VALUES ({marks})", list(values.values())
            )


@contextmanager
def a_cloud(top: Path, targets: list[str]) -> Iterator[Cloud]:
    with Keystone(top / "keystone") as keystone:
        keystone.add_user("alice", "bench-alice", "demo", ("member",))
        keystone.add_user("replicator", "bench-replicator", "service", ("admin",))
        servers = {name: Nginx(top / name) for name in ("first", "second")}
        cloud = Cloud(top / "cloud", keystone, targets=servers)
        configure(cloud, targets)
        try:
            yield cloud
        finally:
            cloud.stop()


def configure(cloud: Cloud, targets: list[str]) -> None:
    options = dict(cloud.glance.options)
    enabled = ",".join(f"{name}:http" for name in targets)
    options["replication"] = {**options["replication"], "enabled_targets": enabled}
    cloud.glance.options = options
    if cloud.glance.running:
        cloud.glance.write_config()


def count(cloud: Cloud, target: str) -> int:
    path = cloud.directory / "replication.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(path, timeout=60) as database:
        try:
            question = "SELECT count(*) FROM replicas WHERE target = ? AND status = 'active'"
            return database.execute(question, (target,)).fetchone()[0]
        except sqlite3.OperationalError:
            return 0


@contextmanager
def peak_memory(cloud: Cloud) -> Iterator[list[int]]:
    """The resident memory of the writer in bytes, twice a second."""
    found = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            for writer in cloud.writers():
                try:
                    found.append(writer.memory_info().rss)
                except psutil.Error:
                    continue

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        ended.set()
        watching.join()


def kind_of(request: Any) -> str:
    path, _, query = request.path.partition("?")
    if path.endswith("/file"):
        return f"{request.method} file"
    return f"{request.method} {'list' if query else 'image'}"


if __name__ == "__main__":
    main()
