"""Removes the objects of uploads that Glance does not have."""

from __future__ import annotations

import functools
from typing import Any

from oslo_log import log

from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.targets.base import Target
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.push import names_up_to

LOG = log.getLogger(__name__)


class ObjectRemover:
    """Removes the objects of replicas that are ``deleting``; owned by the main loop."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._running: set[tuple[str, str]] = set()

    def retry(self, replica: Replica) -> None:
        """Remove the replica's object, unless that runs already or its target is unknown."""
        key = (replica.upload_id, replica.target)
        target = self._crew.targets.get(replica.target)
        if key in self._running or target is None:
            return
        self._running.add(key)
        self._crew.at_target(
            replica.target,
            functools.partial(_delete_attempts, target, replica.object_name or ""),
            functools.partial(self._removed, replica),
        )

    def _removed(self, replica: Replica, _: None, error: BaseException | None) -> None:
        self._running.discard((replica.upload_id, replica.target))
        if error is None:
            changes: dict[str, Any] = {"status": ReplicaStatus.DELETED, "next_attempt_at": None}
        else:
            attempts = replica.attempts + 1
            LOG.warning("Image %s, target %s: %s", replica.image_id, replica.target, error)
            changes = {
                "attempts": attempts,
                "error": str(error),
                "next_attempt_at": self._crew.next_attempt(attempts, error),
            }
        self._crew.save(replica.upload_id, [replica.target], **changes)


def _delete_attempts(target: Target, name: str) -> None:
    """Remove the object, and those of the upload's earlier attempts, which may come late.

    :raises TargetError:
    """
    for attempt in names_up_to(name):
        target.delete(attempt)
