"""Can the database be used, and has it the right schema?"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import alembic.util
import oslo_db.exception
import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade

from glance_repl_mw import exceptions
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, ok, warning
from glance_repl_mw.db import schema

PROBLEMS = (
    oslo_db.exception.DBError,
    sa.exc.SQLAlchemyError,
    alembic.util.CommandError,
    ImportError,
)
"""What the use of a database may raise; ``ImportError`` for a driver that is not installed."""


def explain(problem: BaseException) -> str:
    """One line about one of ``PROBLEMS``, without the SQL statement."""
    inner = getattr(problem, "inner_exception", None) or problem
    return str(getattr(inner, "orig", None) or inner).partition("\n")[0]


def open_now(connection: str) -> enginefacade._TransactionContextManager:
    """The database as ``schema.open_database`` opens it, but one that is down is not waited for.

    :raises ConfigError: as there
    """
    database = schema.open_database(connection)
    database.configure(max_retries=1, retry_interval=0)
    return database


def missing_file(connection: str) -> pathlib.Path | None:
    """The SQLite file that is to be made yet; None where there is one, or another database."""
    try:
        url = sa.make_url(connection)
    except sa.exc.ArgumentError:
        return None
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    path = pathlib.Path(url.database).absolute()
    return None if path.exists() else path


def check(deployment: Deployment) -> Iterator[Finding]:
    where = "[replication] connection"
    connection = deployment.replication.replication.connection
    path = missing_file(connection)
    if path is not None:
        yield _makeable(where, path)
        return
    try:
        current = schema.is_current(open_now(connection))
    except exceptions.ConfigError as problem:
        yield error(where, problem.hint.removeprefix(f"{where}: "), "correct it")
    except PROBLEMS as problem:
        remedy = "see that the database runs, and that user, password and name are right"
        yield error(where, f"the database cannot be used: {explain(problem)}", remedy)
    else:
        if current:
            yield ok(where, "the database is there, with the newest schema")
        else:
            remedy = "run glance-repl-manage db sync"
            yield warning(where, "the schema is not that of this release", remedy)


def _makeable(where: str, path: pathlib.Path) -> Finding:
    parent = next(place for place in path.parents if place.exists())
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return ok(where, f"{path} is made when it is first needed")
    remedy = "make the user of glance-api the owner of its directory"
    return error(where, f"{path} cannot be made in {parent}", remedy)
