"""Images that Glance does not have any more: their replicas go, once nobody can restore them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import CLOSED, Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.look import close
from glance_repl_mw.reconciler.tasks import reporting
from glance_repl_mw.reconciler.tools import Tools

LOG = log.getLogger(__name__)

_GONE = "Glance has deleted the image"


def delete_delay(conf: cfg.ConfigOpts) -> int:
    """Seconds that the replicas of a deleted image are kept."""
    if conf.replication.delete_delay_seconds is not None:
        return conf.replication.delete_delay_seconds
    return conf.scrub_time if conf.delayed_delete else 0


def find(tools: Tools, image_ids: Sequence[str]) -> tuple[dict[str, Image], list[str]]:
    """Glance's records of images, and those that it does not list.

    :raises GlanceUnavailable:
    :raises GlanceRefused:
    """
    found = tools.images.find(image_ids)
    return found, [image_id for image_id in image_ids if image_id not in found]


class Burial(NamedTuple):
    """What a look at the rows of an image that seems to be gone has come to.

    :ivar is_final: the image is gone and cannot be restored
    :ivar is_done: no row is left that somebody has in hand, or that changed meanwhile
    """

    is_final: bool
    is_done: bool


def bury(tools: Tools, image_id: str, *, seen: bool) -> Burial:
    """See to the rows of an image that Glance seems not to have; it is asked once more.

    Replicas that are active stay until the image cannot be restored any more; then Glance is
    asked again.

    :param seen: somebody saw the image being deleted, so that it is not missing by mistake
    :raises oslo_db.exception.DBError:
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    """
    rows = tools.survey.of_images([image_id]).get(image_id, ())
    if _is_there(tools, image_id):
        return Burial(is_final=False, is_done=True)
    delay = delete_delay(tools.conf)
    if not seen:
        delay = max(delay, tools.conf.replication.missing_image_delay_seconds)
    is_done = True
    for row in rows:
        if row.is_still_located:
            tools.survey.change(row, next_attempt_at=timeutils.utcnow())
        if row.status not in CLOSED:
            is_done &= not tools.is_in_hand(row) and _close_or_plan(tools, row, delay)
    return Burial(not delay, is_done)


def _close_or_plan(tools: Tools, row: Replica, delay: int) -> bool:
    """Returns whether the row was still as it was read."""
    if row.status is not ReplicaStatus.ACTIVE or not delay:
        return close(tools, row, _GONE)
    if row.next_attempt_at is not None:
        return True
    later = timeutils.utcnow() + datetime.timedelta(seconds=delay)
    return tools.survey.change(row, error=_GONE, next_attempt_at=later) is not None


def _is_there(tools: Tools, image_id: str) -> bool:
    try:
        tools.images.get(image_id)
    except exceptions.ImageGone:
        return False
    return True


def first_due(tools: Tools) -> datetime.datetime | None:
    """When the first of the images whose replicas are kept for a while is to be buried.

    :raises oslo_db.exception.DBError:
    """
    planned = tools.outlooks.now().planned([ReplicaStatus.ACTIVE])
    return planned[0][0] if planned else None


def bury_due(tools: Tools) -> None:
    """Delete the replicas of images whose delay is over, unless they were restored.

    :raises oslo_db.exception.DBError:
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    """
    first = first_due(tools)
    if first is None or first > timeutils.utcnow():
        return
    due = tools.survey.overdue(timeutils.utcnow(), limit=50)
    present: dict[str, bool] = {}
    for image_id in {row.image_id for row in due}:
        with reporting(image_id):
            present[image_id] = _is_there(tools, image_id)
    for row in due:
        if row.image_id not in present:
            continue
        if not present[row.image_id]:
            LOG.info("Image %s, target %s: %s", row.image_id, row.target, _GONE)
            close(tools, row, _GONE)
        else:
            tools.survey.change(row, error=None, next_attempt_at=None)
