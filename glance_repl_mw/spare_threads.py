# SPDX-License-Identifier: Apache-2.0
"""Which threads of an API process may wait: all but one, so that somebody serves everybody else.

Requests that wait for replicas hold a thread each. The writer, for which they wait, needs one of
Glance too.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from typing import Any

from oslo_log import log

LOG = log.getLogger(__name__)

_GUNICORN = "gunicorn.workers.gthread"


class SpareThreads:
    """Those of one process; each method may be called by any of them.

    :param wanted: how many are to wait at once at most, as options say, for a word in the log
    """

    def __init__(self, wanted: int = 0) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()
        self._is_known = False
        self._most: int | None = None
        self._taken = 0

    def learn(self, environ: dict[str, Any]) -> None:
        """Find out, by the first request of the process, how many there are."""
        if self._is_known:
            return
        self._is_known = True
        threads = thread_count(environ)
        if threads is None:
            return
        self._most = threads - 1
        if self._most < self._wanted:
            LOG.warning(
                "%s requests may wait for replicas at once by the options, but of the %s threads "
                "of this process one must serve others: %s wait, and others are answered at once",
                self._wanted,
                threads,
                self._most or "none",
            )

    def take(self) -> bool:
        """Whether one more may wait, who gives the thread back then."""
        with self._lock:
            is_spare = self._most is None or self._taken < self._most
            self._taken += is_spare
            return is_spare

    def give_back(self) -> None:
        with self._lock:
            self._taken -= 1


def thread_count(environ: dict[str, Any]) -> int | None:
    """How many requests the process serves at once, None where the server does not tell."""
    if not environ.get("wsgi.multithread"):
        return 1
    return _of_uwsgi() or _of_mod_wsgi() or _of_gunicorn()


def _of_uwsgi() -> int | None:
    with contextlib.suppress(ImportError, AttributeError):
        return int(importlib.import_module("uwsgi").cores)
    return None


def _of_mod_wsgi() -> int | None:
    """Its module is another one outside of Apache."""
    with contextlib.suppress(ImportError, AttributeError):
        return int(importlib.import_module("mod_wsgi").threads_per_process)
    return None


def _of_gunicorn() -> int | None:
    """Only the worker knows, which has called this thread."""
    frame = sys._getframe() if _GUNICORN in sys.modules else None
    while frame is not None:
        if frame.f_globals.get("__name__") == _GUNICORN and "self" in frame.f_locals:
            return int(frame.f_locals["self"].cfg.threads)
        frame = frame.f_back
    return None
