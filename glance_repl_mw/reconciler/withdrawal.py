# SPDX-License-Identifier: Apache-2.0
"""Takes the locations of a target that is down out of Glance, and brings them back proven anew.

Glance reads without a timeout: a location that hangs would hang its readers.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Sequence
from typing import Any

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.tasks import Task
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.reconciler.verification import acquittal, examine, finding

LOG = log.getLogger(__name__)

WITHDRAWN = "withdrawn: "
"""Begins the ``error`` of a replica whose location was removed because its target was down."""

NOT_WITHDRAWN = "not withdrawn: "
"""Begins the ``error`` of a replica whose location stays although its target is down."""

_INTERVAL_SECONDS = 2.0
_LONGEST_INTERVAL_SECONDS = 10.0
_PAGE = 50
_IMAGES_PER_SECOND = 20
_AGAIN_SECONDS = 30.0
_FAILURES_TO_STOP = 3
# A location that was just added is looked at once more after some seconds, and would be healed.
_SETTLED = datetime.timedelta(seconds=10)
_ONLY_LOCATION = "it is the only location of the image"


class Withdrawal(Task):
    """Withdraws and returns the locations of one target, as its health says.

    What is withdrawn is told by the rows alone: ``stored`` without a next attempt. What cannot be
    withdrawn or returned now is tried again after a while.
    """

    def __init__(self, tools: Tools, target: str) -> None:
        super().__init__(tools)
        self.name = f"withdrawal and return of target {target}"
        self._target = target
        self._health = tools.health[target]
        self._patience: float = tools.targets[target].conf.withdraw_after_seconds
        if self._patience is None:
            self._patience = tools.conf.replication.withdraw_after_seconds
        self._put_off: dict[int, float] = {}
        self._may_have_notes = True

    @property
    def _is_down(self) -> bool:
        is_harmful = not self._health.is_up and self._health.harms_readers
        return is_harmful and self._health.down_seconds >= self._patience

    def run_once(self) -> float:
        now = time.monotonic()
        self._put_off = {row: until for row, until in self._put_off.items() if until > now}
        if self._is_down:
            self._withdraw()
        elif self._health.is_proven_up:
            self._remove_notes()
            if not self.tools.outlooks.now().has_withdrawn:
                return max(_INTERVAL_SECONDS, min(_LONGEST_INTERVAL_SECONDS, self._patience / 10))
            self._return()
        return _INTERVAL_SECONDS

    def _pages(self, status: ReplicaStatus) -> Iterator[Sequence[Replica]]:
        """The target's rows, with a rest between two pages."""
        after = 0
        while page := self.tools.survey.page(self._target, [status], after=after, limit=_PAGE):
            yield page
            if len(page) < _PAGE:
                return
            after = page[-1].id
            self.tools.rest(1 / _IMAGES_PER_SECOND)

    def _change(self, replica: Replica, status: ReplicaStatus, **values: Any) -> bool:
        return self.tools.survey.change(replica, status, **values) is not None

    def _try_later(self, replica: Replica) -> None:
        self._put_off[replica.id] = time.monotonic() + _AGAIN_SECONDS

    # While the target is down

    def _withdraw(self) -> None:
        """Remove the locations of all active replicas; ends early when the target is up.

        :raises GlanceUnavailable:
        """
        number = sum(self._withdraw_one(replica) for replica in self._to_withdraw())
        if number:
            what = "Target %s is down: the locations of %s images were withdrawn: %s"
            LOG.warning(what, self._target, number, self._health.error)

    def _to_withdraw(self) -> Iterator[Replica]:
        for page in self._pages(ReplicaStatus.ACTIVE):
            for replica in page:
                if not self._is_down:
                    return
                if replica.id not in self._put_off and not _has_just_changed(replica):
                    yield replica
                    self.tools.rest(1 / _IMAGES_PER_SECOND)

    def _withdraw_one(self, replica: Replica) -> bool:
        """Returns whether its location is gone."""
        self._may_have_notes = True
        try:
            url = replica.location_url or ""
            stays = self.tools.images.remove_locations(replica.image_id, [url])
        except exceptions.ImageGone:
            self._try_later(replica)  # the replicas of deleted images go in another way
            return False
        except exceptions.GlanceRefused as error:
            self._keep(replica, f"Glance refuses to remove its location: {error.hint}")
            return False
        if stays:
            self._keep(replica, _ONLY_LOCATION)
            return False
        why = f"{WITHDRAWN}{self._health.error}"
        LOG.info("Image %s, target %s: %s", replica.image_id, self._target, why)
        return self._change(replica, ReplicaStatus.STORED, error=why, next_attempt_at=None)

    def _keep(self, replica: Replica, why: str) -> None:
        self._try_later(replica)
        note = f"{NOT_WITHDRAWN}{why}, but the target is down: {self._health.error}"
        if note != replica.error and self._change(replica, replica.status, error=note):
            LOG.warning("Image %s, target %s: %s", replica.image_id, self._target, note)

    # While it is up

    def _remove_notes(self) -> None:
        """Forget why locations were not withdrawn; a writer before this one may have noted it."""
        if not self._may_have_notes:
            return
        for page in self._pages(ReplicaStatus.ACTIVE):
            for replica in page:
                if (replica.error or "").startswith(NOT_WITHDRAWN):
                    self._change(replica, replica.status, error=None)
        self._may_have_notes = False

    def _return(self) -> None:
        """Prove withdrawn replicas anew; ends early when the target fails.

        :raises GlanceUnavailable:
        :raises GlanceRefused:
        """
        failures = 0
        for page in self._pages(ReplicaStatus.STORED):
            withdrawn = [replica for replica in page if self._is_withdrawn(replica)]
            if not withdrawn:
                continue
            images = self.tools.images.find(sorted({each.image_id for each in withdrawn}))
            for replica in withdrawn:
                image = images.get(replica.image_id)
                if image is None or image.status != "active" or not image.size:
                    self._try_later(replica)
                    continue
                if not self._health.is_proven_up or failures >= _FAILURES_TO_STOP:
                    return
                failures = 0 if self._return_one(replica, image) else failures + 1
                self.tools.rest(1 / _IMAGES_PER_SECOND)

    def _is_withdrawn(self, replica: Replica) -> bool:
        """Whether it waits for its return, and not for the job of its upload."""
        if replica.next_attempt_at is not None or replica.id in self._put_off:
            return False
        is_ours = (replica.error or "").startswith(WITHDRAWN)
        return is_ours or not self.tools.is_in_hand(replica)

    def _return_one(self, replica: Replica, image: Image) -> bool:
        """Returns whether the target has said what it holds."""
        now = timeutils.utcnow()
        plan: dict[str, Any] = {"attempts": 0, "next_attempt_at": now}
        try:
            self._examine(replica, image)
        except (exceptions.ReplicaMissing, exceptions.TargetCorrupt) as error:
            what = "Image %s, target %s: does not return, is repaired: %s"
            LOG.warning(what, image.image_id, self._target, error)
            self._change(replica, ReplicaStatus.ERROR, **plan, **finding(replica, error))
        except exceptions.TargetError as error:
            what = "Image %s, target %s: does not return now: %s"
            LOG.warning(what, image.image_id, self._target, error)
            self._try_later(replica)
            return False
        else:
            LOG.info("Image %s, target %s: verified, returns", image.image_id, self._target)
            plan |= {"error": None, "verified_at": now, "read_back_at": now}
            self._change(replica, ReplicaStatus.STORED, **plan, **acquittal(replica))
        return True

    def _examine(self, replica: Replica, image: Image) -> None:
        examine(
            self.tools.targets[self._target],
            replica,
            image,
            read_back=True,
            pace=self.tools.paces.get(self._target),
            stopping=self.tools.stopping,
        )


def _has_just_changed(replica: Replica) -> bool:
    """A change in the future was before the clock was set back."""
    age = timeutils.utcnow() - replica.updated_at
    return datetime.timedelta(0) <= age < _SETTLED
