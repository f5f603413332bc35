# SPDX-License-Identifier: Apache-2.0
"""The subcommand ``sync`` of ``glance-repl-manage``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from oslo_config import cfg

from glance_repl_mw import exceptions
from glance_repl_mw.checks import deployment
from glance_repl_mw.choice import Choice
from glance_repl_mw.cmd import lack
from glance_repl_mw.cmd.records import Records, counting, require_records
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import WAITING_FOR_BYTES, Image, Replica, ReplicaStatus
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets import loader

INCOMPLETE = 1
INTERRUPTED = 130
_LOOK_SECONDS = 0.5
_MOST = 1000
_LEAVES = "it is drained or removed; run glance-repl-manage target restore first"


def add_command(commands: Any) -> None:
    """Add this subcommand to argparse's subparsers."""
    parser = commands.add_parser("sync", help="replicate an image before all others")
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument(
        "--target",
        action="append",
        metavar="TARGET",
        help="only to this one, whatever its options say of the image; may be repeated",
    )
    parser.add_argument("--wait", action="store_true", help="until it is there or has failed")
    parser.set_defaults(run=_sync)


def _sync(conf: cfg.ConfigOpts) -> int:
    """Returns 0, or 1 where ``--wait`` saw an attempt fail, or no writer for a while."""
    replication = deployment.read(conf).replication
    command = conf.command
    loader.check_values(replication)
    choice = Choice(replication, loader.load_targets(replication))
    records = require_records(replication)
    image = ImageService(replication).get(command.image)
    if not image.has_data or not image.size:
        hint = f"it is {image.status} and has {image.size or 0} bytes: there is nothing to copy"
        if image.has_data and image.size is None:
            hint = "Glance does not tell its size, so that no copy of it could be proven"
        raise exceptions.ConfigError(image.image_id, operation="sync", hint=hint)
    if command.target:
        targets = list(dict.fromkeys(command.target))
        _require(records, targets)
    else:
        targets = _chosen(records, choice, image)
    before = _replicas(records, image)
    for target in targets:
        print(f"{target}: {_demand(records, image, target)}")
    spool, is_spooled = Spool(replication.replication.spool_dir), False
    with contextlib.suppress(OSError):
        # Lets the writer of this node try again at once what waits in its hand.
        spool.note(image.image_id)
        is_spooled = spool.holds(image.image_id)
    lack.warn(replication, is_spooled=is_spooled)
    if not command.wait:
        return 0
    return _wait(records, image, targets, before, lack.Patience(replication))


def _require(records: Records, targets: Sequence[str]) -> None:
    """See that these targets can be asked for.

    :raises ConfigError:
    """
    leaving = records.wishes.all()
    for target in targets:
        records.require(target)
        if target not in records.drivers:
            raise exceptions.ConfigError(target=target, hint="it is not configured any more")
        if target in leaving:
            raise exceptions.ConfigError(target=target, operation="sync", hint=_LEAVES)


def _chosen(records: Records, choice: Choice, image: Image) -> list[str]:
    """All targets that may have the image, the lazy ones too; says why others are left out."""
    leaving = records.wishes.all()
    chosen = []
    for target in records.drivers:
        verdict = choice.verdict(image, target, on_demand=True)
        if target in leaving or not verdict.wanted:
            why = "it is drained or removed" if target in leaving else verdict.why
            print(f"{target}: left out: {why}")
        else:
            chosen.append(target)
    return chosen


def _replicas(records: Records, image: Image) -> dict[str, list[Replica]]:
    """All rows of the image by target, the closed ones too."""
    found: dict[str, list[Replica]] = {}
    for row in records.survey.of_images([image.image_id]).get(image.image_id, ()):
        found.setdefault(row.target, []).append(row)
    return found


def _demand(records: Records, image: Image, target: str) -> str:
    """Plan the replica, or have it made sooner; returns what is done, in words."""
    replica = records.demands.synchronise(image.image_id, target, image.size or 0)
    if replica.status is ReplicaStatus.ACTIVE:
        return "has it already"
    if replica.status in WAITING_FOR_BYTES and replica.node is None:
        return "is made now"
    return f"is being made: {replica.status}"


def _wait(
    records: Records,
    image: Image,
    targets: Sequence[str],
    before: Mapping[str, Sequence[Replica]],
    patience: lack.Patience,
) -> int:
    """Show how the replicas come into being; returns the exit status."""
    known = {target: counting(before.get(target, ())) for target in targets}
    failures = {target: row.attempts if row else 0 for target, row in known.items()}
    shown: dict[str, str] = {}
    failed: set[str] = set()
    waiting = set(targets)
    try:
        while waiting:
            rows = _replicas(records, image)
            for target in sorted(waiting):
                replica = counting(rows.get(target, ()))
                word = replica.status if replica else "gone"
                if replica is None or replica.attempts > failures[target]:
                    failed.add(target)
                    error = replica.error or "" if replica else "it was removed"
                    word = f"failed: {printable(error, _MOST)}"
                if shown.get(target) != word:
                    print(f"{target}: {word}", flush=True)
                shown[target] = word
                if target in failed or word == ReplicaStatus.ACTIVE:
                    waiting.discard(target)
            if waiting and (why := patience.lack()):
                print(f"It stays planned: {why}.")
                return INCOMPLETE
            time.sleep(_LOOK_SECONDS if waiting else 0)
    except KeyboardInterrupt:
        print("\nIt goes on in the background.")
        return INTERRUPTED
    return INCOMPLETE if failed else 0
