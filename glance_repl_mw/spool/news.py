# SPDX-License-Identifier: Apache-2.0
"""Whether files have come into the spool or gone, at the cost of one system call."""

from __future__ import annotations

import time

from glance_repl_mw.spool.directory import Spool

# File systems stamp no finer than a few milliseconds.
_SAME_STAMP_SECONDS = 0.05


class News:
    """What has changed since the last question; used by one thread."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._stamp = 0
        self._changed_at = 0.0

    @property
    def is_over(self) -> bool:
        """Whether all that has come was seen; else it is time to ask once more."""
        return time.monotonic() - self._changed_at > _SAME_STAMP_SECONDS

    def have_come(self) -> bool:
        """Whether something may have come or gone.

        :raises OSError:
        """
        is_over, stamp = self.is_over, self._spool.stamp()
        if stamp != self._stamp:
            self._stamp, self._changed_at = stamp, time.monotonic()
            return True
        return not is_over

    def expect(self) -> None:
        """Let there be news, whatever has come."""
        self._stamp = 0
