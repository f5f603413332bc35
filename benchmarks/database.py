"""The size of a database with many replicas.

Makes the tables in an empty database, adds rows of active replicas, and asks for the size::

    python -m benchmarks.database --rows 10000
    python -m benchmarks.database --rows 10000 --connection mysql+pymysql://user:password@host/empty
"""

import argparse
import itertools
import json
import tempfile
import time
import uuid
from collections.abc import Iterator

import sqlalchemy as sa
from oslo_utils import timeutils

from glance_repl_mw.db import schema
from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.model import ReplicaStatus

TARGETS = ("site-a", "site-b", "site-c")
PAGE = 500
SIZES = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    "mysql": "SELECT SUM(data_length + index_length) FROM information_schema.tables "
    "WHERE table_schema = DATABASE()",
    "postgresql": "SELECT pg_total_relation_size('replicas')",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10000)
    parser.add_argument("--connection", help="an empty database; a new SQLite file by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="glance-repl-mw-bench-") as directory:
        connection = arguments.connection or f"sqlite:///{directory}/replication.sqlite"
        print(json.dumps(measure(connection, arguments.rows), indent=2))


def measure(connection: str, rows: int) -> dict[str, float]:
    database = schema.open_database(connection)
    schema.upgrade(database)
    engine = database.writer.get_engine()
    began = time.monotonic()
    with engine.begin() as session:
        replicas = itertools.islice(active_replicas(), rows)
        while page := list(itertools.islice(replicas, PAGE)):
            session.execute(sa.insert(ReplicaRow), page)
    seconds = time.monotonic() - began
    with engine.connect() as session:
        if engine.dialect.name == "mysql":
            session.execute(sa.text("ANALYZE TABLE replicas"))
        size = int(session.execute(sa.text(SIZES[engine.dialect.name])).scalar_one())
    return {"bytes": size, "bytes per row": size // rows, "seconds": round(seconds, 1)}


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


if __name__ == "__main__":
    main()
