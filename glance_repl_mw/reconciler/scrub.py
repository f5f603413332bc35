# SPDX-License-Identifier: Apache-2.0
"""Looks, all the time and slowly, whether the replicas at a target are still good."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Sequence

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.pace import Pace
from glance_repl_mw.reconciler.tasks import Task
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.reconciler.verification import Outcome, Verifier

LOG = log.getLogger(__name__)

_PAGE = 50
_LOOK_SECONDS = 30.0
_BATCH_SECONDS = 60.0
_MARGIN = 0.9
_AFTER_A_PROBLEM_SECONDS = 5.0
_BAD_AGAIN_SECONDS = 60.0
_UNKNOWN_AGAIN_SECONDS = 600.0
_NEW_ROUND_SECONDS = 3600.0
_BETWEEN_PAGES_SECONDS = 0.1
_NEVER_SECONDS = 3600.0
_OTHERS_SECONDS = 1.0


class _TargetTask(Task):
    """Verifies replicas of one target while it is up."""

    _read_back = False
    _pace: Pace | None = None

    def __init__(self, tools: Tools, target: str) -> None:
        super().__init__(tools)
        self._target = target
        self._interval: float = tools.conf.replication.scrub_interval_seconds
        self._verifier = Verifier(tools)
        self._put_off: dict[int, float] = {}

    @property
    def _is_up(self) -> bool:
        return self.tools.health[self._target].is_up

    @property
    def _has_work(self) -> bool:
        """Whether the target is up, and some target has a replica."""
        return self._is_up and self.tools.outlooks.now().has_active

    def _verify(self, page: Sequence[Replica]) -> Iterator[Outcome]:
        """Verify those that can be and are not put off; ends early when the target is down.

        What is not good then is put off, so that it does not stand in the way of others.
        """
        now = time.monotonic()
        self._put_off = {row: until for row, until in self._put_off.items() if until > now}
        waiting = [
            row for row in page if row.id not in self._put_off and not self._verifier.obstacle(row)
        ]
        for replica, verdict in self._verifier.verify_all(
            waiting, read_back=self._read_back, pace=self._pace
        ):
            if verdict.outcome is not Outcome.GOOD:
                pause = self._pause_seconds(verdict.outcome)
                self._put_off[replica.id] = time.monotonic() + pause
            yield verdict.outcome
            if verdict.outcome is Outcome.UNKNOWN:
                what = "Image %s, target %s: cannot be verified now: %s"
                LOG.warning(what, replica.image_id, replica.target, verdict.why)
                self.tools.rest(_AFTER_A_PROBLEM_SECONDS)
            if not self._is_up:
                return

    def _pause_seconds(self, outcome: Outcome) -> float:
        """How long one that is not good is put off."""
        return _BAD_AGAIN_SECONDS if outcome is Outcome.BAD else _UNKNOWN_AGAIN_SECONDS


class Scrub(_TargetTask):
    """Looks at the size of every active replica once within ``scrub_interval_seconds``.

    The looks are spread over the interval. Those that nobody has verified yet are not kept
    waiting; nor are the others, once a bad one is found, as long as there are more.
    """

    def __init__(self, tools: Tools, target: str) -> None:
        super().__init__(tools, target)
        self.name = f"scrub of target {target}"
        self._after = 0
        self._last: Replica | None = None
        self._round_began = timeutils.utcnow()
        self._next_batch_at = 0.0

    def run_once(self) -> float:
        if not self._has_work:
            return _LOOK_SECONDS
        if self._verify_new():
            return 0.0
        if time.monotonic() >= self._next_batch_at:
            self._verify_oldest()
        return min(_LOOK_SECONDS, max(0.0, self._next_batch_at - time.monotonic()))

    def _verify_new(self) -> bool:
        """Verify a page of those that nobody has verified; returns whether there may be more."""
        page = self.tools.survey.never_verified(self._target, after=self._after, limit=_PAGE)
        self._after = page[-1].id if len(page) == _PAGE else 0
        if Outcome.BAD in list(self._verify(page)):
            self._next_batch_at = 0.0
        return bool(self._after)

    def _verify_oldest(self) -> None:
        """Verify the next batch of a round through all replicas."""
        active = self.tools.survey.counts().get(self._target, {}).get(ReplicaStatus.ACTIVE, 0)
        per_second = max(1, active) / (_MARGIN * self._interval)
        batch = min(_PAGE, max(1, round(per_second * _BATCH_SECONDS)))
        page = self.tools.survey.least_verified(
            self._target, read_back=False, before=self._round_began, after=self._last, limit=batch
        )
        if not page:
            self._last, self._round_began = None, timeutils.utcnow()
            self._next_batch_at = time.monotonic() + min(self._interval, _BATCH_SECONDS)
            return
        self._next_batch_at = time.monotonic() + len(page) / per_second
        if Outcome.BAD in list(self._verify(page)):
            self._next_batch_at = 0.0
        if self._is_up:
            self._last = page[-1]


class ReadBack(_TargetTask):
    """Reads replicas back and compares their hash, at most ``scrub_bytes_per_second``.

    Those come first that were read back longest ago, or never. A replica that is good is not
    read again within ``scrub_interval_seconds``, nor is one that cannot be read. As long as any
    replica waits for its bytes, none is read back.
    """

    _read_back = True

    def __init__(self, tools: Tools, target: str) -> None:
        super().__init__(tools, target)
        self.name = f"read-back of target {target}"
        self._last: Replica | None = None
        self._new_round_at = self._ask_again_at = 0.0
        self._must_wait = False
        bytes_per_second = tools.conf.replication.scrub_bytes_per_second
        if bytes_per_second:
            self._pace = Pace(bytes_per_second)

    def run_once(self) -> float:
        if self._pace is None:
            return _NEVER_SECONDS
        if not self._has_work or self._others_come_first():
            return _LOOK_SECONDS
        now = time.monotonic()
        if now >= self._new_round_at:
            self._last, self._new_round_at = None, now + min(self._interval, _NEW_ROUND_SECONDS)
        page = self.tools.survey.least_verified(
            self._target,
            read_back=True,
            before=timeutils.utcnow() - datetime.timedelta(seconds=self._interval),
            after=self._last,
            limit=_PAGE,
        )
        if not page:
            return min(_BATCH_SECONDS, self._new_round_at - now)
        for _ in self._verify(page):
            if time.monotonic() >= self._new_round_at or self._others_come_first():
                return 0.0
        if self._is_up:
            self._last = page[-1]
        return _BETWEEN_PAGES_SECONDS

    def _others_come_first(self) -> bool:
        """As it was a second ago at most: many small replicas are read in that time."""
        if time.monotonic() >= self._ask_again_at:
            self._ask_again_at = time.monotonic() + _OTHERS_SECONDS
            self._must_wait = bool(self.tools.waiting_for_bytes(limit=1))
        return self._must_wait

    def _pause_seconds(self, outcome: Outcome) -> float:
        if outcome is Outcome.BAD:
            return min(self._interval, _NEW_ROUND_SECONDS)
        return self._interval
