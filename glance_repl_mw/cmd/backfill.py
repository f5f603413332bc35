"""The subcommand ``backfill`` of ``glance-repl-manage``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from oslo_config import cfg

from glance_repl_mw import exceptions
from glance_repl_mw.checks import deployment
from glance_repl_mw.checks import targets as target_checks
from glance_repl_mw.choice import Choice
from glance_repl_mw.cmd.arguments import positive
from glance_repl_mw.cmd.records import Records, require_records
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Image, Priority, Replica, ReplicaStatus
from glance_repl_mw.reconciler.pages import pages
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
    search = _Search(records, Spool(replication.replication.spool_dir), target, choice)
    found, size = 0, 0
    for image in itertools.islice(search.lacking(ImageService(replication)), command.limit):
        found, size = found + 1, size + (image.size or 0)
        if command.dry_run:
            print(image.image_id, image.size)
        else:
            records.survey.plan(image.image_id, [command.target], Priority.BACKFILL, image.size)
    what = "that target {} lacks" if command.dry_run else "planned for target {}"
    print(f"Images {what.format(command.target)}: {found}; bytes: {size}.")
    if found and not command.dry_run:
        print("The writer makes them, after uploads and repairs.")
    if search.withheld:
        print(f"Images left out, since someone removed their location: {search.withheld}.")
    if search.unwanted:
        print(f"Images left out, as glance-repl-manage explain IMAGE says: {search.unwanted}.")
    return 0


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


class _Search:
    """Compares all images of Glance with the replicas of one target.

    :ivar withheld: images so far that shall not come back to the target
    :ivar unwanted: images so far that ``replicate_if`` or their own property keeps from it
    """

    def __init__(self, records: Records, spool: Spool, target: Target, choice: Choice) -> None:
        self.withheld = self.unwanted = 0
        self._choice = choice
        self._records = records
        self._spool = spool
        self._target = target

    def lacking(self, images: ImageService) -> Iterator[Image]:
        """Images with data that have no replica at the target, oldest first.

        :raises GlanceUnavailable:
        :raises GlanceRefused:
        :raises OSError: the spool cannot be read
        """
        for page in pages(images):
            in_hand = {upload.image_id for upload in self._spool.uploads()}
            rows = self._records.survey.of_images([image.image_id for image in page])
            for image in page:
                if image.has_data and image.size and image.image_id not in in_hand:
                    yield from self._if_lacking(image, rows.get(image.image_id, ()))

    def _if_lacking(self, image: Image, rows: Sequence[Replica]) -> Iterator[Image]:
        closed = [row for row in rows if row.target == self._target.name]
        if any(row.status is not ReplicaStatus.DELETED for row in closed):
            return
        if any(row.withheld for row in closed):
            self.withheld += 1
            return
        known = {row.location_url for row in closed}
        if any(url not in known and self._target.object_name(url) for url in image.locations):
            return
        if self._choice.verdict(image, self._target.name, on_demand=True).wanted:
            yield image
        else:
            self.unwanted += 1
