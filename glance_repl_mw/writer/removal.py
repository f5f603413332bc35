# SPDX-License-Identifier: Apache-2.0
"""Deletes the objects of replicas that are ``deleting``, where that is safe."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.reconciler.deletion_guard import SeenImage, delete_objects
from glance_repl_mw.replicas.deletion import Cause
from glance_repl_mw.writer.crew import Crew

LOG = log.getLogger(__name__)

_KEPT = "not deleted yet: "


class ObjectRemover:
    """Deletes the objects of replicas that are ``deleting``; owned by the main loop.

    Glance is asked once for each image, in its pool; each target deletes in its own.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._running: set[tuple[str, str]] = set()

    def retry(self, replicas: Sequence[Replica]) -> None:
        """Delete the replicas' objects, but those that are just looked at."""
        of_images: dict[str, list[Replica]] = {}
        for replica in replicas:
            if _key(replica) not in self._running and replica.target in self._crew.targets:
                self._running.add(_key(replica))
                of_images.setdefault(replica.image_id, []).append(replica)
        for image_id, rows in of_images.items():
            self._crew.at_glance(
                functools.partial(self._crew.guard.look, image_id),
                functools.partial(self._looked, rows),
            )

    def _looked(
        self, rows: Sequence[Replica], seen: SeenImage | None, error: BaseException | None
    ) -> None:
        for row in rows:
            if seen is None:
                self._deleted(row, None, None, error)
                continue
            self._crew.at_target(
                row.target,
                functools.partial(
                    delete_objects,
                    self._crew.guard,
                    seen,
                    self._crew.targets[row.target],
                    row.object_names,
                    Cause(row.cause) if row.cause else Cause.DEMANDED,
                ),
                functools.partial(self._deleted, row, seen),
            )

    def _deleted(
        self,
        row: Replica,
        seen: SeenImage | None,
        kept: Mapping[str, str] | None,
        error: BaseException | None,
    ) -> None:
        self._running.discard(_key(row))
        if kept == {}:
            changes: dict[str, Any] = {"status": ReplicaStatus.DELETED, "next_attempt_at": None}
        elif kept is not None:
            changes = self._put_off(row, f"{_KEPT}{next(iter(kept.values()))}")
            if seen is not None and seen.record is not None and _may_be_needed(row, kept):
                # The look at the image has its location come back where nothing else can be read.
                changes["next_attempt_at"] = None
        else:
            attempts = row.attempts + 1
            LOG.warning("Image %s, target %s: %s", row.image_id, row.target, error)
            changes = {
                "attempts": attempts,
                "error": str(error),
                "next_attempt_at": self._crew.next_attempt(attempts, error),
            }
        self._crew.save(row.upload_id, [row.target], **changes)

    def _put_off(self, row: Replica, why: str) -> dict[str, Any]:
        if why != row.error:
            LOG.warning("Image %s, target %s: %s", row.image_id, row.target, why)
        pause = datetime.timedelta(seconds=self._crew.conf.replication.retry_max_seconds)
        return {"error": why, "next_attempt_at": timeutils.utcnow() + pause}


def _may_be_needed(row: Replica, kept: Mapping[str, str]) -> bool:
    """Whether its object is still there, which lost its location since somebody demanded it."""
    is_demanded = row.cause in (None, Cause.DEMANDED)
    return is_demanded and row.location_url is not None and row.object_name in kept


def _key(replica: Replica) -> tuple[str, str]:
    return replica.upload_id, replica.target
