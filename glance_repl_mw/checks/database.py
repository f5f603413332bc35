# SPDX-License-Identifier: Apache-2.0
"""Can the database be used, and has it the right schema?"""

from __future__ import annotations

import os
import pathlib
import re
import time
from collections.abc import Iterator

import alembic.util
import oslo_db.exception
import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade

from glance_repl_mw import exceptions
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, ok, warning
from glance_repl_mw.checks.places import can_hold, existing
from glance_repl_mw.db import schema
from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.presence import local_writer

# So long a writer of this node may take to make the tables of its SQLite file.
_PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.2

PROBLEMS = (
    oslo_db.exception.DBError,
    sa.exc.SQLAlchemyError,
    alembic.util.CommandError,
    ImportError,
)
"""What the use of a database may raise; ``ImportError`` for a driver that is not installed."""

# Jepsen, March 2026: lost updates and lost commits of transactions at different nodes.
_FIRST_LOSING, _LAST_LOSING = (12, 1, 2), (12, 2, 2)


def explain(problem: BaseException) -> str:
    """One line about one of ``PROBLEMS``, without the SQL statement."""
    inner = getattr(problem, "inner_exception", None) or problem
    return str(getattr(inner, "orig", None) or inner).partition("\n")[0]


def open_current(connection: str) -> enginefacade._TransactionContextManager | None:
    """The database with the tables of this release, None where they are yet to be made.

    :raises ConfigError: the schema is another one, or as ``schema.open_database``
    """
    path = sqlite_file(connection)
    if path is not None and not path.exists():
        return None
    database = schema.open_database(connection)
    if not sa.inspect(database.writer.get_engine()).has_table(ReplicaRow.__tablename__):
        return None
    if not schema.is_current(database):
        raise exceptions.ConfigError(
            operation="read the database",
            hint="the schema is not that of this release; run glance-repl-manage db sync",
        )
    return database


def sqlite_file(connection: str) -> pathlib.Path | None:
    """The file of an SQLite database, there or not; None for another database."""
    try:
        url = sa.make_url(connection)
    except (sa.exc.ArgumentError, ValueError):
        return None
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return pathlib.Path(url.database).absolute()


def check(deployment: Deployment) -> Iterator[Finding]:
    where = "[replication] connection"
    connection = deployment.replication.replication.connection
    path = sqlite_file(connection)
    obstacle = sqlite_obstacle(path) if path is not None else ""
    if obstacle:
        yield error(where, obstacle, "make the user of glance-api its owner")
        return
    if path is not None and not path.exists():
        yield ok(where, f"{path} is made when it is first needed")
        return
    try:
        database = schema.open_database(connection)
        current = _is_current(database, deployment, is_file=bool(path))
        in_cluster = list(_galera(where, database))
    except (exceptions.ConfigError, *PROBLEMS) as problem:
        yield trouble(where, problem)
    else:
        if current:
            yield ok(where, "the database is there, with the newest schema")
            yield from _exposure(where, path)
        else:
            remedy = "run glance-repl-manage db sync"
            yield warning(where, "the schema is not that of this release", remedy)
        yield from in_cluster


def trouble(where: str, problem: BaseException) -> Finding:
    """What is wrong with a database whose use raised a ``ConfigError`` or one of ``PROBLEMS``."""
    if isinstance(problem, exceptions.ConfigError):
        return error(where, problem.hint.removeprefix(f"{where}: "), "correct it")
    remedy = "see that the database runs, and that user, password and name are right"
    return error(where, f"the database cannot be used: {explain(problem)}", remedy)


def _galera(where: str, database: enginefacade._TransactionContextManager) -> Iterator[Finding]:
    """What is known of the releases of MariaDB whose nodes may all be written to."""
    engine = database.writer.get_engine()
    if engine.dialect.name != "mysql":
        return
    with engine.connect() as connection:
        status = connection.execute(sa.text("SHOW STATUS LIKE 'wsrep_cluster_size'")).first()
        release = str(connection.execute(sa.text("SELECT VERSION()")).scalar())
    if status is None or int(status[1]) < 2:
        return
    if _loses_updates(release):
        what = f"Galera of MariaDB {release} is known to lose updates between its nodes"
        yield warning(where, what, "let every node use the same server of the cluster, or upgrade")
    else:
        yield ok(where, f"a Galera cluster of {status[1]} nodes, MariaDB {release}")


def _loses_updates(release: str) -> bool:
    number = re.match(r"(\d+)\.(\d+)\.(\d+)", release)
    return number is not None and _FIRST_LOSING <= tuple(map(int, number.groups())) <= _LAST_LOSING


def _is_current(
    database: enginefacade._TransactionContextManager, deployment: Deployment, *, is_file: bool
) -> bool:
    """Whether the schema is the newest; a writer that has just begun is given time to make it."""
    spool = pathlib.Path(deployment.replication.replication.spool_dir)
    end = time.monotonic() + _PATIENCE_SECONDS
    while not (current := schema.is_current(database)) and is_file and time.monotonic() < end:
        if not local_writer(spool).runs:
            break
        time.sleep(_LOOK_SECONDS)
    return current


def _exposure(where: str, path: pathlib.Path | None) -> Iterator[Finding]:
    if path is not None and path.stat().st_mode & 0o077:
        text = f"{path} tells names and URLs of private images, and others may read it"
        yield warning(where, text, "chmod 600, or restart the writer, which does that")


def sqlite_obstacle(path: pathlib.Path) -> str:
    """Why the file cannot be made or written, empty where it can; SQLite writes beside it too."""
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return f"{path} cannot be written"
    directory = existing(path.parent)
    return "" if can_hold(directory) else f"{path} cannot be written, nor anything in {directory}"
