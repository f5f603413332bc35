# SPDX-License-Identifier: Apache-2.0
"""The subcommand ``verify`` of ``glance-repl-manage``."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import prettytable
from oslo_config import cfg

from glance_repl_mw import exceptions, opts
from glance_repl_mw.checks import deployment, secrecy
from glance_repl_mw.cmd import orphans
from glance_repl_mw.cmd.arguments import positive
from glance_repl_mw.cmd.records import require_records
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.reconciler import assembly
from glance_repl_mw.reconciler.deletion_guard import DeletionGuard
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.reconciler.verification import Outcome, Verdict, Verifier
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets import loader

_PAGE = 50
_WHY_WIDTH = 60
_MOST = 1000
_NOT_GOOD = (Outcome.BAD, Outcome.UNKNOWN)
_NOT_ASKED = Verdict(Outcome.UNKNOWN, "not asked: the target failed several times in a row")


@dataclasses.dataclass(frozen=True)
class _Line:
    """A replica as the command shows it."""

    image_id: str
    target: str
    object_name: str | None
    verdict: str
    why: str


def add_commands(commands: Any) -> None:
    """Add this subcommand.

    :param commands: argparse's subparsers; each sets ``run``, which gets the configuration and
        returns the exit status
    """
    parser = commands.add_parser(
        "verify", help="see that replicas are good; the bad ones are withdrawn and repaired"
    )
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="only those of this image")
    parser.add_argument("--target", metavar="TARGET", help="only those at this target")
    parser.add_argument("--read-back", action="store_true", help="read and compare all bytes")
    parser.add_argument(
        "--sample", type=positive, metavar="N", help="only so many at each target, at random"
    )
    parser.add_argument(
        "--orphans", action="store_true", help="list objects that no image accounts for instead"
    )
    parser.add_argument("--delete", action="store_true", help="delete the orphans")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=_run)


def _run(conf: cfg.ConfigOpts) -> int:
    """Returns 0, or 1 where a replica is not good or an orphan stays."""
    command = conf.command
    for_replicas = command.image or command.read_back or command.sample
    if command.orphans and for_replicas:
        raise exceptions.ConfigError(hint="--orphans goes only with --target and --delete")
    if command.delete and not command.orphans:
        raise exceptions.ConfigError(hint="--delete goes only with --orphans")
    tools = _tools(deployment.read(conf).replication)
    targets = _chosen(tools, command.target)
    if command.orphans:
        return orphans.run(tools, targets, delete=command.delete, as_json=command.format == "json")
    verifier = Verifier(tools)
    lines = [
        _line(replica, verdict)
        for target in targets
        for replica, verdict in _verify(
            tools, verifier, _replicas(tools, target, command), command.read_back
        )
    ]
    if command.image and not lines:
        raise exceptions.ConfigError(command.image, command.target, hint="there is no replica")
    _show(lines, command.format)
    return 1 if any(line.verdict in _NOT_GOOD for line in lines) else 0


def _tools(conf: cfg.ConfigOpts) -> Tools:
    loader.check_values(conf)
    conf.register_opts(opts.GLANCE_OPTIONS)
    drivers = loader.load_targets(conf)
    health = {name: TargetHealth() for name in drivers}
    images = ImageService(conf, readability=assembly.readability(drivers, health))
    records = require_records(conf)
    spool = Spool(conf.replication.spool_dir)
    targets = assembly.guarded(conf, drivers, records.database)
    return Tools(
        conf=conf,
        spool=spool,
        survey=records.survey,
        wishes=records.wishes,
        outlooks=records.outlooks,
        images=images,
        guard=DeletionGuard(conf, images, DeletionRecords(records.database), targets, health),
        targets=targets,
        health=health,
    )


def _chosen(tools: Tools, name: str | None) -> Sequence[str]:
    """The targets to look at.

    :raises ConfigError: it is not configured
    """
    if name is None:
        return list(tools.targets)
    if name not in tools.targets:
        known = ", ".join(tools.targets) or "none"
        raise exceptions.ConfigError(
            target=name, hint=f"there is no target of this name; configured: {known}"
        )
    return [name]


def _replicas(tools: Tools, target: str, command: Any) -> Iterator[Sequence[Replica]]:
    """Pages of the replicas to verify."""
    if command.image:
        rows = tools.survey.of_images([command.image]).get(command.image, ())
        found = [row for row in rows if row.target == target and _is_open(row)]
        return iter([found])
    pages = _active(tools, target)
    return pages if command.sample is None else iter([_sample(pages, command.sample)])


def _is_open(row: Replica) -> bool:
    return row.status not in (ReplicaStatus.DELETED, ReplicaStatus.DELETING)


def _active(tools: Tools, target: str) -> Iterator[Sequence[Replica]]:
    after = 0
    while page := tools.survey.page(target, [ReplicaStatus.ACTIVE], after=after, limit=_PAGE):
        yield page
        after = page[-1].id


def _sample(pages: Iterator[Sequence[Replica]], number: int) -> Sequence[Replica]:
    """So many of them at random, each with the same chance; holds no more than these."""
    chosen: list[Replica] = []
    for seen, replica in enumerate(each for page in pages for each in page):
        if seen < number:
            chosen.append(replica)
        elif (place := random.randrange(seen + 1)) < number:
            chosen[place] = replica
    return chosen


def _verify(
    tools: Tools, verifier: Verifier, pages: Iterator[Sequence[Replica]], read_back: bool
) -> Iterator[tuple[Replica, Verdict]]:
    """Verify the replicas of one target, which is asked no more once it is down."""
    for page in pages:
        verdicts = verifier.verify_all(page, read_back=read_back)
        for replica in page:
            if not tools.health[replica.target].is_up:
                yield replica, _NOT_ASKED
                continue
            _, verdict = next(verdicts)
            _note(tools.health[replica.target], verdict)
            yield replica, verdict


def _note(health: TargetHealth, verdict: Verdict) -> None:
    if verdict.outcome is Outcome.UNKNOWN:
        health.failed(exceptions.TargetError(hint=verdict.why))
    elif verdict.outcome is not Outcome.SKIPPED:
        health.succeeded()


def _line(replica: Replica, verdict: Verdict) -> _Line:
    return _Line(
        replica.image_id,
        replica.target,
        replica.object_name,
        verdict.outcome,
        printable(secrecy.redact(verdict.why), _MOST),
    )


def _show(lines: Sequence[_Line], form: str) -> None:
    if form == "json":
        print(json.dumps([dataclasses.asdict(line) for line in lines], indent=2))
    elif lines:
        print(_table(lines))
        print(_summary(Counter(line.verdict for line in lines)))
    else:
        print("There is no replica to verify.")


def _table(lines: Sequence[_Line]) -> prettytable.PrettyTable:
    table = prettytable.PrettyTable(("Image", "Target", "Object", "Verdict", "Why"))
    table.align = "l"
    table.max_width["Why"] = _WHY_WIDTH
    table.add_rows([list(dataclasses.astuple(line)) for line in lines])
    return table


def _summary(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[each]} {each}" for each in Outcome if counts[each])
