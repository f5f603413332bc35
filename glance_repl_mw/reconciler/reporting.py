# SPDX-License-Identifier: Apache-2.0
"""Tells the other processes, by way of the database, which targets are up."""

from __future__ import annotations

import datetime
import time

from oslo_utils import timeutils

from glance_repl_mw.db.states import TargetStates
from glance_repl_mw.model import TargetState
from glance_repl_mw.reconciler.tasks import WokenTask
from glance_repl_mw.reconciler.tools import Tools

_SHORTEST_SECONDS = 1.0
_AGAIN_SECONDS = 30.0
_FORGET_SECONDS = 3600.0
_KEEP = datetime.timedelta(days=1)


class StateReport(WokenTask):
    """Reports each change within a second, and what has not changed every thirty seconds."""

    name = "report of which targets are up"
    lull_seconds = 0.5

    def __init__(self, tools: Tools, states: TargetStates, node: str) -> None:
        super().__init__(tools)
        self._states = states
        self._node = node
        self._reported: dict[str, tuple[bool, str | None]] = {}
        self._again_at = self._forget_at = 0.0
        for health in tools.health.values():
            health.on_change = self.wake

    def run_once(self) -> float:
        # Nobody knows yet what was never asked.
        seen = {
            name: (health.is_up, health.error)
            for name, health in self.tools.health.items()
            if health.is_proven_up or health.error is not None
        }
        if seen != self._reported or time.monotonic() >= self._again_at:
            now = timeutils.utcnow()
            states = [
                TargetState(self._node, name, is_up, error, now)
                for name, (is_up, error) in seen.items()
            ]
            self._states.report(self._node, states)
            self._reported = seen
            self._again_at = time.monotonic() + _AGAIN_SECONDS
        if time.monotonic() >= self._forget_at:
            self._states.forget(timeutils.utcnow() - _KEEP)
            self._forget_at = time.monotonic() + _FORGET_SECONDS
        return max(_SHORTEST_SECONDS, self._again_at - time.monotonic())
