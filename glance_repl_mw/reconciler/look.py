# SPDX-License-Identifier: Apache-2.0
"""Compares one image with its rows, and closes the difference."""

from __future__ import annotations

import datetime
import time
from collections.abc import Collection, Sequence
from typing import Any

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.choice import Choice
from glance_repl_mw.model import CLOSED, Image, Priority, Replica, ReplicaStatus
from glance_repl_mw.reconciler import renewal
from glance_repl_mw.reconciler.adoption import Adoption
from glance_repl_mw.reconciler.asking import NotAsked
from glance_repl_mw.reconciler.deletion_guard import delete_objects
from glance_repl_mw.reconciler.strays import Strays
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.replicas.deletion import Cause

LOG = log.getLogger(__name__)

_SETTLED = datetime.timedelta(seconds=5)
_SETTLED_ELSEWHERE = datetime.timedelta(seconds=60)
_ABOUT_TO_BE_FETCHED = datetime.timedelta(minutes=1)
_SECOND_LOOK_SECONDS = 2.0
_KEPT = "not deleted yet: "
_LOST = "its location was removed by someone else"
_BAD = "it was found to be bad, and is repaired"
_SIZELESS = "Image %s is %s, but Glance does not tell its size: it is not replicated until it does"
_HIDDEN = (
    "Image %s and perhaps others: Glance does not show their locations, and nothing is concluded "
    "from that; see whether the service user may get_image_location"
)
_IS_THERE = "Glance has the image after all, and its replica stays"
REPLACED = "another replica took its place"


class Look:
    """Looks at images that have data; used by one thread.

    What is found missing in Glance is acted upon only when it is seen twice: it may be just about
    to be withdrawn or to come.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._choice = Choice(tools.conf, tools.targets)
        self._strays = Strays(tools)
        self._adoption = Adoption(tools)
        self._lost_since: dict[int, float] = {}
        self._sizeless: set[str] = set()
        self._has_told_hidden = False

    def at(
        self,
        image: Image,
        rows: Sequence[Replica],
        in_spool: Collection[str],
        leaving: Collection[str],
        *,
        now: bool,
    ) -> bool:
        """Compare and act; returns whether another look is needed soon.

        :param rows: all rows of the image, read after ``image``
        :param in_spool: images of which the spool holds bytes
        :param leaving: targets that shall hold no replicas any more
        :param now: plan missing replicas at once, not only of an image that has settled
        :raises oslo_db.exception.DBError:
        :raises GlanceUnavailable:
        :raises GlanceRefused: such as of a deactivated image, which keeps its locations
        """
        if not image.has_data or not image.size:
            self._tell_sizeless(image)
            return False
        if not image.locations:
            self._tell_hidden(image)
            return False
        rows = [self._taken_back(image, row) for row in rows]
        self._remove_closed(image, rows)
        look_again = False
        missing = []
        for target in self._tools.targets:
            mine = [row for row in rows if row.target == target]
            if target in leaving or any(self._tools.is_in_hand(row) for row in mine):
                continue
            live = [row for row in mine if row.status not in CLOSED]
            if not live:
                missing += self._absent(image, target, mine)
            else:
                look_again |= self._present(image, mine, live)
        if missing and image.image_id in in_spool and not self._is_taken_in_hand(rows):
            look_again |= now
        elif missing and (now or self._has_settled(image)):
            self._tools.survey.plan(image.image_id, missing, Priority.BACKFILL, image.size)
        look_again |= renewal.renew(self._tools, image, rows)
        return self._strays.remove(image, rows, leaving) or look_again

    def _tell_sizeless(self, image: Image) -> None:
        """Say once of each image that it has data of which nothing can be proven."""
        if image.has_data and image.size is None and image.image_id not in self._sizeless:
            self._sizeless.add(image.image_id)
            LOG.warning(_SIZELESS, image.image_id, image.status)

    def _tell_hidden(self, image: Image) -> None:
        """Say once that Glance shows no locations, as every image with data has one."""
        if not self._has_told_hidden:
            self._has_told_hidden = True
            LOG.warning(_HIDDEN, image.image_id)

    def _is_taken_in_hand(self, rows: Sequence[Replica]) -> bool:
        """Whether the upload in the spool has its rows, so that it brings no further ones."""
        return any(self._tools.is_spooled(row.upload_id) for row in rows)

    def _has_settled(self, image: Image) -> bool:
        """Whether no writer, of this node or another, can be about to take it in hand."""
        pause = _SETTLED if self._tools.nodes.is_alone else _SETTLED_ELSEWHERE
        return image.updated_at is None or image.updated_at < timeutils.utcnow() - pause

    def _taken_back(self, image: Image, row: Replica) -> Replica:
        """The replica, which stays where its image was taken for gone and is there after all.

        Its object may have gone meanwhile, so that it counts as never verified.
        """
        if not _is_refuted(image, row):
            return row
        LOG.warning("Image %s, target %s: %s", image.image_id, row.target, _IS_THERE)
        changes: dict[str, Any] = dict.fromkeys(("cause", "error", "verified_at", "read_back_at"))
        changes |= {"attempts": 0, "next_attempt_at": timeutils.utcnow()}
        return self._tools.survey.change(row, ReplicaStatus.STORED, **changes) or row

    def _remove_closed(self, image: Image, rows: Sequence[Replica]) -> None:
        """Remove locations of replicas that have ended, as a late request may add them."""
        rows = [row for row in rows if not _is_refuted(image, row)]
        live = {row.location_url for row in rows if row.status not in CLOSED}
        closed = [row for row in rows if row.status in CLOSED]
        objects_to_go = [row for row in closed if _may_have_location(image, row)]
        ended = {row.location_url for row in closed if row not in objects_to_go} - live
        late = [url for url in image.locations if url in ended]
        if late:
            LOG.warning("Image %s: removes the location of an ended replica", image.image_id)
            self._tools.images.remove_locations(image.image_id, late)
        for row in objects_to_go:
            is_anothers = row.location_url in live
            self._remove_object(row, None if is_anothers else row.location_url)

    def _remove_object(self, row: Replica, url: str | None) -> None:
        """Let the object of a replica go once its location may go; what is needed stays."""
        why = self._tools.guard.copies.remove_location(row.image_id, url) if url else ""
        error = f"{_KEPT}{why}"
        if not why:
            self._tools.survey.change(row, error=None, next_attempt_at=timeutils.utcnow())
        elif row.error != error:
            LOG.warning("Image %s, target %s: %s", row.image_id, row.target, error)
            self._tools.survey.change(row, error=error)

    def _absent(self, image: Image, target: str, closed: Sequence[Replica]) -> list[str]:
        """The target in a list where a replica is to be made there."""
        try:
            is_there = self._adoption.adopt(image, target, closed)
        except NotAsked:
            return []
        except exceptions.TargetError as error:
            LOG.warning("Image %s: what a location names is not known: %s", image.image_id, error)
            return []
        if is_there or any(row.withheld for row in closed):
            return []
        is_wanted = self._choice.verdict(image, target).wanted
        return [target] if is_wanted and self._tools.conf.replication.automatic_backfill else []

    def _present(self, image: Image, mine: Sequence[Replica], live: Sequence[Replica]) -> bool:
        """Put the rows of one target right; returns whether another look is needed soon.

        :param mine: all rows of the image at the target
        :param live: those that are not closed
        """
        active = [row for row in live if row.status is ReplicaStatus.ACTIVE]
        if active:
            located = [row for row in active if row.location_url in image.locations]
            stays = sorted(located or active, key=lambda row: not row.is_bad)[-1]
            for row in live:
                if row is not stays:
                    close(self._tools, row, REPLACED, Cause.SUPERSEDED, heir=stays)
            return self._active(image, mine, stays)
        for row in live:
            is_stored = row.status is ReplicaStatus.STORED and row.location_url in image.locations
            if not is_stored and self._take_up(image, mine, row):
                # The others must not tell of the same location: they end at the next look.
                break
            self._go_on(image, row)
        return False

    def _go_on(self, image: Image, row: Replica) -> None:
        """See that something happens to a replica that is not active yet."""
        survey = self._tools.survey
        if row.status is ReplicaStatus.STORED:
            if row.location_url in image.locations:
                active = survey.change(
                    row, ReplicaStatus.ACTIVE, next_attempt_at=None, error=None, attempts=0
                )
                if active:
                    LOG.info("Image %s, target %s: active", row.image_id, row.target)
                    self._clean_up(active)
            elif row.next_attempt_at is not None and image.status == "active":
                survey.change(row, next_attempt_at=timeutils.utcnow())
        elif row.next_attempt_at is None and _is_forgotten(row):
            survey.change(row, next_attempt_at=timeutils.utcnow())

    def _take_up(self, image: Image, mine: Sequence[Replica], row: Replica) -> bool:
        """Whether the image has a good location at the target, of which the row tells now."""
        try:
            return self._adoption.adopt_into(image, row, mine)
        except NotAsked:
            return True
        except exceptions.TargetError as error:
            LOG.warning("Image %s: what a location names is not known: %s", image.image_id, error)
            return True

    def _active(self, image: Image, mine: Sequence[Replica], row: Replica) -> bool:
        if row.location_url in image.locations:
            self._lost_since.pop(row.id, None)
            if row.next_attempt_at is not None:
                # The image was deleted, and is restored.
                self._tools.survey.change(row, next_attempt_at=None, error=None)
            self._clean_up(row)
            return False
        if not self._tools.health[row.target].is_proven_up:
            return False
        since = self._lost_since.setdefault(row.id, time.monotonic())
        if time.monotonic() - since < _SECOND_LOOK_SECONDS:
            return True
        del self._lost_since[row.id]
        image = self._tools.images.get(image.image_id)
        is_there = row.location_url in image.locations
        if is_there or not image.locations or self._take_up(image, mine, row):
            return False
        self._lost(row)
        return False

    def _lost(self, row: Replica) -> None:
        """The location of an active replica is gone: add it again, repair or end the replica.

        It ends only where not too many do.
        """
        now = timeutils.utcnow()
        if row.is_bad:
            # Who withdrew it died before the row said so.
            why = row.error or _BAD
            self._tools.survey.change(row, ReplicaStatus.ERROR, error=why, next_attempt_at=now)
            return
        if self._tools.conf.replication.heal_removed_locations:
            self._tools.survey.change(row, ReplicaStatus.STORED, error=_LOST, next_attempt_at=now)
        elif self._tools.guard.breaker.admits(row.image_id, Cause.LOCATION_REMOVED):
            close(self._tools, row, _LOST, Cause.LOCATION_REMOVED, withheld=True)
        else:
            return
        LOG.warning("Image %s, target %s: %s", row.image_id, row.target, _LOST)

    def _clean_up(self, row: Replica) -> None:
        """Delete the objects of earlier attempts, now that this one is a good location."""
        former = row.object_names[1:]
        if not former or row.is_bad or not self._tools.health[row.target].is_up:
            return
        seen = self._tools.guard.look(row.image_id)
        target = self._tools.targets[row.target]
        try:
            kept = delete_objects(self._tools.guard, seen, target, former, Cause.SUPERSEDED)
        except exceptions.TargetError as error:
            LOG.warning("Image %s: earlier attempts may stay: %s", row.image_id, error)
            return
        self._tools.survey.change(row, former_objects=" ".join(kept) or None)


def _is_refuted(image: Image, row: Replica) -> bool:
    """Whether it shall be deleted since its image is gone, which has it as a location."""
    return (
        row.status is ReplicaStatus.DELETING
        and row.cause in (Cause.IMAGE_DELETED, Cause.IMAGE_MISSING)
        and row.location_url in image.locations
    )


def _may_have_location(image: Image, row: Replica) -> bool:
    """Whether the object of a replica that shall be deleted may be one that readers need."""
    is_named = row.location_url in image.locations
    return row.is_still_located or (row.status is ReplicaStatus.DELETING and is_named)


def close(
    tools: Tools,
    row: Replica,
    why: str,
    cause: Cause,
    *,
    heir: Replica | None = None,
    **values: bool,
) -> bool:
    """End a replica that no job works on; its objects go, where it has some and they may go.

    Returns whether the row was still as it was read.

    :param heir: the replica that takes its place, which may account for the same objects
    :raises oslo_db.exception.DBError:
    """
    if set(row.object_names) <= set(heir.object_names if heir else ()):
        changes: dict[str, Any] = {"next_attempt_at": None}
        status = ReplicaStatus.DELETED
    else:
        changes = {"attempts": 0, "next_attempt_at": timeutils.utcnow(), "cause": cause}
        status = ReplicaStatus.DELETING
    return tools.survey.change(row, status, error=why, **changes, **values) is not None


def images_in_spool(tools: Tools) -> set[str]:
    """The images of which the spool holds bytes.

    :raises OSError:
    """
    return {upload.image_id for upload in tools.spool.uploads() if not upload.is_provisional}


def _is_forgotten(row: Replica) -> bool:
    """Whether nobody does anything about a replica that is not there yet."""
    if row.status is ReplicaStatus.PENDING:
        return row.updated_at < timeutils.utcnow() - _ABOUT_TO_BE_FETCHED
    return row.status is ReplicaStatus.ERROR
