# SPDX-License-Identifier: Apache-2.0
"""Can the nodes that share the database know of each other?"""

from __future__ import annotations

from collections.abc import Iterator

from glance_repl_mw import exceptions, extras
from glance_repl_mw.checks.database import sqlite_file
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, ok, warning

_WHERE = "[replication] coordination_url"


def check(deployment: Deployment) -> Iterator[Finding]:
    """Look for the other nodes; asks the coordinator."""
    options = deployment.replication.replication
    url = options.coordination_url
    if not url:
        yield ok(_WHERE, "is empty: this is the only node that uses the database")
        return
    try:
        with extras.required_by("coordination_url", "redis", "etcd"):
            from glance_repl_mw import coordination
        coordination.check_url(url)
        members = coordination.look(url)
    except exceptions.ConfigError as problem:
        hint = problem.hint.removeprefix(f"{_WHERE}: ")
        yield error(_WHERE, hint, "correct it, or install the driver that it names")
        return
    except Exception as problem:  # of the driver's own kind
        yield error(
            _WHERE,
            f"cannot be reached: {coordination.problem_of(problem)}",
            "start it, or correct the URL",
        )
        return
    yield ok(_WHERE, f"{len(members)} nodes are alive: {', '.join(sorted(members)) or 'none'}")
    if sqlite_file(options.connection) is not None:
        yield warning(
            _WHERE,
            "is set, but the database is an SQLite file, which nodes cannot share",
            "use MariaDB or PostgreSQL, or leave coordination_url empty",
        )
