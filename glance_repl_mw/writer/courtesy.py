# SPDX-License-Identifier: Apache-2.0
"""Lets small uploads that come go before those that have come, where processors are scarce."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable

from glance_repl_mw.spool.upload import Upload

_STAT = pathlib.Path("/proc/stat")
_IDLE, _IO_WAIT, _COUNTED = 3, 4, 8
_MEASURED_SECONDS = 0.2
# What requests to Glance may take of the processors where nothing is idle. What is idle up to the
# other share is so for moments only, as uploads wait for each other and for a database.
_LEAST_SHARE = 0.02
_NEEDED_SHARE = 0.25
_REQUESTS_PER_IMAGE = 2
# Small uploads that are taken in hand per second and processor, at most.
_PER_SECOND = 40
# What was not taken in hand lately may be made up for, that of so long.
_MADE_UP_SECONDS = 0.25


class Courtesy:
    """Decides which uploads are taken in hand now; owned by the main loop.

    Those of which nothing can be sent before Glance has accepted them may wait in the spool, none
    for too long.

    :param longest_seconds: how long an upload may be kept waiting; 0: not at all
    :param request_seconds: tells what a request to Glance takes now
    """

    def __init__(self, longest_seconds: float, request_seconds: Callable[[], float]) -> None:
        self._longest_seconds = longest_seconds
        self._request_seconds = request_seconds
        self._load = _Load()
        self._processors = os.cpu_count() or 1
        self._asked_at = time.monotonic()
        self._earned = 1.0

    def admits(self, upload: Upload) -> bool:
        """Whether the upload is to be taken in hand now; if not, ask again later."""
        waited = abs(time.time() - upload.created_at)
        if upload.can_be_sent_early or waited >= self._longest_seconds:
            return True
        pause = self._pause_seconds()
        now = time.monotonic()
        self._earned += (now - self._asked_at) / pause
        self._earned = min(self._earned, 1 + _MADE_UP_SECONDS / pause)
        self._asked_at = now
        if self._earned < 1:
            return False
        self._earned -= 1
        return True

    def _pause_seconds(self) -> float:
        """Between two small uploads that are taken in hand, as busy as the machine is now."""
        spare_share = max(_LEAST_SHARE, 1 - self._load.share() / (1 - _NEEDED_SHARE))
        pause = max(1 / _PER_SECOND, _REQUESTS_PER_IMAGE * self._request_seconds() / spare_share)
        return pause / self._processors


class _Load:
    """How busy the processors of the machine are; Linux counts that since its start."""

    def __init__(self) -> None:
        self._share = 0.0
        self._read_at = float("-inf")
        self._busy = self._total = 0

    def share(self) -> float:
        """From 0 to 1, of the time since the question before, at least a fifth of a second."""
        now = time.monotonic()
        if now - self._read_at >= _MEASURED_SECONDS:
            self._read_at = now
            before_busy, before_total = self._busy, self._total
            self._busy, self._total = _ticks()
            passed = self._total - before_total
            self._share = (self._busy - before_busy) / passed if passed else 0.0
        return self._share


def _ticks() -> tuple[int, int]:
    """Of all processors: those in which they were busy, and all; zeros where nobody tells."""
    try:
        line = _STAT.read_text().partition("\n")[0]
    except OSError:
        return 0, 0
    ticks = [int(field) for field in line.split()[1:][:_COUNTED]]
    return sum(ticks) - ticks[_IDLE] - ticks[_IO_WAIT], sum(ticks)
