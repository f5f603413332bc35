# SPDX-License-Identifier: Apache-2.0
"""What a list and one image's replicas take over HTTP, with many rows in SQLite.

Glance with the filter under uWSGI, whose tokens Keystone checks. The rows are those of one image
that Glance has and of many that it has not.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

import requests
import sqlalchemy as sa

from benchmarks.figures import Figure
from benchmarks.scenarios.database import PAGE, active_replicas
from benchmarks.settings import Settings
from benchmarks.site import Site
from benchmarks.stage import Stage
from glance_repl_mw.db import schema
from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.model import ReplicaStatus
from tests.lab.glance import Glance
from tests.lab.keystone import Keystone

NAMES = ("rest",)
REQUESTS, WARM_UP = 300, 20
ERRORS_EVERY = 100
TARGETS = "site-a:http,site-b:http,site-c:http"
LISTS = {
    "list": "v2/replication/replicas",
    "list, status=error": "v2/replication/replicas?status=error",
    "list, target and status": "v2/replication/replicas?status=error&target=site-b",
    "list, limit=1000": "v2/replication/replicas?limit=1000",
    "list, from the middle": "v2/replication/replicas?marker={middle}",
    "targets": "v2/replication/targets",
}


def run(stage: Stage, settings: Settings, _wanted: Set[str]) -> Iterator[Figure]:
    directory = stage.directory("rest")
    connection = f"sqlite:///{directory}/replication.sqlite"
    database = schema.open_database(connection)
    schema.upgrade(database)
    with _glance(directory / "glance", stage.keystone, connection) as glance:
        site = Site(glance, stage.keystone, [])
        image_id = site.create()
        _fill(database.writer.get_engine(), settings.rest_rows, image_id)
        for name, taken in _measure(site, image_id, settings.rest_rows).items():
            yield Figure(
                "rest",
                f"{name}, {settings.rest_rows} rows: 95th percentile "
                f"(median {statistics.median(taken):.1f})",
                statistics.quantiles(taken, n=20)[-1],
                "ms",
                samples={name: taken},
            )


def _glance(directory: Path, keystone: Keystone, connection: str) -> Glance:
    glance = Glance(directory, keystone, replication=True)
    glance.options = {
        "replication": {
            "enabled_targets": TARGETS,
            "spool_dir": str(directory / "spool"),
            "connection": connection,
            # Only what answers requests is measured.
            "writer": "external",
            "auth_type": "none",
        },
        **{
            f"replication:{each.partition(':')[0]}": {"url": "http://127.0.0.1:9/"}
            for each in TARGETS.split(",")
        },
    }
    return glance


def _fill(engine: sa.Engine, rows: int, image_id: str) -> None:
    replicas = itertools.islice(_rows(image_id), rows)
    with engine.begin() as connection:
        while page := list(itertools.islice(replicas, PAGE)):
            connection.execute(sa.insert(ReplicaRow), page)


def _rows(image_id: str) -> Iterator[dict[str, Any]]:
    """Active replicas and some in error; the first ones are those of the image."""
    for number, row in enumerate(active_replicas()):
        if number < 3:
            row["image_id"] = image_id
        elif number % ERRORS_EVERY == 0:
            row["status"] = ReplicaStatus.ERROR
        yield row


def _measure(site: Site, image_id: str, rows: int) -> dict[str, list[float]]:
    paths = {
        "image itself": f"v2/images/{image_id}",
        "replicas of an image": f"v2/images/{image_id}/replicas",
        "one replica": f"v2/images/{image_id}/replicas/site-a",
        **{name: path.format(middle=rows // 2) for name, path in LISTS.items()},
    }
    with requests.Session() as client:
        client.headers["X-Auth-Token"] = site.token()
        return {
            name: _milliseconds(functools.partial(client.get, site.glance.url + path))
            for name, path in paths.items()
        }


def _milliseconds(ask: Callable[[], requests.Response]) -> list[float]:
    """Of each request, once the database is warm."""
    taken = []
    for _ in range(WARM_UP + REQUESTS):
        began = time.monotonic()
        ask().raise_for_status()
        taken.append(1000 * (time.monotonic() - began))
    return taken[WARM_UP:]
