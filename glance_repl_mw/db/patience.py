# SPDX-License-Identifier: Apache-2.0
"""Calls to a database that may not answer, made for callers who cannot wait for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from oslo_db import exception as db_exception

from glance_repl_mw.background import in_background

_Result = TypeVar("_Result")

# Longer than a busy server needs, and than SQLite waits for another's lock.
_PATIENCE_SECONDS = 10.0


class Patience:
    """How long the threads of one process wait for a database; used by any of them.

    A call that is not answered in time goes on in a thread of its own. As long as there is such a
    call, others are not made at all, but for a trial from time to time: a server that is silent
    holds few threads, and few connections.
    """

    def __init__(self, seconds: float = _PATIENCE_SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._unanswered = 0
        self._trial_at = 0.0

    def call(self, work: Callable[[], _Result]) -> _Result:
        """The result of the call, or what it raises.

        :raises oslo_db.exception.DBConnectionError: there is no answer, or was none just now
        """
        if not self._may_try():
            raise self._silent()
        answer = in_background(work)
        try:
            return answer.result(self._seconds)
        except TimeoutError:
            if answer.done():
                raise
            self._miss(answer)
            raise self._silent() from None

    def _may_try(self) -> bool:
        now = time.monotonic()
        with self._lock:
            if self._unanswered and now < self._trial_at:
                return False
            self._trial_at = now + self._seconds
            return True

    def _miss(self, answer: Future[Any]) -> None:
        with self._lock:
            self._unanswered += 1
        answer.add_done_callback(self._come)

    def _come(self, _answer: Future[Any]) -> None:
        with self._lock:
            self._unanswered -= 1

    def _silent(self) -> Exception:
        why = f"it has not answered within {self._seconds:.0f} seconds"
        silence: Exception = db_exception.DBConnectionError(TimeoutError(why))
        return silence
