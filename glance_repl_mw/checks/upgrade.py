# SPDX-License-Identifier: Apache-2.0
"""Can this release take over? Asks neither Glance nor a target, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from glance_repl_mw import exceptions, opts
from glance_repl_mw.checks import database, options, spooldir
from glance_repl_mw.checks import targets as target_checks
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, ok
from glance_repl_mw.db import schema
from glance_repl_mw.db.schema import SchemaState

_WHERE = f"[{opts.GROUP}] connection"


def check_schema(deployment: Deployment) -> Iterator[Finding]:
    """A schema that this release cannot work with, and that its writer does not migrate."""
    connection = deployment.replication.replication.connection
    path = database.sqlite_file(connection)
    if path is not None and (obstacle := database.sqlite_obstacle(path)):
        yield error(_WHERE, obstacle, "make the user of glance-api its owner")
        return
    if path is not None and not path.exists():
        yield ok(_WHERE, f"{path} is made when it is first needed")
        return
    try:
        state = schema.state_of(schema.open_database(connection))
    except (exceptions.ConfigError, *database.PROBLEMS) as problem:
        yield database.trouble(_WHERE, problem)
    else:
        yield _judged(state, is_file=path is not None)


def _judged(state: SchemaState, *, is_file: bool) -> Finding:
    if state is SchemaState.CURRENT:
        return ok(_WHERE, "the schema is that of this release")
    if state is SchemaState.NEWER:
        remedy = "install that release, or restore the backup of the database"
        return error(_WHERE, "the schema is that of a newer release", remedy)
    if is_file:
        return ok(_WHERE, "the writer migrates the SQLite file when it starts")
    what = (
        "has no tables" if state is SchemaState.MISSING else "has the schema of an older release"
    )
    return error(
        _WHERE, f"the database {what}", "run glance-repl-manage db sync before the restart"
    )


def check_options(deployment: Deployment) -> Iterator[Finding]:
    """Options that this release does not know, as removed ones, or whose values it refuses."""
    yield from options.check_values(deployment)
    yield from options.check(deployment)


def check_targets(deployment: Deployment) -> Iterator[Finding]:
    """Targets whose driver or options this release does not have; opens no connection."""
    if deployment.replication.replication.enabled_targets:
        yield from target_checks.load(deployment.replication)[1]


def check_spool(deployment: Deployment) -> Iterator[Finding]:
    """A spool that the filter could not write to after a restart."""
    yield from spooldir.check(deployment)
