# SPDX-License-Identifier: Apache-2.0
"""Images that Glance does not have any more: their replicas go, once that is a fact."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw.model import CLOSED, Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.deletion_guard import SeenImage, delete_delay
from glance_repl_mw.reconciler.look import close
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.replicas.deletion import Cause, Sight

LOG = log.getLogger(__name__)

_DELETED = "Glance has deleted the image"
_MISSING = "Glance has not had the image for long enough"


def find(tools: Tools, image_ids: Sequence[str]) -> tuple[dict[str, Image], list[str]]:
    """Glance's records of images, and those that it does not list.

    :raises GlanceUnavailable:
    :raises GlanceRefused:
    """
    found = tools.images.find(image_ids)
    return found, [image_id for image_id in image_ids if image_id not in found]


class Purge(NamedTuple):
    """What a look at the rows of an image that Glance does not list has come to.

    :ivar is_gone: nobody doubts that the image is gone
    :ivar is_done: no row is left to be closed, now or later
    :ivar due_at: when the rows that are left are to be closed, None where that is not known; UTC
    """

    is_gone: bool
    is_done: bool
    due_at: datetime.datetime | None = None


def purge(tools: Tools, image_id: str) -> Purge:
    """Close the rows of an image that is gone; Glance is asked once more.

    Where Glance was seen to delete it, replicas that are active stay as long as the image can be
    restored. Where it is only missing, all stay until that is proven. Everything stays where
    Glance has the image, or cannot be asked.

    :raises oslo_db.exception.DBError:
    """
    seen = tools.guard.look(image_id)
    if seen.absence is None:
        return Purge(is_gone=False, is_done=True)
    rows = tools.survey.of_images([image_id]).get(image_id, ())
    due_at = seen.absence.since + delete_delay(tools.conf)
    is_over = timeutils.utcnow() >= due_at or seen.absence.is_released
    has_replicas = any(row.status not in CLOSED for row in rows)
    is_gone = _is_gone(tools, seen) if has_replicas else seen.is_gone
    is_done = True
    for row in rows:
        if row.is_still_located and is_gone:
            tools.survey.change(row, next_attempt_at=timeutils.utcnow())
        if row.status in CLOSED:
            continue
        may_close = is_gone and (is_over or row.status is not ReplicaStatus.ACTIVE)
        is_done &= may_close and not tools.is_in_hand(row) and _close(tools, row, seen)
        if is_gone and not may_close and row.next_attempt_at != due_at:
            tools.survey.change(row, error=_DELETED, next_attempt_at=due_at)
    return Purge(is_gone, is_done, due_at if is_gone and not is_over else None)


def _is_gone(tools: Tools, seen: SeenImage) -> bool:
    """Whether all of the image's objects may go, as far as that depends on the image."""
    decision = tools.guard.decide(seen, "", "", _cause(seen))
    if not decision.may_delete:
        LOG.info("Image %s: its replicas are kept: %s", seen.image_id, decision.reason)
    return decision.may_delete


def _close(tools: Tools, row: Replica, seen: SeenImage) -> bool:
    """Returns whether the row was still as it was read."""
    why = _DELETED if seen.sight is Sight.DELETED else _MISSING
    LOG.info("Image %s, target %s: %s", row.image_id, row.target, why)
    return close(tools, row, why, _cause(seen))


def _cause(seen: SeenImage) -> Cause:
    return Cause.IMAGE_DELETED if seen.sight is Sight.DELETED else Cause.IMAGE_MISSING
