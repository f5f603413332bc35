# SPDX-License-Identifier: Apache-2.0
"""The subcommands ``target drain``, ``target remove`` and ``target restore``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from glance_repl_mw import exceptions
from glance_repl_mw.checks import deployment
from glance_repl_mw.checks import targets as target_checks
from glance_repl_mw.choice import Choice
from glance_repl_mw.cmd import lack
from glance_repl_mw.cmd.lacking import Search, lacking
from glance_repl_mw.cmd.records import Records, require_records
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Replica, ReplicaStatus, Wish
from glance_repl_mw.reconciler.place import marked_fact
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets.base import Target

INCOMPLETE = 1
INTERRUPTED = 130
_LOOK_SECONDS = 1.0
_SHOW_SECONDS = 5.0
_SHOWN_AT_MOST = 20
_BACKGROUND = "glance-repl-manage target list shows how far it is."
_DANGEROUS = (
    "remove is for a target that is lost for good: its replicas are forgotten, its objects stay "
    "where they are, and it is not asked. Confirm this with --force, or empty the target with "
    "target drain"
)
_UNREACHABLE = (
    "is not configured, so that its objects cannot be deleted; put it back first, or forget it "
    "with target remove --force"
)


def drain(conf: cfg.ConfigOpts) -> int:
    """Empty a target: locations first, then objects."""
    replication = deployment.read(conf).replication
    records = require_records(replication)
    target = conf.command.target
    records.require(target)
    if target not in records.drivers:
        raise exceptions.ConfigError(target=target, operation="drain", hint=_UNREACHABLE)
    return _leave(replication, records, Wish.DRAIN, conf.command)


def remove(conf: cfg.ConfigOpts) -> int:
    """Forget a target that is lost: its locations go, and nothing is asked of it."""
    replication = deployment.read(conf).replication
    records = require_records(replication)
    target = conf.command.target
    records.require(target)
    if not conf.command.force:
        raise exceptions.ConfigError(target=target, hint=_DANGEROUS)
    return _leave(replication, records, Wish.REMOVE, conf.command)


def restore(conf: cfg.ConfigOpts) -> int:
    """Let a target that was drained or removed hold replicas again."""
    replication = deployment.read(conf).replication
    records = require_records(replication)
    target = conf.command.target
    records.require(target)
    records.wishes.take_back(target)
    _forget_obstacles(records, target)
    # It may come with another disk, or at another place.
    DeletionRecords(records.database).forget_fact(marked_fact(target))
    print(f"Target {target} holds replicas again, where it is configured.")
    targets, _ = target_checks.load(replication)
    if target in targets:
        print(_what_is_missing(replication, records, targets[target]))
        lack.warn(replication)
    return 0


def _what_is_missing(conf: cfg.ConfigOpts, records: Records, target: Target) -> str:
    """What becomes of the images that the target has not; asks Glance where nothing does."""
    choice = Choice(conf, {target.name: target})
    if choice.is_lazy(target.name):
        return "It is lazy: it gets what is asked for."
    if conf.replication.automatic_backfill:
        return "The writer makes what is missing there, with its next comparison."
    backfill = f"glance-repl-manage backfill --target {target.name}"
    search = Search(records, Spool(conf.replication.spool_dir), target, choice)
    try:
        missing = sum(1 for _ in lacking(ImageService(conf), [search]))
    except (exceptions.ReplicationError, OSError) as error:
        return f"What is missing there is not known ({error}); {backfill} makes it."
    if not missing:
        return "No image is missing there."
    return f"Images missing there: {missing}; automatic_backfill is off, so run {backfill}."


def _leave(conf: cfg.ConfigOpts, records: Records, wish: Wish, command: Any) -> int:
    target = command.target
    _forget_obstacles(records, target)
    records.wishes.ask(target, wish)
    lack.warn(conf)
    if command.no_wait:
        print(f"The writer empties target {target} in the background; {_BACKGROUND}")
        return 0
    print(f"The writer empties target {target}; Ctrl-C leaves it to go on in the background.")
    try:
        return _wait(records, target, lack.Patience(conf))
    except KeyboardInterrupt:
        print(f"\nIt goes on in the background; {_BACKGROUND}")
        return INTERRUPTED


def _forget_obstacles(records: Records, target: str) -> None:
    """What kept replicas from leaving is looked at anew."""
    for replica in records.staying(target):
        records.survey.change(replica, error=None)


def _wait(records: Records, target: str, patience: lack.Patience) -> int:
    """Show how many replicas are left until none can leave any more; returns the exit status.

    It ends as well where no writer has run for a while.
    """
    shown: Mapping[ReplicaStatus, int] | None = None
    shown_at = 0.0
    while counts := records.counts().get(target):
        staying = records.staying(target) if set(counts) <= {"active", "stored", "error"} else []
        if len(staying) == sum(counts.values()):
            _show_staying(target, staying)
            return INCOMPLETE
        if shown is None or (counts != shown and time.monotonic() - shown_at >= _SHOW_SECONDS):
            print(_progress(records, target, counts), flush=True)
            shown, shown_at = counts, time.monotonic()
        if why := patience.lack():
            print(f"It stays planned: {why}.")
            return INCOMPLETE
        time.sleep(_LOOK_SECONDS)
    print(f"Target {target} is empty.")
    return 0


def _progress(records: Records, target: str, counts: Mapping[ReplicaStatus, int]) -> str:
    details = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    line = f"Replicas left: {sum(counts.values())} ({details})"
    for replica in records.survey.page(target, [ReplicaStatus.DELETING], after=0, limit=1):
        if replica.attempts:
            return f"{line}; the target is asked again: {printable(replica.error or '')}"
    return line


def _show_staying(target: str, staying: list[Replica]) -> None:
    print(f"Target {target} keeps these replicas, which are tried again every minute:")
    for replica in staying[:_SHOWN_AT_MOST]:
        print(f"  image {replica.image_id} {printable(replica.error or '')}")
    if len(staying) > _SHOWN_AT_MOST:
        print(f"  {len(staying)} in all; target list shows the others")
