# SPDX-License-Identifier: Apache-2.0
"""Locations of ours that no row knows, at targets where they have no place."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence

from oslo_log import log

from glance_repl_mw.model import CLOSED, Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.replicas.name import upload_of

LOG = log.getLogger(__name__)

_SECOND_LOOK_SECONDS = 2.0
_SETTLED = (ReplicaStatus.ACTIVE, *CLOSED)


class Strays:
    """Removes such a location when it was seen twice; its object is an orphan then.

    An image has one replica at a target, and none at one that leaves; a database that was lost, or
    brought back from an old copy, can leave more. An upload has its rows before its locations,
    whichever node has it in hand, so that none is taken for a stray. Where orphans are not looked
    for, as where nodes without a common database share a target, no location goes. Used by one
    thread.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._seen_since: dict[str, dict[str, float]] = {}

    def remove(self, image: Image, rows: Sequence[Replica], leaving: Collection[str]) -> bool:
        """Remove those of one image; returns whether another look is needed soon.

        :param rows: all rows of the image, read after ``image``
        :param leaving: targets that shall hold no replicas any more
        :raises oslo_db.exception.DBError:
        :raises GlanceUnavailable:
        :raises GlanceRefused:
        """
        before = self._seen_since.pop(image.image_id, {})
        found = self._find(image, rows, leaving)
        if not found:
            return False
        now = time.monotonic()
        due = {url for url in found if now - before.get(url, math.inf) >= _SECOND_LOOK_SECONDS}
        if not due:
            self._seen_since[image.image_id] = {url: before.get(url, now) for url in found}
            return True
        image_id = image.image_id
        image = self._tools.images.get(image_id)
        rows = self._tools.survey.of_images([image_id]).get(image_id, ())
        strays = [url for url in self._find(image, rows, leaving) if url in due]
        if strays:
            LOG.warning("Image %s: removes locations that no row knows: %s", image_id, strays)
            self._tools.images.remove_locations(image_id, strays)
        return False

    def _find(self, image: Image, rows: Sequence[Replica], leaving: Collection[str]) -> list[str]:
        options = self._tools.conf.replication
        if image.status != "active" or not options.orphan_interval_seconds:
            return []
        strays: list[str] = []
        for target in self._tools.targets:
            here = [row for row in rows if row.target == target]
            if self._is_settled(here) and (target in leaving or _has_replica(image, here)):
                strays += self._unknown(image, rows, target)
        return strays

    def _is_settled(self, rows: Sequence[Replica]) -> bool:
        """Whether nothing is under way that these rows may not tell of in full."""
        return not any(row.status not in _SETTLED or self._tools.is_in_hand(row) for row in rows)

    def _unknown(self, image: Image, rows: Sequence[Replica], target: str) -> list[str]:
        """The locations that name objects of ours at the target which nobody knows."""
        known = {row.location_url for row in rows}
        found = []
        for url in image.locations:
            name = self._tools.targets[target].object_name(url)
            upload_id = upload_of(image.image_id, target, name)
            # Of what the spool holds, the rows may be lost and made again.
            if upload_id and url not in known and not self._tools.is_spooled(upload_id):
                found.append(url)
        return found


def _has_replica(image: Image, rows: Sequence[Replica]) -> bool:
    return any(
        row.status is ReplicaStatus.ACTIVE and row.location_url in image.locations for row in rows
    )
