# SPDX-License-Identifier: Apache-2.0
"""Empties targets that an operator drains or removes; reports those that were forgotten."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.db.departed import REMEDY, departed
from glance_repl_mw.model import Replica, ReplicaStatus, Wish
from glance_repl_mw.reconciler.look import close
from glance_repl_mw.reconciler.tasks import WokenTask
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.replicas.deletion import Cause

LOG = log.getLogger(__name__)

CANNOT_LEAVE = "cannot leave: "
"""Begins the ``error`` of a replica that stays at a target although the target shall be empty."""

_INTERVAL_SECONDS = 2.0
_IDLE_SECONDS = 10.0
_PAGE = 20
_REST_SECONDS = 0.05
_FAILURES_TO_PUT_OFF = 3
# A location that was just added is looked at once more after some seconds, and healed if it is
# lost: it would come back.
_SETTLED = datetime.timedelta(seconds=10)
_LOOK_AGAIN = datetime.timedelta(minutes=1)
_LOOK_AGAIN_AT_LAST = datetime.timedelta(minutes=15)

_WITH_OBJECT = (ReplicaStatus.STORED, ReplicaStatus.ACTIVE)
_TO_DRAIN = (
    ReplicaStatus.PENDING,
    ReplicaStatus.UPLOADING,
    ReplicaStatus.STORED,
    ReplicaStatus.ACTIVE,
    ReplicaStatus.ERROR,
)
_STATUSES = {Wish.DRAIN: _TO_DRAIN, Wish.REMOVE: (*_TO_DRAIN, ReplicaStatus.DELETING)}

_FORGOTTEN = f"Target %s is not configured, but has replicas: %s; {REMEDY}"
_NO_IMAGE = "Glance does not show the image; its replicas go when it is certain that it is gone"
_WHY = {Wish.DRAIN: "the target is drained", Wish.REMOVE: "the target was removed"}


def cannot_leave(replica: Replica) -> bool:
    """Whether it stays although its target shall be empty, for the reason in its ``error``."""
    return (replica.error or "").startswith(CANNOT_LEAVE)


class Leaving(WokenTask):
    """Sees to all wishes: locations first, then objects, which a removed target keeps.

    Rows that a job has in hand, or that have just changed, come later. A replica whose location
    cannot be removed stays, says so in ``error``, and is tried again after growing pauses: its
    readers may have to do without the location as long. The wish of a target that is empty and not
    configured is fulfilled and forgotten.
    """

    name = "emptying of targets that leave"
    # What it does itself wakes it.
    lull_seconds = 1.0

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._has_reported = False
        self._failures = 0

    def run_once(self) -> float:
        wishes = self.tools.outlooks.now().wishes
        if not self._has_reported:
            self._report_departed(wishes)
        for target, wish in wishes.items():
            self._empty(target, wish)
        if not wishes:
            return _IDLE_SECONDS
        self._forget_fulfilled(wishes)
        return _INTERVAL_SECONDS

    def _report_departed(self, wishes: Mapping[str, Wish]) -> None:
        for target, number in departed(self.tools.survey, self.tools.targets).items():
            if wishes.get(target) is not Wish.REMOVE:
                LOG.warning(_FORGOTTEN, target, number, target)
        self._has_reported = True

    def _forget_fulfilled(self, wishes: Mapping[str, Wish]) -> None:
        left = departed(self.tools.survey, self.tools.targets)
        for target in wishes:
            if target not in self.tools.targets and target not in left:
                LOG.info("Target %s has left: %s", target, _WHY[wishes[target]])
                self.tools.wishes.take_back(target)

    def _empty(self, target: str, wish: Wish) -> None:
        """Release what can be released now; ends early if the wish is taken back meanwhile."""
        self._failures = 0
        after = 0
        while self.tools.wishes.all().get(target) is wish:
            page = self.tools.survey.page(target, _STATUSES[wish], after=after, limit=_PAGE)
            for replica in page:
                if self._is_its_turn(replica):
                    self._release(replica, wish)
            if len(page) < _PAGE:
                return
            after = page[-1].id
            self.tools.rest(_REST_SECONDS)

    def _is_its_turn(self, replica: Replica) -> bool:
        is_over = replica.status is ReplicaStatus.ACTIVE  # even if the job waits for other targets
        if not is_over and self.tools.is_in_hand(replica):
            return False
        if cannot_leave(replica):
            return not _has_changed_within(_pause(replica.attempts), replica)
        return replica.status not in _WITH_OBJECT or not _has_changed_within(_SETTLED, replica)

    def _release(self, replica: Replica, wish: Wish) -> None:
        is_being_added = (
            replica.status is ReplicaStatus.STORED and replica.next_attempt_at is not None
        )
        if is_being_added:
            self.tools.survey.change(replica, next_attempt_at=None)
            return
        if replica.location_url and replica.status is not ReplicaStatus.DELETING:
            try:
                obstacle = self._remove_location(replica, replica.location_url)
            except exceptions.GlanceUnavailable as error:
                self._put_off(replica, error)
                return
            self._failures = 0
            self.tools.rest(_REST_SECONDS)
            if obstacle:
                self._keep(replica, obstacle)
                return
        if wish is Wish.REMOVE:
            self._forget(replica)
        else:
            close(self.tools, replica, _WHY[wish], Cause.DEMANDED)

    def _remove_location(self, replica: Replica, url: str) -> str:
        """Remove the location; returns why it stays, empty where it is gone."""
        try:
            return self.tools.guard.copies.remove_location(
                replica.image_id,
                url,
                # What is withdrawn was no location before.
                may_return=replica.status is ReplicaStatus.ACTIVE,
            )
        except exceptions.ImageGone:
            return _NO_IMAGE
        except exceptions.GlanceRefused as error:
            return f"Glance refuses to remove its location: {error.hint}"

    def _put_off(self, replica: Replica, error: exceptions.GlanceUnavailable) -> None:
        """Go on with other images, unless Glance fails with all of them.

        :raises GlanceUnavailable:
        """
        self._failures += 1
        if self._failures >= _FAILURES_TO_PUT_OFF:
            raise error
        LOG.warning("Image %s, target %s: %s", replica.image_id, replica.target, error)

    def _keep(self, replica: Replica, obstacle: str) -> None:
        error = f"{CANNOT_LEAVE}{obstacle}"
        if error != replica.error:
            LOG.warning("Image %s, target %s: %s", replica.image_id, replica.target, error)
        attempts = replica.attempts + 1 if cannot_leave(replica) else 1
        self.tools.survey.change(replica, error=error, attempts=attempts)

    def _forget(self, replica: Replica) -> None:
        """Close the row without contact with the target, where the object stays if it is there."""
        survey = self.tools.survey
        now: Replica | None = replica
        if not replica.status.may_become(ReplicaStatus.DELETED):
            now = survey.change(replica, ReplicaStatus.DELETING, next_attempt_at=None)
        if now:
            survey.change(
                now, ReplicaStatus.DELETED, error=_WHY[Wish.REMOVE], next_attempt_at=None
            )


def _pause(attempts: int) -> datetime.timedelta:
    """How long a replica stays that could not leave so many times."""
    doublings = min(max(attempts, 1) - 1, 10)
    return min(_LOOK_AGAIN * (1 << doublings), _LOOK_AGAIN_AT_LAST)


def _has_changed_within(time: datetime.timedelta, replica: Replica) -> bool:
    """A change in the future was before the clock was set back."""
    return datetime.timedelta() <= timeutils.utcnow() - replica.updated_at < time
