# SPDX-License-Identifier: Apache-2.0
"""Backfill of many small images to a new target, and the restart with many rows."""

import dataclasses
import sqlite3
import statistics
import threading
import time
import uuid
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil

from benchmarks.figures import Figure
from benchmarks.settings import Settings
from benchmarks.stage import Stage
from tests.functional.cloud import MIB, Cloud
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

BACKFILL_NAMES, RESTART_NAMES = ("backfill",), ("restart",)
UPLOADERS = 4
SECONDS = 3600
OBSERVED_SECONDS = 20


@dataclasses.dataclass(frozen=True)
class Backfill:
    """How one target got all images."""

    images_per_second: float
    requests_per_image: float
    writer_peak_bytes: int


def run_backfill(stage: Stage, settings: Settings, _wanted: Set[str]) -> Iterator[Figure]:
    """First to one target, with Glance as the source, then to another, from the first."""
    with a_cloud(stage, ["first"]) as cloud:
        filters, cloud.glance.paste_filters = cloud.glance.paste_filters, {}
        cloud.start()
        with ThreadPoolExecutor(UPLOADERS) as pool:
            bodies = (image_bytes(settings.small_image) for _ in range(settings.extra_images))
            image_ids = list(pool.map(cloud.new_image, bodies))
        cloud.glance.paste_filters = filters
        for source, targets in (("Glance", ["first"]), ("a replica", ["first", "second"])):
            configure(cloud, targets)
            found = backfilled(cloud, targets[-1], image_ids)
            yield Figure(
                "backfill",
                f"images per second, of {len(image_ids)} from {source}",
                found.images_per_second,
                notes=(
                    f"from {source}: {found.requests_per_image:.2f} requests to Glance for each",
                    f"writer's largest resident memory {found.writer_peak_bytes / MIB:.0f} MiB",
                ),
            )


def backfilled(cloud: Cloud, target: str, image_ids: list[str]) -> Backfill:
    """Reload Glance, and wait until the target has all images."""
    cloud.glance.reload()
    asked_before = len(cloud.glance.requests())
    cloud.image(image_ids[-1])
    begun = time.monotonic()
    with peak_memory(cloud) as memory:
        wait_until(
            lambda: count(cloud, target) == len(image_ids), SECONDS, f"{target} has all images"
        )
    seconds = time.monotonic() - begun
    asked = len(cloud.glance.requests()) - asked_before - 1
    return Backfill(len(image_ids) / seconds, asked / len(image_ids), max(memory))


def run_restart(stage: Stage, settings: Settings, _wanted: Set[str]) -> Iterator[Figure]:
    """Seconds from the start of the writer to the first push; rows of images that exist."""
    with a_cloud(stage, ["first"]) as cloud:
        cloud.start()
        image_id = cloud.new_image(b"the first image makes the database")
        cloud.wait_replicated(image_id, ["first"])
        cloud.wait_settled()
        insert_rows(cloud, settings.extra_rows)
        found = [restarted(cloud) for _ in range(settings.rounds)]
        rates = [requests for _, requests in found]
        yield Figure(
            "restart",
            f"start of the writer with {settings.extra_rows} rows to the upload in hand",
            statistics.median(seconds for seconds, _ in found),
            "s",
            samples={"seconds": [seconds for seconds, _ in found]},
            notes=(f"{statistics.median(rates):.0f} requests to Glance a second meanwhile",),
        )


def restarted(cloud: Cloud) -> tuple[float, float]:
    """Kill the writer, and upload at once; Glance starts another one.

    Returns the seconds to the upload in hand, and requests to Glance a second.
    """
    writer = cloud.writer()
    asked_before = len(cloud.glance.requests())
    writer.kill()
    writer.wait()
    image_id = cloud.new_image(image_bytes(MIB))
    started = cloud.writer().create_time()
    wait_until(lambda: cloud.row(image_id, "first"), 60, "the upload is in hand")
    in_hand = time.time()
    cloud.wait_replicated(image_id, ["first"])
    wait_until(lambda: time.time() - started > OBSERVED_SECONDS, 60, "it was observed")
    asked = len(cloud.glance.requests()) - asked_before
    return in_hand - started, asked / OBSERVED_SECONDS


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
def a_cloud(stage: Stage, targets: list[str]) -> Iterator[Cloud]:
    """Not started yet; two nginx, of which these are targets."""
    directory = stage.directory("reconciler")
    servers = {name: Nginx(directory / name) for name in ("first", "second")}
    cloud = Cloud(directory, stage.keystone, targets=servers)
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
