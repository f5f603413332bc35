# SPDX-License-Identifier: Apache-2.0
"""A limit of bytes per second that many threads share."""

from __future__ import annotations

import threading
import time

# What is granted at once, to those who are not late. It is little, so that many threads that
# hold a grant while their connections stall do not exceed the limit by much afterwards.
_TURN_SECONDS = 0.01
# What a thread that comes late may make up for; also the burst after idle time.
_LATE_SECONDS = 0.15


class Pace:
    """Grants bytes in turns, first come, first served; used by any number of threads.

    ::

        pace = Pace(4 * 1024**2)
        while left:
            left -= pace.take(left)

    :param bytes_per_second: 0 for no limit: then everything is granted at once
    """

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._granted_until = 0.0

    def take(self, wanted: int) -> int:
        """How many of ``wanted`` bytes (at least 1) may pass; blocks until they may."""
        granted, seconds = self.reserve(wanted)
        if seconds:
            time.sleep(seconds)
        return granted

    def reserve(self, wanted: int) -> tuple[int, float]:
        """As ``take``, for those who wait in a way of their own; does not block.

        Returns the bytes, and the seconds that the caller waits before they may pass.
        """
        if not self._rate:
            return wanted, 0.0
        with self._lock:
            now = time.monotonic()
            begin = max(self._granted_until, now - _LATE_SECONDS)
            turn = max(_TURN_SECONDS, now - begin)
            granted = min(wanted, max(1, int(self._rate * turn)))
            self._granted_until = begin + granted / self._rate
        return granted, max(0.0, begin - now)

    def give_back(self, count: int) -> None:
        """Bytes that were granted and have not passed; others may have them."""
        if self._rate:
            with self._lock:
                self._granted_until -= count / self._rate
