# SPDX-License-Identifier: Apache-2.0
"""Requests that wait for a replica to change: few at once, and one look for all of them."""

from __future__ import annotations

import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator

from oslo_log import log

from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.spare_threads import SpareThreads

LOG = log.getLogger(__name__)

_LOOK_SECONDS = 0.25
_WINDOW_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30
_SETTLED = (ReplicaStatus.ACTIVE, ReplicaStatus.DELETED)
_ON_THE_WAY = (ReplicaStatus.PENDING, ReplicaStatus.UPLOADING, ReplicaStatus.STORED)

Key = tuple[str, str]


def _goes_on(first: ReplicaStatus, now: ReplicaStatus) -> bool:
    """Whether there is nothing to tell yet to somebody who has seen the status ``first``.

    To whoever has seen none, or one that is deleted, that is so until there is another one.
    """
    return now is first or now in _ON_THE_WAY


class WaitingRoom:
    """Where the threads of one process wait; each method may be called by any of them.

    While somebody waits, one thread looks at the replicas of all who wait, four times a second.

    :param look: gives the replicas that count of images
    :param places: how many threads may wait at once
    :param most_seconds: how long one of them may wait
    :param threads: those that may wait for anything
    """

    def __init__(
        self,
        look: Callable[[Collection[str]], Collection[Replica]],
        places: int,
        most_seconds: float,
        threads: SpareThreads,
    ) -> None:
        self._look = look
        self._places = places
        self._most_seconds = most_seconds
        self._threads = threads
        self._changed = threading.Condition()
        self._waiting: collections.Counter[Key] = collections.Counter()
        self._seen: dict[Key, ReplicaStatus] = {}
        self._watches = False
        self._refused: collections.deque[float] = collections.deque()

    def wait(self, replica: Replica, seconds: float) -> int | None:
        """Wait until the replica is active, or not on the way any more, or the time is over.

        What is active or deleted is not waited for. Returns after how many seconds to ask again
        where there is no place to wait now, else None.
        """
        if replica.status in _SETTLED:
            return None
        return self._wait((replica.image_id, replica.target), replica.status, seconds)

    def wait_for_new(self, image_id: str, target: str, seconds: float) -> int | None:
        """As above, for a replica that is not there yet, or deleted."""
        return self._wait((image_id, target), ReplicaStatus.DELETED, seconds)

    def _wait(self, key: Key, first: ReplicaStatus, seconds: float) -> int | None:
        if seconds <= 0:
            return None
        ends_at = time.monotonic() + min(seconds, self._most_seconds)
        with self._place(key) as has_place:
            if not has_place:
                return self._pause_seconds()
            with self._changed:
                while _goes_on(first, self._seen.get(key, first)):
                    left = ends_at - time.monotonic()
                    if left <= 0 or not self._watches:
                        break
                    self._changed.wait(left)
        return None

    @contextlib.contextmanager
    def _place(self, key: Key) -> Iterator[bool]:
        with self._changed:
            has_place = self._waiting.total() < self._places and self._threads.take()
            if has_place:
                self._waiting[key] += 1
                self._watch()
        try:
            yield has_place
        finally:
            if has_place:
                self._threads.give_back()
                with self._changed:
                    self._leave(key)

    def _leave(self, key: Key) -> None:
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
            self._seen.pop(key, None)

    def _watch(self) -> None:
        """Begin to look, unless that is done already: a server may fork before the first time."""
        if not self._watches:
            self._watches = True
            threading.Thread(target=self._run, name="replicas waited for", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._changed:
                keys = set(self._waiting)
                if not keys:
                    self._watches = False
                    return
            try:
                found = self._look({image_id for image_id, _ in keys})
            except Exception as error:
                # Those who wait look for themselves, and meet the same.
                LOG.error("Replicas that are waited for cannot be read: %s", error)
                self._end()
                return
            statuses = {(each.image_id, each.target): each.status for each in found}
            with self._changed:
                for key in keys & set(self._waiting):
                    self._seen[key] = statuses.get(key, ReplicaStatus.DELETED)
                self._changed.notify_all()
            time.sleep(_LOOK_SECONDS)

    def _end(self) -> None:
        with self._changed:
            self._watches = False
            self._changed.notify_all()

    def _pause_seconds(self) -> int:
        """The more are turned away, the later they shall come again."""
        now = time.monotonic()
        with self._changed:
            self._refused.append(now)
            while self._refused[0] < now - _WINDOW_SECONDS:
                self._refused.popleft()
            per_second = len(self._refused) / _WINDOW_SECONDS
        return min(_LONGEST_PAUSE_SECONDS, 1 + math.ceil(per_second))
