# SPDX-License-Identifier: Apache-2.0
"""Asks targets from a thread that has other work, which a target that hangs must not hold up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Stored
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.targets.base import Target, unclear

LOG = log.getLogger(__name__)

_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 600.0


class NotAsked(exceptions.TargetUnavailable):
    """The target is down, or did not answer a moment ago."""


class Asking:
    """Asks no target that is down; one that does not answer is left alone for a while.

    Thereby a target that hangs costs one of its timeouts, whatever the number of questions. Where
    several threads ask at the same moment, it costs each of them one.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        health: Mapping[str, TargetHealth],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._targets = targets
        self._health = health
        self._clock = clock
        self._pauses: dict[str, tuple[float, float]] = {}

    def stat(self, target: str, name: str) -> Stored | None:
        """The object, None where there is none and Glance can read none.

        :raises NotAsked:
        :raises TargetUnavailable: it was asked and did not answer, or not the same everywhere
        :raises TargetRefused:
        """
        until, seconds = self._pauses.get(target, (0.0, 0.0))
        if not self._health[target].is_up or self._clock() < until:
            raise NotAsked(None, target, "look for an object", "the target does not answer")
        try:
            found = self._targets[target].stat(name)
            doubt = unclear(self._targets[target], name) if found is None else None
        except exceptions.TargetUnavailable as error:
            seconds = min(_LONGEST_PAUSE_SECONDS, max(_PAUSE_SECONDS, 2 * seconds))
            self._pauses[target] = self._clock() + seconds, seconds
            self._health[target].failed(error)
            LOG.warning("Target %s is not asked for %s s: %s", target, seconds, error)
            raise
        self._pauses.pop(target, None)
        if doubt:
            raise doubt
        return found
