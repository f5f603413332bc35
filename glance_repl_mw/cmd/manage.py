# SPDX-License-Identifier: Apache-2.0
"""``glance-repl-manage``: what an operator does with the replication of a node."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import prettytable
import sqlalchemy as sa
from oslo_config import cfg

from glance_repl_mw import exceptions, substitution
from glance_repl_mw.checks import database as database_checks
from glance_repl_mw.checks import deployment, secrecy, writers
from glance_repl_mw.checks.report import report
from glance_repl_mw.cmd import completion, deletions, explain, sync, targets, verify, watch
from glance_repl_mw.cmd.records import require_records
from glance_repl_mw.db import schema
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.db.overview import ReplicaOverview
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.model import Replica
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Upload

_PROGRAM = "glance-repl-manage"
_FAILED = 2
_COLUMNS = ("Image", "Target", "Status", "Progress", "Size", "Attempts", "Next attempt", "Error")
_ERROR_WIDTH = 60
_ERROR_CHARACTERS = 1000


def main() -> None:
    """The console script."""
    sys.exit(manage(sys.argv[1:]))


def manage(arguments: list[str]) -> int:
    """Run one command; returns the exit status.

    0, or 1 or 2 as the command says; always 2, with one line on stderr, where the configuration,
    the database or Glance cannot be used, or what the arguments name is unknown.
    """
    # What libraries log is no part of the answer.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    try:
        conf = _configuration(arguments)
        status: int = conf.command.run(conf)
        return status
    except (exceptions.ReplicationError, OSError) as error:
        problem = str(error)
    except cfg.Error as error:
        problem = substitution.reason_and_option(error)
    except database_checks.PROBLEMS as error:
        problem = f"[replication] connection: {database_checks.explain(error)}"
    text = printable(secrecy.redact(problem), _ERROR_CHARACTERS)
    print(f"{_PROGRAM}: {text}", file=sys.stderr)
    return _FAILED


def _configuration(arguments: list[str]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf.register_cli_opt(cfg.SubCommandOpt("command", title="commands", handler=_add_commands))
    conf(
        arguments,
        project="glance",
        prog=_PROGRAM,
        version=importlib.metadata.version("glance-repl-mw"),
        description="Manages the replication of images.",
        default_config_files=deployment.default_config_files(),
        default_config_dirs=cfg.find_config_dirs("glance", "glance-api"),
    )
    if not getattr(conf.command, "needs_no_configuration", False):
        deployment.require_file(conf)
    return conf


def _add_commands(commands: Any) -> None:
    db = commands.add_parser("db", help="the database of the replicas")
    upgrade = db.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "sync", help="make the tables, or bring them to this release"
    )
    upgrade.set_defaults(run=_sync_database)
    check = commands.add_parser("check", help="say what is wrong with this deployment")
    check.add_argument(
        "--acknowledge",
        action="append",
        default=[],
        metavar="TEXT",
        help="show warnings that hold this text, as the name of an option, as notes; may be "
        "repeated. For what you have judged and accept",
    )
    check.set_defaults(run=_check)
    status = commands.add_parser("status", help="show the state of the replicas")
    status.add_argument("image", nargs="?", metavar="IMAGE", help="only those of this image")
    status.add_argument("--format", choices=("table", "json"), default="table")
    status.add_argument(
        "--watch",
        nargs="?",
        type=watch.seconds,
        const=watch.DEFAULT_SECONDS,
        metavar="SECONDS",
        help="show what goes on now again and again, until Ctrl-C",
    )
    status.set_defaults(run=_status)
    explain.add_command(commands)
    sync.add_command(commands)
    verify.add_commands(commands)
    targets.add_commands(commands)
    deletions.add_command(commands)
    completion.add_command(commands)


def _sync_database(conf: cfg.ConfigOpts) -> int:
    options = deployment.read(conf).replication.replication
    schema.upgrade(schema.open_database(options.connection))
    print("The database is up to date.")
    return 0


def _check(conf: cfg.ConfigOpts) -> int:
    return report(deployment.read(conf), sys.stdout, conf.command.acknowledge)


def _status(conf: cfg.ConfigOpts) -> int:
    image = conf.command.image
    if conf.command.watch is not None:
        return watch.repeat(_watched(conf, image), conf.command.watch)
    replication = deployment.read(conf).replication
    connection = replication.replication.connection
    replicas = _replicas(connection, image)
    _tell_whether_stopped(connection)
    if image and not replicas:
        text = printable(f"image {image} {_without_replicas(replication, image)}")
        print(f"{_PROGRAM}: {text}", file=sys.stderr)
        return 1
    if conf.command.format == "json":
        print(json.dumps([replica.as_dict() for replica in replicas], indent=2))
    elif replicas:
        print(_table(replicas))
    else:
        print("Nothing has been replicated yet.")
    return 0


def _tell_whether_stopped(connection: str) -> None:
    """On stderr, beside the answer: deletions may wait for an operator."""
    database = database_checks.open_current(connection)
    if database is not None and (told := deletions.stopped(DeletionRecords(database))):
        print(f"{_PROGRAM}: {told}", file=sys.stderr)


def _without_replicas(conf: cfg.ConfigOpts, image_id: str) -> str:
    if any(upload.image_id == image_id for upload in _uploads(conf)):
        lack = writers.look(conf).spool_lack
        return f"has no replicas yet: {lack or 'the writer takes it from the spool'}"
    return "has no replicas"


def _watched(conf: cfg.ConfigOpts, image: str | None) -> Callable[[], str]:
    """What is shown again and again: the replicas of one image, or what goes on at all targets.

    :raises ConfigError:
    """
    if conf.command.format == "json":
        raise exceptions.ConfigError(operation="status", hint="--watch shows tables only")
    replication = deployment.read(conf).replication
    if image:
        connection = replication.replication.connection
        return lambda: _table(_replicas(connection, image)).get_string()
    records = require_records(replication)
    database = schema.open_database(replication.replication.connection)
    return watch.Watch(
        ReplicaOverview(database),
        records.counts,
        lambda: writers.look(replication),
        lambda: _uploads(replication),
    ).block


def _uploads(conf: cfg.ConfigOpts) -> Sequence[Upload]:
    """What the spool of this node holds; nothing where this user may not look."""
    try:
        return Spool(conf.replication.spool_dir).uploads()
    except OSError:
        return []


def _replicas(connection: str, image_id: str | None) -> Sequence[Replica]:
    """The rows of the database; none where the database is yet to be made."""
    path = database_checks.sqlite_file(connection)
    if path is not None and not path.exists():
        return []
    database = schema.open_database(connection)
    if not sa.inspect(database.writer.get_engine()).has_table(ReplicaRow.__tablename__):
        return []
    return ReplicaStore(database).replicas(image_id)


def _table(replicas: Sequence[Replica]) -> prettytable.PrettyTable:
    table = prettytable.PrettyTable(_COLUMNS)
    table.align = "l"
    table.max_width["Error"] = _ERROR_WIDTH
    for replica in replicas:
        table.add_row(
            [
                replica.image_id,
                replica.target,
                replica.status,
                f"{replica.progress:.0%}",
                "" if replica.size is None else replica.size,
                replica.attempts,
                replica.as_dict()["next_attempt_at"] or "",
                printable(replica.error or "", _ERROR_CHARACTERS),
            ]
        )
    return table


if __name__ == "__main__":
    main()
