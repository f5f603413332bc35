# SPDX-License-Identifier: Apache-2.0
"""The circuit breaker of deletions: how many images may go in an hour that nobody saw deleted."""

from __future__ import annotations

import datetime
import threading
import time

from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw.db.deletions import BreakerState, DeletionRecords

LOG = log.getLogger(__name__)

_WINDOW = datetime.timedelta(hours=1)
# So few may go in a cloud however small.
_FEW = 5
_COUNT_AGAIN_SECONDS = 30.0
_STOPPED = (
    "Deletions are stopped: %s; nothing is deleted of which no DELETE was seen, until "
    "glance-repl-manage deletions release"
)


class CircuitBreaker:
    """Counts over all ways that lead to a delete, all nodes and time; used by any thread.

    Each call may raise ``oslo_db.exception.DBError``.
    """

    def __init__(self, conf: cfg.ConfigOpts, records: DeletionRecords) -> None:
        self._conf = conf
        self._records = records
        self._lock = threading.Lock()
        self._replicated = 0
        self._count_at = float("-inf")

    def state(self) -> BreakerState:
        """Whether it has tripped, since when and why."""
        return self._records.breaker()

    def admits(self, image_id: str, cause: str) -> bool:
        """Whether objects of the image may be deleted now; the image is counted then.

        It trips when that would be too many images.
        """
        with self._lock:
            state = self._records.breaker()
            if state.tripped_at is not None:
                return False
            counted = self._records.counted_images(self._counts_since(state))
            if image_id in counted:
                return True
            if len(counted) < self.limit():
                self._records.count(image_id, cause)
                return True
            self._trip(f"{len(counted) + 1} images would have gone within an hour")
            return False

    def look_at(self, missing: int) -> None:
        """Trip at once where so many images are missing that they could not go in an hour."""
        limit = self.limit()
        if missing > limit:
            self._trip(f"{missing} replicated images are missing in Glance")

    def limit(self) -> int:
        """How many images may go in an hour."""
        if time.monotonic() >= self._count_at:
            self._replicated = self._records.replicated_images()
            self._count_at = time.monotonic() + _COUNT_AGAIN_SECONDS
        options = self._conf.replication
        absolute, percent = options.missing_images_per_hour, options.missing_images_percent
        if not absolute or not percent:
            return 0
        most: int = min(absolute, max(_FEW, self._replicated * percent // 100))
        return most

    def _counts_since(self, state: BreakerState) -> datetime.datetime:
        begin = timeutils.utcnow() - _WINDOW
        return max(begin, state.counts_since) if state.counts_since else begin

    def _trip(self, what: str) -> None:
        why = f"{what}, more than missing_images_per_hour and missing_images_percent allow"
        if self._records.trip(f"{why} ({self.limit()} of {self._replicated})"):
            LOG.error(_STOPPED, why)
