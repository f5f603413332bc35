"""Images that Glance does not have any more: their replicas go, once nobody can restore them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import CLOSED, Image, ReplicaStatus
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


def bury(tools: Tools, image_id: str, *, seen: bool) -> bool:
    """See to the rows of an image that Glance seems not to have; it is asked once more.

    Replicas that are active stay until the image cannot be restored any more; then Glance is
    asked again. Returns whether the image is gone and cannot be restored.

    :param seen: somebody saw the image being deleted, so that it is not missing by mistake
    :raises oslo_db.exception.DBError:
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    """
    rows = tools.survey.of_images([image_id]).get(image_id, ())
    if _is_there(tools, image_id):
        return False
    delay = delete_delay(tools.conf)
    if not seen:
        delay = max(delay, tools.conf.replication.missing_image_delay_seconds)
    for row in rows:
        if row.is_still_located:
            tools.survey.change(row, next_attempt_at=timeutils.utcnow())
        if row.status in CLOSED or tools.is_in_hand(row):
            continue
        if row.status is not ReplicaStatus.ACTIVE or not delay:
            close(tools, row, _GONE)
        elif row.next_attempt_at is None:
            later = timeutils.utcnow() + datetime.timedelta(seconds=delay)
            tools.survey.change(row, error=_GONE, next_attempt_at=later)
    return not delay


def _is_there(tools: Tools, image_id: str) -> bool:
    try:
        tools.images.get(image_id)
    except exceptions.ImageGone:
        return False
    return True


def bury_due(tools: Tools) -> None:
    """Delete the replicas of images whose delay is over, unless they were restored.

    :raises oslo_db.exception.DBError:
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    """
    if not tools.outlooks.now().planned([ReplicaStatus.ACTIVE]):
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
