# SPDX-License-Identifier: Apache-2.0
"""Bounds of what is read from elsewhere: how much, and how slowly it may come.

Used by the drivers for what servers answer, and by the core for whatever a source sends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from glance_repl_mw.exceptions import TargetUnavailable

# A transfer of an image that is slower is of no use, and holds a place that others need.
LEAST_BYTES_PER_SECOND = 1024.0
GRACE_SECONDS = 60.0


class TooLong(TargetUnavailable):
    """More bytes come than there can be."""


class TooSlow(TargetUnavailable):
    """Too few bytes come in the time."""


def bounded_blocks(
    blocks: Iterable[bytes],
    most_bytes: int,
    least_rate_bytes_per_second: float = LEAST_BYTES_PER_SECOND,
    grace_seconds: float = GRACE_SECONDS,
    *,
    target: str | None = None,
    operation: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[bytes]:
    """The same blocks, as long as they are neither too many nor too slow.

    Only the time counts in which the next block is waited for, and not that in which the caller
    uses one. At the end of every ``grace_seconds`` of waiting, so many bytes must have come that
    the rate is kept. ``blocks`` itself must return within a bounded time, if with little, since
    nothing can be seen while it blocks. It is closed at the end, whatever that is.

    :param most_bytes: what has no more bytes is passed on whole; the block that exceeds it is not
    :param target: the name of the target that is read, for the error; likewise ``operation``
    :raises TooLong: after at most ``most_bytes``
    :raises TooSlow:
    """
    meter = _Meter(most_bytes, least_rate_bytes_per_second, grace_seconds)
    iterator = iter(blocks)
    try:
        while True:
            begin = clock()
            block = next(iterator, None)
            if block is None:
                return
            problem = meter.problem_with(len(block), clock() - begin)
            if problem:
                kind, hint = problem
                raise kind(target=target, operation=operation, hint=hint)
            yield block
    finally:
        close = getattr(iterator, "close", None)
        if close:
            close()


class _Meter:
    """Counts the bytes of all blocks, and those of the time since the rate was looked at."""

    def __init__(self, most_bytes: int, least_rate: float, grace_seconds: float) -> None:
        self._most_bytes = most_bytes
        self._least_rate = least_rate
        self._grace_seconds = grace_seconds
        self._come = 0
        self._in_window = 0
        self._waited = 0.0

    def problem_with(
        self, size: int, seconds: float
    ) -> tuple[type[TargetUnavailable], str] | None:
        """What is wrong now that a block of ``size`` bytes has come within ``seconds``."""
        self._come += size
        self._in_window += size
        self._waited += seconds
        if self._come > self._most_bytes:
            return TooLong, f"it sends more than {self._most_bytes} bytes"
        if self._waited >= self._grace_seconds:
            if self._in_window < self._least_rate * self._waited:
                hint = f"{self._in_window} bytes within {self._waited:.0f} s"
                return TooSlow, f"it sends too slowly: {hint}"
            self._in_window, self._waited = 0, 0.0
        return None
