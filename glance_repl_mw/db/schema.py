# SPDX-License-Identifier: Apache-2.0
"""Opening and migrating the database."""

from __future__ import annotations

import contextlib
import enum
import pathlib

import sqlalchemy as sa
from alembic import command, config, migration, script
from oslo_db.sqlalchemy import enginefacade
from sqlalchemy import exc

from glance_repl_mw import exceptions
from glance_repl_mw.db.session import retried
from glance_repl_mw.urls import NOT_A_URL

_BACKENDS = ("sqlite", "mysql", "postgresql")
# As many as oslo.db allows a service: each thread that writes to a target may want one.
_MOST_CONNECTIONS = {"max_pool_size": 5, "max_overflow": 50}


class SchemaState(enum.Enum):
    """How the schema of a database stands to this release."""

    MISSING = "missing"
    BEHIND = "behind"
    CURRENT = "current"
    NEWER = "newer"


def open_database(connection: str) -> enginefacade._TransactionContextManager:
    """A transaction context for the SQLAlchemy URL ``connection``; connects when first used.

    A connection that the server has closed meanwhile is replaced before it is used.

    :raises ConfigError: the URL is none, names a database or driver that cannot be used, or the
        directory of an SQLite file cannot be made
    """
    try:
        url = sa.engine.make_url(connection)
        url.get_dialect().import_dbapi()
    except exc.NoSuchModuleError as error:
        raise _unusable(str(error)) from None
    except (exc.ArgumentError, ValueError):
        # Their texts may hold the URL, or a part of its password.
        raise _unusable(NOT_A_URL) from None
    except ImportError as error:
        raise _unusable(f"{error} (is the driver installed?)") from error
    if url.get_backend_name() not in _BACKENDS:
        raise _unusable(f"must begin with one of {', '.join(_BACKENDS)}; MariaDB is mysql+pymysql")
    if url.get_backend_name() != "sqlite" and "@" in f"{url.host}{url.database}":
        # What comes before it is a part of the password, which would be taken for a host.
        raise _unusable(NOT_A_URL)
    if url.get_backend_name() == "mysql" and "charset" not in url.query:
        # Else oslo.db asks for utf8, which there means without what needs four bytes.
        url = url.update_query_dict({"charset": "utf8mb4"})
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        try:
            pathlib.Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(f"{error.filename}: {error.strerror}") from error
    context = enginefacade.transaction_context()
    # Whoever calls decides what to do about a server that is down.
    context.configure(
        connection=url.render_as_string(hide_password=False),
        sqlite_synchronous=True,
        max_retries=0,
        **_MOST_CONNECTIONS,
    )
    return context


def upgrade(database: enginefacade._TransactionContextManager, revision: str = "head") -> None:
    """Bring the schema to a revision, the newest one by default; nothing where it is there.

    :raises ConfigError: the schema is of a newer release, which this one does not know
    :raises sqlalchemy.exc.SQLAlchemyError: the database refuses
    """
    _make_private(database.writer.get_engine())
    with database.writer.get_engine().begin() as connection:
        now = migration.MigrationContext.configure(connection).get_current_revision()
        known = script.ScriptDirectory.from_config(_config(connection)).walk_revisions()
        if now is not None and now not in {each.revision for each in known}:
            raise _unusable(f"the schema {now} is that of a newer release")
        command.upgrade(_config(connection), revision)


def _make_private(engine: sa.Engine) -> None:
    """Let only its owner read an SQLite file, which tells names and URLs of private images.

    One that is not there yet is made.
    """
    path = engine.url.database
    if engine.dialect.name != "sqlite" or not path or path == ":memory:":
        return
    with contextlib.suppress(OSError):
        pathlib.Path(path).touch(mode=0o600)
    for suffix in ("", "-wal", "-shm", "-journal"):
        # SQLite gives the files beside it the mode of the file itself. Another's stays as it is.
        with contextlib.suppress(OSError):
            file = pathlib.Path(path + suffix)
            file.chmod(file.stat().st_mode & 0o700)


@retried
def prepare(database: enginefacade._TransactionContextManager) -> None:
    """Make an SQLite file ready by itself; see that any other database is ready.

    :raises ConfigError: the schema is behind, which only an operator may change, or of a newer
        release
    :raises oslo_db.exception.DBError: the database cannot be reached
    """
    if database.writer.get_engine().dialect.name == "sqlite":
        upgrade(database)
    elif not is_current(database):
        raise _unusable("the schema is not that of this release; run glance-repl-manage db sync")


def is_current(database: enginefacade._TransactionContextManager) -> bool:
    """Whether the schema is at the newest revision."""
    return state_of(database) is SchemaState.CURRENT


def state_of(database: enginefacade._TransactionContextManager) -> SchemaState:
    """How the schema stands to this release; changes nothing, and blocks while it asks.

    :raises sqlalchemy.exc.SQLAlchemyError: the database cannot be reached
    """
    with database.writer.get_engine().connect() as connection:
        now = migration.MigrationContext.configure(connection).get_current_revision()
        scripts = script.ScriptDirectory.from_config(_config(connection))
        if now is None:
            return SchemaState.MISSING
        if now == scripts.get_current_head():
            return SchemaState.CURRENT
        known = {each.revision for each in scripts.walk_revisions()}
    return SchemaState.BEHIND if now in known else SchemaState.NEWER


def _config(connection: sa.Connection) -> config.Config:
    result = config.Config()
    result.set_main_option("script_location", str(pathlib.Path(__file__).parent / "migrations"))
    result.attributes["connection"] = connection
    return result


def _unusable(hint: str) -> exceptions.ConfigError:
    return exceptions.ConfigError(
        operation="read configuration", hint=f"[replication] connection: {hint}"
    )
