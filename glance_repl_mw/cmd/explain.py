# SPDX-License-Identifier: Apache-2.0
"""The subcommand ``explain`` of ``glance-repl-manage``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import prettytable
from oslo_config import cfg

from glance_repl_mw.checks import deployment, secrecy, writers
from glance_repl_mw.choice import Choice, Verdict
from glance_repl_mw.cmd import lack
from glance_repl_mw.cmd.records import counting, require_records
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Image, Replica, ReplicaStatus, Wish
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets import loader

_COLUMNS = ("Target", "Wanted", "Why", "Replica", "Next")
_WIDTH = 40
_MOST = 1000
_WORDS = {True: "yes", False: "no", None: "not yet known"}
_SYNC = "glance-repl-manage sync makes it"
_WAITS_IN_SPOOL = "it waits in the spool of this node, on which no writer runs"
_NOT_CONFIGURED = Verdict(False, "the target is not configured any more")
_EMPTY = Verdict(False, "an empty image can have no HTTP location")
_SIZELESS = Verdict(
    False, "Glance does not tell the image's size, so that no copy of it could be proven"
)
_WITHHELD = Verdict(False, "it was removed here, and shall not come back by itself")
_LEAVES = {
    Wish.DRAIN: Verdict(False, "the target is drained"),
    Wish.REMOVE: Verdict(False, "the target was removed"),
}


@dataclasses.dataclass(frozen=True)
class _Line:
    """A target as the command shows it.

    :ivar wanted: None where that depends on what is not known yet
    :ivar replica: the status of the replica, None where there is none
    """

    target: str
    wanted: bool | None
    why: str
    replica: str | None
    error: str | None
    next: str


@dataclasses.dataclass(frozen=True)
class _Subject:
    """An image, and what there is of it.

    :ivar is_spooled: the spool of this node holds its bytes
    :ivar lacks_writer: but nobody reads them there
    :ivar rows: all of them, the closed ones too
    """

    image: Image
    is_spooled: bool
    lacks_writer: bool
    rows: Sequence[Replica]
    wishes: dict[str, Wish]

    def of(self, target: str) -> list[Replica]:
        return [row for row in self.rows if row.target == target]


def add_command(commands: Any) -> None:
    """Add this subcommand to argparse's subparsers."""
    parser = commands.add_parser(
        "explain", help="say for every target why it is to have an image, or why not"
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=_explain)


def _explain(conf: cfg.ConfigOpts) -> int:
    replication = deployment.read(conf).replication
    loader.check_values(replication)
    targets = loader.load_targets(replication)
    records = require_records(replication)
    image = ImageService(replication).get(conf.command.image)
    is_spooled = Spool(replication.replication.spool_dir).holds(image.image_id)
    subject = _Subject(
        image,
        is_spooled,
        is_spooled and bool(writers.look(replication).spool_lack),
        records.survey.of_images([image.image_id]).get(image.image_id, ()),
        records.wishes.all(),
    )
    choice = Choice(replication, targets)
    secrets = secrecy.secrets_of(replication, targets.values())
    lines = [
        _redacted(line, secrets) for line in _lines(replication, choice, list(targets), subject)
    ]
    if conf.command.format == "json":
        print(json.dumps([dataclasses.asdict(line) for line in lines], indent=2))
        return 0
    print(_table(lines))
    for remark in choice.remarks(image):
        print(f"Image {image.image_id}: {printable(remark, _MOST)}.")
    lack.warn(replication, is_spooled=subject.is_spooled)
    return 0


def _lines(
    conf: cfg.ConfigOpts, choice: Choice, configured: Sequence[str], subject: _Subject
) -> Iterator[_Line]:
    """A line for each configured target, then for others that have a replica."""
    forgotten = {row.target for row in subject.rows if counting(subject.of(row.target))}
    for target in (*configured, *sorted(forgotten - set(configured))):
        rows = subject.of(target)
        is_configured = target in configured
        verdict = _verdict(choice, target, subject) if is_configured else _NOT_CONFIGURED
        replica = counting(rows)
        if replica is not None:
            follows = _with_replica(replica, verdict)
        else:
            follows = _without_replica(conf, choice, target, subject, verdict)
        yield _Line(
            target,
            verdict.wanted,
            verdict.why,
            replica.status if replica else None,
            replica.as_dict()["error"] if replica else None,
            follows,
        )


def _verdict(choice: Choice, target: str, subject: _Subject) -> Verdict:
    """The choice, unless something weighs more."""
    if target in subject.wishes:
        return _LEAVES[subject.wishes[target]]
    if subject.image.has_data and not subject.image.size:
        return _SIZELESS if subject.image.size is None else _EMPTY
    rows = subject.of(target)
    if counting(rows) is None and any(row.withheld for row in rows):
        return _WITHHELD
    return choice.verdict(subject.image, target)


def _with_replica(replica: Replica, verdict: Verdict) -> str:
    """What happens to a replica that is there, or is being made."""
    planned = replica.as_dict()["next_attempt_at"]
    if replica.status is ReplicaStatus.ACTIVE:
        stays = "nothing" if verdict.wanted else "it stays: what is there is kept"
        return "it goes" if verdict in _LEAVES.values() else stays
    if replica.status is ReplicaStatus.UPLOADING:
        return f"it is being written, {replica.progress:.0%}"
    if replica.status is ReplicaStatus.STORED:
        return "it becomes a location" if planned else "it waits for the target to be back"
    if replica.node is not None and planned is None:
        return "it is written soon"
    return f"it is tried from {planned} on" if planned else f"nothing; {_SYNC}"


def _without_replica(
    conf: cfg.ConfigOpts, choice: Choice, target: str, subject: _Subject, verdict: Verdict
) -> str:
    """What happens where there is no replica."""
    if verdict.wanted is False:
        on_demand = choice.verdict(subject.image, target, on_demand=True).wanted
        is_for_asking = verdict not in (_EMPTY, _SIZELESS, *_LEAVES.values()) and on_demand
        return f"nothing; {_SYNC}" if is_for_asking else "nothing"
    if not subject.image.has_data:
        return f"the image is {subject.image.status}: it is made with its data"
    if subject.is_spooled:
        return _WAITS_IN_SPOOL if subject.lacks_writer else "the writer takes it from the spool"
    if not conf.replication.automatic_backfill:
        return f"automatic_backfill is off: {_SYNC}"
    seconds = conf.replication.reconcile_interval_seconds
    return f"it is planned by the next comparison, within about {seconds:.0f} s"


def _redacted(line: _Line, secrets: set[str]) -> _Line:
    error = secrecy.redact(line.error, secrets) if line.error else None
    return dataclasses.replace(line, error=error and printable(error, _MOST))


def _table(lines: Sequence[_Line]) -> prettytable.PrettyTable:
    table = prettytable.PrettyTable(_COLUMNS)
    table.align = "l"
    for column in ("Why", "Replica", "Next"):
        table.max_width[column] = _WIDTH
    for line in lines:
        replica = line.replica or "-"
        table.add_row(
            [
                line.target,
                _WORDS[line.wanted],
                line.why,
                f"{replica}: {line.error}" if line.error else replica,
                line.next,
            ]
        )
    return table
