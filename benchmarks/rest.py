"""What a list and one image's replicas take over HTTP, with many rows; and the query plans.

Real Keystone, and Glance with the filter under uWSGI. Rows of one image that Glance has and of
many that it has not are added to the database, an SQLite file by default::

    python -m benchmarks.rest --rows 100000
"""

import argparse
import functools
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
import sqlalchemy as sa
from keystoneauth1.session import Session

from benchmarks.database import PAGE, active_replicas
from glance_repl_mw.db import schema
from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.model import ReplicaStatus
from tests.lab.glance import Glance
from tests.lab.keystone import Keystone

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100000)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--connection", help="an empty database; a new SQLite file by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="glance-repl-mw-bench-") as name:
        directory = Path(name)
        connection = arguments.connection or f"sqlite:///{directory}/replication.sqlite"
        database = schema.open_database(connection)
        schema.upgrade(database)
        engine = database.writer.get_engine()
        with Keystone(directory / "keystone") as keystone:
            glance = _glance(directory / "glance", keystone, connection)
            with glance:
                session = keystone.session("admin", "admin")
                image_id = _new_image(glance, session)
                _fill(engine, arguments.rows, image_id)
                figures = _measure(glance, session, image_id, arguments)
        print(json.dumps(figures, indent=2))
        if engine.dialect.name == "sqlite":
            print("\n".join(_plans(engine)))


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


def _new_image(glance: Glance, session: Session) -> str:
    body = {"name": "image", "disk_format": "raw", "container_format": "bare"}
    headers = {"X-Auth-Token": session.get_token() or ""}
    answer = requests.post(f"{glance.url}v2/images", json=body, headers=headers, timeout=60)
    answer.raise_for_status()
    return answer.json()["id"]


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


def _measure(
    glance: Glance, session: Session, image_id: str, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    paths = {
        "image itself": f"v2/images/{image_id}",
        "replicas of an image": f"v2/images/{image_id}/replicas",
        "one replica": f"v2/images/{image_id}/replicas/site-a",
        **{name: path.format(middle=arguments.rows // 2) for name, path in LISTS.items()},
    }
    with requests.Session() as client:
        client.headers["X-Auth-Token"] = session.get_token() or ""
        return {
            name: _percentiles(
                functools.partial(client.get, glance.url + path), arguments.requests
            )
            for name, path in paths.items()
        }


def _percentiles(ask: Callable[[], requests.Response], number: int) -> dict[str, float]:
    """Milliseconds, once the database is warm."""
    taken = []
    for turn in range(number + 20):
        began = time.monotonic()
        ask().raise_for_status()
        if turn >= 20:
            taken.append(1000 * (time.monotonic() - began))
    return {
        "p50 ms": round(statistics.median(taken), 1),
        "p95 ms": round(statistics.quantiles(taken, n=20)[-1], 1),
    }


def _plans(engine: sa.Engine) -> Iterator[str]:
    """How SQLite finds what is asked for."""
    row = sa.select(ReplicaRow).order_by(ReplicaRow.id).limit(26)
    after, of_target = ReplicaRow.id > 50000, ReplicaRow.target == "site-b"
    in_error = ReplicaRow.status == ReplicaStatus.ERROR
    for name, statement in {
        "replicas of an image": sa.select(ReplicaRow).where(ReplicaRow.image_id == "image"),
        "list": row.where(after, ReplicaRow.status != ReplicaStatus.DELETED),
        "list, status=error": row.where(after, in_error),
        "list, target": row.where(after, of_target, ReplicaRow.status != ReplicaStatus.DELETED),
        "list, target and status": row.where(after, of_target, in_error),
    }.items():
        text = statement.compile(engine, compile_kwargs={"literal_binds": True})
        with engine.connect() as connection:
            for line in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"):
                yield f"{name}: {line[3]}"


if __name__ == "__main__":
    main()
