# SPDX-License-Identifier: Apache-2.0
"""Whether a target is up, as far as those who use it have seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from glance_repl_mw import exceptions
from glance_repl_mw.replicas.name import without_object_names

_FAILURES_TO_BE_DOWN = 3


class TargetHealth:
    """The circuit breaker of one target; used by any thread.

    It is taken for down after some failures in a row, and for up after one success and at the
    beginning. Only who has seen that the target can be written and that Glance can read it may
    report a success; a failure may be reported by everybody who used it.

    :ivar on_change: called, by any thread, when ``error`` or the state may have changed
    :ivar error: what the last failure was, without the image and the object that it was met with;
        None after a success
    :ivar harms_readers: whether Glance may hang, or read nonsense, while the target is down
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._failing_since = 0.0
        self._has_succeeded = False
        self.on_change: Callable[[], None] = lambda: None
        self.error: str | None = None
        self.harms_readers = True

    def succeeded(self) -> None:
        """The target did what it was asked."""
        with self._lock:
            is_known = self._has_succeeded and not self._failures
            self._failures = 0
            self._has_succeeded = True
            self.error = None
        if not is_known:
            self.on_change()

    def failed(self, error: BaseException) -> None:
        """The target was asked in vain."""
        with self._lock:
            if not self._failures:
                self._failing_since = time.monotonic()
            self._failures += 1
            self.error = _of_target(error)
            # Who is refused at once reads elsewhere; and locations with other signatures may work,
            # as may those that are read where the target's own objects are.
            self.harms_readers = not isinstance(
                error, exceptions.SignatureRefused | exceptions.TargetMisplaced
            )
        self.on_change()

    @property
    def is_up(self) -> bool:
        return self._failures < _FAILURES_TO_BE_DOWN

    @property
    def is_proven_up(self) -> bool:
        """Whether it was asked at all, and the last answer was good."""
        with self._lock:
            return self._has_succeeded and not self._failures

    @property
    def down_seconds(self) -> float:
        """Seconds since the first of the failures in a row, 0 while it is up."""
        with self._lock:
            return 0.0 if self.is_up else time.monotonic() - self._failing_since


def _of_target(error: BaseException) -> str:
    """What the error says of the target: it is shown to owners of other images, too."""
    if isinstance(error, exceptions.ReplicationError):
        error = exceptions.TargetError(None, error.target, error.operation, error.hint)
    return without_object_names(str(error)) or type(error).__name__
