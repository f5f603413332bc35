# SPDX-License-Identifier: Apache-2.0
"""The subcommands of ``glance-repl-manage`` for targets that join and leave."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import prettytable
from oslo_config import cfg

from glance_repl_mw import exceptions
from glance_repl_mw.checks import deployment, leaving, secrecy
from glance_repl_mw.checks import targets as target_checks
from glance_repl_mw.choice import Choice
from glance_repl_mw.cmd import backfill, lack, leave, places
from glance_repl_mw.cmd.lacking import Search, lacking
from glance_repl_mw.cmd.records import open_records, require_records
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Wish
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets.base import Target

_ANSWER_SECONDS = 10.0
_COLUMNS = ("Target", "Driver", "URL", "Wish", "Replicas", "Answers")
_WIDTH = 50
_ERROR_CHARACTERS = 1000
# While there are replicas, and when there are none.
_WORDS = {Wish.DRAIN: ("draining", "drained"), Wish.REMOVE: ("removing", "removed")}


@dataclasses.dataclass(frozen=True)
class _Line:
    """A target as ``target list`` shows it.

    :ivar replicas: their number by status
    :ivar answers: None where it was not asked
    :ivar error: why it does not answer, or was not asked
    :ivar cannot_leave: replicas of a target that leaves which have to stay
    :ivar missing: images that it is to have and has not, None where that was not asked for
    """

    target: str
    configured: bool
    driver: str | None
    url: str | None
    wish: str | None
    replicas: dict[str, int]
    answers: bool | None
    error: str | None
    cannot_leave: list[dict[str, str]]
    missing: int | None = None

    def as_dict(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        if self.missing is None:
            del fields["missing"]
        return fields


def add_commands(commands: Any) -> None:
    """Add these subcommands.

    :param commands: argparse's subparsers; each sets ``run``, which gets the configuration and
        returns the exit status
    """
    parser = commands.add_parser("target", help="targets: show them, let them leave")
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    shown = actions.add_parser("list", help="show all targets and whether they answer")
    shown.add_argument("--format", choices=("table", "json"), default="table")
    shown.add_argument(
        "--missing",
        action="store_true",
        help="count the images that each is to have and has not; asks Glance for all images",
    )
    shown.set_defaults(run=_list)
    drain = actions.add_parser("drain", help="empty a target: locations first, then objects")
    drain.set_defaults(run=leave.drain)
    remove = actions.add_parser("remove", help="forget a lost target; it is not asked")
    remove.add_argument("--force", action="store_true", help="yes, it is lost")
    remove.set_defaults(run=leave.remove)
    for action in (drain, remove):
        action.add_argument("--no-wait", action="store_true", help="do not wait for the end")
    restore = actions.add_parser("restore", help="let a drained target hold replicas again")
    restore.set_defaults(run=leave.restore)
    moved = actions.add_parser(
        "moved", help="its objects were moved along with its url: locations follow"
    )
    moved.set_defaults(run=places.moved)
    claim = actions.add_parser("claim", help="the collection at its url is its own")
    claim.set_defaults(run=places.claim)
    for action in (drain, remove, restore, moved, claim):
        action.add_argument("target", metavar="TARGET")
    backfill.add_command(commands)


def _list(conf: cfg.ConfigOpts) -> int:
    replication = deployment.read(conf).replication
    targets, _ = target_checks.load(replication)
    secrets = secrecy.secrets_of(replication, targets.values())
    lines = [_redacted(line, secrets) for line in _lines(replication, targets)]
    if conf.command.missing:
        missing = _missing(replication, targets)
        lines = [dataclasses.replace(each, missing=missing.get(each.target)) for each in lines]
    if conf.command.format == "json":
        print(json.dumps([line.as_dict() for line in lines], indent=2))
    else:
        print(_table(lines))
        for line in lines:
            for stays in line.cannot_leave:
                print(f"{line.target}: image {stays['image_id']} {printable(stays['error'])}")
    lack.warn(replication)
    return 0


def _missing(conf: cfg.ConfigOpts, targets: Mapping[str, Target]) -> dict[str, int]:
    """How many images each target is to have and has not, by name; not of those that leave.

    :raises ConfigError:
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    """
    records = require_records(conf)
    spool, choice = Spool(conf.replication.spool_dir), Choice(conf, targets)
    leaving_targets = records.wishes.all()
    searches = [
        Search(records, spool, target, choice, on_demand=False)
        for name, target in targets.items()
        if name not in leaving_targets
    ]
    counts = {search.target.name: 0 for search in searches}
    for search, _ in lacking(ImageService(conf), searches):
        counts[search.target.name] += 1
    return counts


def _lines(conf: cfg.ConfigOpts, targets: Mapping[str, Target]) -> list[_Line]:
    records = open_records(conf)
    drivers = leaving.configured(conf)
    wishes = records.wishes.all() if records else {}
    asked = [target for name, target in targets.items() if wishes.get(name) is not Wish.REMOVE]
    problems = _ask(asked)
    replicas = records.counts() if records else {name: {} for name in drivers}
    lines = []
    for name, counts in replicas.items():
        wish = wishes.get(name)
        staying = records.staying(name) if records and wish else []
        lines.append(
            _Line(
                target=name,
                configured=name in drivers,
                driver=drivers.get(name),
                url=targets[name].conf.get("url") if name in targets else None,
                wish=_WORDS[wish][not counts] if wish else None,
                replicas={str(status): counts[status] for status in sorted(counts)},
                answers=not problems[name] if name in problems else None,
                error=problems.get(name) or _reason(name, drivers, targets),
                cannot_leave=[
                    {"image_id": row.image_id, "error": row.error or ""} for row in staying
                ],
            )
        )
    return lines


def _reason(name: str, drivers: Mapping[str, str], targets: Mapping[str, Target]) -> str | None:
    """Why a target cannot be asked."""
    if name not in drivers:
        return "not configured"
    return None if name in targets else "wrong configuration: run glance-repl-manage check"


def _ask(targets: list[Target]) -> dict[str, str]:
    """What is wrong with each target, empty where it answers; asks all at once."""
    answers: dict[str, str] = {}
    threads = [
        threading.Thread(target=_ask_one, args=(target, answers), daemon=True)
        for target in targets
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = f"no answer within {_ANSWER_SECONDS:.0f} s"
    return {target.name: answers.get(target.name, late) for target in targets}


def _ask_one(target: Target, answers: dict[str, str]) -> None:
    try:
        target.probe(None)
    except exceptions.TargetError as error:
        answers[target.name] = error.hint
    else:
        answers[target.name] = ""


def _redacted(line: _Line, secrets: set[str]) -> _Line:
    url = secrecy.redact(line.url, secrets) if line.url else None
    error = secrecy.redact(line.error, secrets) if line.error else None
    return dataclasses.replace(line, url=url, error=error and printable(error, _ERROR_CHARACTERS))


def _table(lines: list[_Line]) -> prettytable.PrettyTable:
    is_counted = any(line.missing is not None for line in lines)
    table = prettytable.PrettyTable((*_COLUMNS, "Missing") if is_counted else _COLUMNS)
    table.align = "l"
    table.max_width["Answers"] = _WIDTH
    for line in lines:
        replicas = ", ".join(f"{number} {status}" for status, number in line.replicas.items())
        answers = "yes" if line.answers else line.error or "not asked"
        table.add_row(
            [
                line.target,
                line.driver or "-",
                line.url or "-",
                line.wish or "-",
                replicas or "-",
                answers if line.answers is not False else f"no: {answers}",
                *(["-" if line.missing is None else line.missing] if is_counted else []),
            ]
        )
    return table
