# SPDX-License-Identifier: Apache-2.0
"""Copies of a database, kept in memory, that can be brought back."""

import collections
from pathlib import Path
from typing import Any

import sqlalchemy as sa

_MOST_COPIES = 12
_SCHEMA = "alembic_version"

Copy = dict[str, list[dict[str, Any]]]


class Copies:
    """Of all rows of a small database whose schema does not change; used by one thread.

    :param connection: SQLAlchemy URL
    :ivar taken: the last ones, the oldest first: rows by table
    """

    def __init__(self, connection: str) -> None:
        self.taken: collections.deque[Copy] = collections.deque(maxlen=_MOST_COPIES)
        arguments = {"timeout": 60} if connection.startswith("sqlite") else {}
        self._engine = sa.create_engine(connection, poolclass=sa.NullPool, connect_args=arguments)

    def take(self) -> bool:
        """Keep what all tables hold at this moment; returns whether there are any."""
        file = self._engine.url.database
        if self._engine.name == "sqlite" and not Path(file or "").exists():
            return False
        with self._engine.begin() as connection:
            copy = {
                table.name: [dict(row) for row in connection.execute(table.select()).mappings()]
                for table in _tables(connection)
            }
        if copy:
            self.taken.append(copy)
        return bool(copy)

    def bring_back(self, copy: Copy) -> None:
        """Let all tables hold what they held then; nobody else may use them meanwhile."""
        with self._engine.begin() as connection:
            tables = _tables(connection)
            for table in reversed(tables):
                connection.execute(table.delete())
            for table in tables:
                if copy[table.name]:
                    connection.execute(table.insert(), copy[table.name])


def _tables(connection: sa.Connection) -> list[sa.Table]:
    """All but the one with the schema's revision, those that others refer to first."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != _SCHEMA]
