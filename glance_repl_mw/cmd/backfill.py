# SPDX-License-Identifier: Apache-2.0
"""The subcommand ``backfill`` of ``glance-repl-manage``."""

from __future__ import annotations

import itertools
from typing import Any

from oslo_config import cfg

from glance_repl_mw import exceptions
from glance_repl_mw.checks import deployment
from glance_repl_mw.checks import targets as target_checks
from glance_repl_mw.choice import Choice
from glance_repl_mw.cmd import lack
from glance_repl_mw.cmd.arguments import positive
from glance_repl_mw.cmd.lacking import Search, lacking
from glance_repl_mw.cmd.records import Records, require_records
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Priority
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets.base import Target


def add_command(commands: Any) -> None:
    """Add this subcommand to argparse's subparsers."""
    parser = commands.add_parser("backfill", help="replicate images that a target lacks")
    parser.add_argument("--target", required=True, metavar="TARGET")
    parser.add_argument("--dry-run", action="store_true", help="only show these images")
    parser.add_argument("--limit", type=positive, metavar="N", help="at most so many images")
    parser.set_defaults(run=_backfill)


def _backfill(conf: cfg.ConfigOpts) -> int:
    replication = deployment.read(conf).replication
    command = conf.command
    records = require_records(replication)
    target = _target(replication, records, command.target)
    choice = Choice(replication, {target.name: target})
    if choice.is_lazy(target.name):
        print(f"Target {target.name} is lazy: it gets these images since you ask for it.")
    search = Search(records, Spool(replication.replication.spool_dir), target, choice)
    images = ImageService(replication)
    found, size = 0, 0
    for _, image in itertools.islice(lacking(images, [search]), command.limit):
        found, size = found + 1, size + (image.size or 0)
        if command.dry_run:
            print(image.image_id, image.size)
        else:
            records.survey.plan(image.image_id, [command.target], Priority.BACKFILL, image.size)
    what = "that target {} lacks" if command.dry_run else "planned for target {}"
    print(f"Images {what.format(command.target)}: {found}; bytes: {size}.")
    if found and not command.dry_run:
        print("The writer makes them, after uploads and repairs.")
    _show_left_out(search)
    if search.coming or not command.dry_run:
        lack.warn(replication, is_spooled=search.coming > 0)
    return 0


def _show_left_out(search: Search) -> None:
    if search.coming:
        print(f"Images in the spool, which its writer replicates there: {search.coming}.")
    if search.withheld:
        print(f"Images left out, since someone removed their location: {search.withheld}.")
    if search.unwanted:
        print(f"Images left out, as glance-repl-manage explain IMAGE says: {search.unwanted}.")


def _target(conf: cfg.ConfigOpts, records: Records, name: str) -> Target:
    """The target to backfill.

    :raises ConfigError: it is unknown, wrongly configured, or leaves
    """
    records.require(name)
    if name in records.wishes.all():
        raise exceptions.ConfigError(
            target=name,
            operation="backfill",
            hint="it is drained or removed; run glance-repl-manage target restore first",
        )
    targets, _ = target_checks.load(conf)
    if name not in targets:
        raise exceptions.ConfigError(
            target=name,
            operation="backfill",
            hint="it is not configured, or wrongly; see glance-repl-manage check",
        )
    return targets[name]
