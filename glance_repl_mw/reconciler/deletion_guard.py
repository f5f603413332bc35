# SPDX-License-Identifier: Apache-2.0
"""Decides on every delete of an object: writer, reconciler and commands ask here first.

Before an object goes, the image's record is read from the Glance that is known, and the evidence
is put together on which ``replicas.deletion`` decides. The image's record must not name the
object; an image that is not there must have been seen deleted, or be missing for long enough and
with proof; and of an image that is there another copy must be read first.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Mapping, Sequence

from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.db.deletions import Absence, DeletionRecords
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Image
from glance_repl_mw.reconciler.breaker import CircuitBreaker
from glance_repl_mw.reconciler.copies import ReadableCopies
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.reconciler.known_glance import KnownGlance
from glance_repl_mw.replicas.deletion import Cause, Decision, Evidence, Naming, Sight, decide
from glance_repl_mw.seconds import LONGEST_SECONDS
from glance_repl_mw.targets.base import Target

LOG = log.getLogger(__name__)

# What was seen longer ago is looked at again before an object goes.
_FRESH_SECONDS = 3.0


def delete_delay(conf: cfg.ConfigOpts) -> datetime.timedelta:
    """How long the replicas of a deleted image are kept."""
    seconds = conf.replication.delete_delay_seconds
    if seconds is None:
        # Glance's own option knows no bound.
        seconds = min(conf.scrub_time, LONGEST_SECONDS) if conf.delayed_delete else 0
    return datetime.timedelta(seconds=seconds)


def missing_delay(conf: cfg.ConfigOpts) -> datetime.timedelta:
    """How long an image must be missing before it is taken for gone."""
    delay = datetime.timedelta(seconds=conf.replication.missing_image_delay_seconds)
    return max(delay, delete_delay(conf))


@dataclasses.dataclass(frozen=True)
class SeenImage:
    """What was just found of an image.

    :ivar record: Glance's record of an image that is present
    :ivar doubt: what an absence lacks to be believed; why Glance is not believed
    :ivar absence: what is known of one that is not
    :ivar is_demanded: as it was looked for
    :ivar seen_at: when Glance was asked, on the monotonic clock
    """

    image_id: str
    sight: Sight
    record: Image | None = None
    doubt: str = ""
    absence: Absence | None = None
    is_demanded: bool = False
    seen_at: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        """Whether it was seen so lately that it can be taken for what is now."""
        return time.monotonic() - self.seen_at < _FRESH_SECONDS

    @property
    def is_gone(self) -> bool:
        """Whether the image is gone as far as anybody can know."""
        return self.sight in (Sight.DELETED, Sight.ABSENT) and not self.doubt

    @property
    def has_no_data(self) -> bool:
        """Whether the image is there without data."""
        return self.record is not None and not self.record.has_data


class DeletionGuard:
    """Looks at images and decides; used by any thread. Every call may block.

    Each call may raise ``oslo_db.exception.DBError``.

    :param targets: the configured ones by name
    :param health: likewise
    :ivar copies: proves that images can be read elsewhere, and removes locations after that
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        images: ImageService,
        records: DeletionRecords,
        targets: Mapping[str, Target],
        health: Mapping[str, TargetHealth],
    ) -> None:
        self.records = records
        self.breaker = CircuitBreaker(conf, records)
        self.glance = KnownGlance(conf, images, records)
        self.copies = ReadableCopies(images, targets, health, records.is_bad)
        self._conf = conf
        self._images = images

    def look(self, image_id: str, *, is_demanded: bool = False) -> SeenImage:
        """Ask Glance for the image now, and remember when it does not show it.

        :param is_demanded: an operator wants its objects deleted now: no delay is kept
        """
        known = self.records.absence(image_id)
        began_at = time.monotonic()
        seen = self._seen(image_id, known, is_demanded)
        return dataclasses.replace(seen, is_demanded=is_demanded, seen_at=began_at)

    def _seen(self, image_id: str, known: Absence | None, is_demanded: bool) -> SeenImage:
        try:
            record = self._images.get(image_id)
            doubt = self.glance.identity_doubt()
        except exceptions.ImageGone:
            return self._absent(image_id, is_demanded)
        except (exceptions.GlanceUnavailable, exceptions.GlanceRefused) as error:
            doubt = f"Glance does not tell whether the image is there: {error.hint}"
        if doubt:
            return SeenImage(image_id, Sight.UNREADABLE, doubt=doubt)
        if known is not None:
            self.records.forget_absences([known])
        return SeenImage(image_id, Sight.PRESENT, record)

    def image_was_deleted(self, image_id: str) -> None:
        """Glance was seen to answer a DELETE of the image with 2xx."""
        self.records.note_deleted(image_id)
        self.glance.forget(image_id)

    def decide(self, seen: SeenImage, target: str, name: str, cause: Cause) -> Decision:
        """Whether the object of this name at the target may be deleted now.

        Where nobody has asked for it, it counts as one of those that may go in an hour.
        """
        naming, copies = self._naming(seen.record, target, name), 0
        if seen.record is not None:
            copies = self.copies.possible(seen.record, target, name)
        is_claim = _is_claim(seen, cause)
        evidence = Evidence(
            cause,
            seen.sight,
            naming,
            other_copies=copies,
            doubt=seen.doubt,
            has_tripped=is_claim and self.breaker.state().tripped_at is not None,
            is_anothers=self.records.has_replica(seen.image_id, target, name),
        )
        decision = decide(evidence)
        if decision.may_delete and seen.record is not None:
            unproven = self.copies.doubt(seen.record, target, name)
            decision = decide(dataclasses.replace(evidence, unproven=unproven))
        if not decision.may_delete or not is_claim:
            return decision
        if self.breaker.admits(seen.image_id, cause):
            return decision
        return decide(dataclasses.replace(evidence, has_tripped=True))

    def _naming(self, record: Image | None, target: str, name: str) -> Naming:
        if record is None:
            return Naming.UNKNOWN
        if any(self.copies.owner(url) == (target, name) for url in record.locations):
            return Naming.NAMED
        # An image with data has a location, which Glance may hide.
        return Naming.NOT_NAMED if record.locations or not record.has_data else Naming.UNKNOWN

    def _absent(self, image_id: str, is_demanded: bool) -> SeenImage:
        absence = self.records.note_missing(image_id)
        sight = Sight.DELETED if absence.was_deleted else Sight.ABSENT
        doubt = self._doubt(absence, is_demanded)
        return SeenImage(image_id, sight, doubt=doubt, absence=absence)

    def _doubt(self, absence: Absence, is_demanded: bool) -> str:
        """What the absence lacks to be believed."""
        if absence.is_released:
            return ""
        if absence.was_deleted:
            can_be_hidden = self._conf.delayed_delete and self.glance.knows_foreign_images()
            return self._glance_doubt(absence) if can_be_hidden else ""
        until = absence.since + missing_delay(self._conf)
        if timeutils.utcnow() < until and not is_demanded:
            since, end = (each.isoformat(" ", "seconds") for each in (absence.since, until))
            return f"the image is missing since {since}, and is believed to be gone from {end} on"
        return self._glance_doubt(absence)

    def _glance_doubt(self, absence: Absence) -> str:
        try:
            return self.glance.identity_doubt() or self.glance.absence_doubt(absence.image_id)
        except exceptions.ReplicationError as error:
            return f"Glance cannot be asked for the images that are known: {error}"


def delete_objects(
    guard: DeletionGuard, seen: SeenImage, target: Target, names: Sequence[str], cause: Cause
) -> dict[str, str]:
    """Delete those objects at the target that may go; blocks.

    :param seen: what was found of their image; looked at again where that was not just now, as
        where pushes to the target came first, or where earlier names took long
    :returns: why an object stays, by its name
    :raises TargetError:
    :raises oslo_db.exception.DBError:
    """
    kept: dict[str, str] = {}
    for name in names:
        if not seen.is_fresh:
            seen = guard.look(seen.image_id, is_demanded=seen.is_demanded)
        decision = guard.decide(seen, target.name, name, cause)
        if decision.may_delete:
            target.delete(name)
            what = "Image %s, target %s: deleted %s: %s"
            LOG.info(what, seen.image_id, target.name, name, decision.reason)
        else:
            kept[name] = decision.reason
    return kept


def _is_claim(seen: SeenImage, cause: Cause) -> bool:
    """Whether the delete follows from what is not there, and no operator has released it."""
    if seen.absence is not None and seen.absence.is_released:
        return False
    if seen.sight is Sight.ABSENT:
        return cause is not Cause.DEMANDED
    return cause.is_inferred and seen.sight is Sight.PRESENT
