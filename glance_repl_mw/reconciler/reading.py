# SPDX-License-Identifier: Apache-2.0
"""Whether the bytes of an image come fast enough while they are read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from glance_repl_mw import exceptions
from glance_repl_mw.pace import Pace

SourceName = str | None
"""A target, or None for Glance."""

_WINDOW_SECONDS = 10.0
_GRACE_SECONDS = 60.0
_PATIENCE_SECONDS = 60.0


class Reading:
    """How fast one image comes from its source; its own thread reads, any thread may look.

    Only the time counts during which the source is waited for. A source is slow that brought less
    than the least rate within the last ten seconds; after a minute, one that is slow for another
    minute is read no further.

    :param least_bytes_per_second: 0: no source is slow
    :ivar source: that is read now, or was read last
    """

    def __init__(
        self, least_bytes_per_second: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.source: SourceName = None
        self._least = least_bytes_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._is_broken_off = False
        self._waits_since: float | None = None
        self._slow_since: float | None = None
        self._reset()

    @property
    def is_slow(self) -> bool:
        with self._lock:
            self._look()
            return self._slow_since is not None

    def break_off(self) -> None:
        """Read no further from the present source; it ends when the source says something."""
        with self._lock:
            self._is_broken_off = True

    def blocks(self, source: SourceName, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The same blocks, as long as they come fast enough.

        :raises SourceSlow: also once it was broken off
        """
        self.begin(source)
        iterator = iter(blocks)
        while True:
            block = next(iterator, None)
            self.come(len(block or b""), is_waited_for=False)
            if block is None:
                return
            yield block
            self.require_haste()
            self._wait()

    def begin(self, source: SourceName) -> None:
        """From now on this one is waited for."""
        with self._lock:
            self.source = source
            self._is_broken_off = False
            self._reset()
            self._waits_since = self._clock()

    def come(self, count: int, *, is_waited_for: bool) -> None:
        """So many bytes have come.

        :param is_waited_for: the source is waited for again at once
        """
        with self._lock:
            self._waited, self._waits_since = self._waited_seconds(), None
            self._received += count
            self._look()
            if is_waited_for:
                self._waits_since = self._clock()

    def require_haste(self) -> None:
        """See that the source may be read on.

        :raises SourceSlow:
        """
        with self._lock:
            self._look()
            slow_seconds = 0.0
            if self._slow_since is not None:
                slow_seconds = self._waited_seconds() - max(self._slow_since, _GRACE_SECONDS)
            if self._is_broken_off or slow_seconds >= _PATIENCE_SECONDS:
                where = f"target {self.source}" if self.source else "Glance"
                hint = f"{where} gives less than {self._least} bytes per second"
                raise exceptions.SourceSlow(operation="fetch", hint=hint)

    def _wait(self) -> None:
        with self._lock:
            self._waits_since = self._clock()

    def _reset(self) -> None:
        self._waits_since = self._slow_since = None
        self._waited = self._window_began = 0.0
        self._received = self._received_before = 0

    def _waited_seconds(self) -> float:
        now = 0.0 if self._waits_since is None else self._clock() - self._waits_since
        return self._waited + now

    def _look(self) -> None:
        """Judge the last window where it is over, and begin the next one."""
        waited = self._waited_seconds()
        seconds = waited - self._window_began
        if seconds < _WINDOW_SECONDS:
            return
        if self._received - self._received_before >= self._least * seconds:
            self._slow_since = None
        elif self._slow_since is None:
            self._slow_since = self._window_began
        self._window_began, self._received_before = waited, self._received


class Watched(Pace):
    """Lets a reading see what another reader of the source gets; the rate has no other limit.

    :param most_bytes: that the source may give
    """

    def __init__(self, reading: Reading, most_bytes: int) -> None:
        super().__init__(0)
        self._reading = reading
        self._left = most_bytes

    def take(self, wanted: int) -> int:
        """As ``Pace.take``; does not block.

        :raises SourceSlow:
        :raises TargetCorrupt: there are too many bytes
        """
        self._left -= wanted
        if self._left < 0:
            hint = "it sends more bytes than the image has"
            raise exceptions.TargetCorrupt(None, self._reading.source, "read", hint)
        self._reading.come(wanted, is_waited_for=True)
        self._reading.require_haste()
        return wanted
