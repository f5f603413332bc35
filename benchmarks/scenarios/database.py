# SPDX-License-Identifier: Apache-2.0
"""The size of a database with many replicas: SQLite, and the servers that are installed."""

import itertools
import uuid
from collections.abc import Iterator, Set
from contextlib import ExitStack

import sqlalchemy as sa
from oslo_utils import timeutils

from benchmarks.figures import Figure
from benchmarks.settings import Settings
from benchmarks.stage import Stage
from glance_repl_mw.db import schema
from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.model import ReplicaStatus
from tests.lab.databases import MariaDb, PostgreSql

NAMES = ("database",)
TARGETS = ("site-a", "site-b", "site-c")
PAGE = 500
SIZES = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    "mysql": "SELECT SUM(data_length + index_length) FROM information_schema.tables "
    "WHERE table_schema = DATABASE()",
    "postgresql": "SELECT pg_total_relation_size('replicas')",
}


def run(stage: Stage, settings: Settings, _wanted: Set[str]) -> Iterator[Figure]:
    with ExitStack() as stack:
        connections = {"SQLite": f"sqlite:///{stage.directory('sqlite')}/replication.sqlite"}
        for name, server in {"MariaDB": MariaDb, "PostgreSQL": PostgreSql}.items():
            if server.available() is None:
                running = stack.enter_context(server(stage.directory(name)))
                connections[name] = running.new_database()
        for name, connection in connections.items():
            size = bytes_of(connection, settings.extra_rows)
            what = f"{name}: bytes for a row with its indexes, of {settings.extra_rows} rows"
            yield Figure("database", what, size / settings.extra_rows, "bytes")


def bytes_of(connection: str, rows: int) -> int:
    """Make the tables in an empty database, add rows of active replicas, and ask for the size."""
    database = schema.open_database(connection)
    schema.upgrade(database)
    engine = database.writer.get_engine()
    with engine.begin() as session:
        replicas = itertools.islice(active_replicas(), rows)
        while page := list(itertools.islice(replicas, PAGE)):
            session.execute(sa.insert(ReplicaRow), page)
    with engine.connect() as session:
        if engine.dialect.name == "mysql":
            session.execute(sa.text("ANALYZE TABLE replicas"))
        return int(session.execute(sa.text(SIZES[engine.dialect.name])).scalar_one())


def active_replicas() -> Iterator[dict[str, object]]:
    """Rows with everything that one of an active replica holds, image by image."""
    for image_id in map(str, iter(uuid.uuid4, None)):
        upload_id = uuid.uuid4().hex
        name = f"{image_id}-{upload_id}-1"
        now = timeutils.utcnow()
        for target in TARGETS:
            yield {
                "image_id": image_id,
                "target": target,
                "upload_id": upload_id,
                "status": ReplicaStatus.ACTIVE,
                "object_name": name,
                "size": 1 << 30,
                "bytes_sent": 1 << 30,
                "location_url": f"https://{target}.example/images/{name}",
                "checksum": uuid.uuid4().hex,
                "created_at": now,
                "updated_at": now,
                "verified_at": now,
                "read_back_at": now,
            }
