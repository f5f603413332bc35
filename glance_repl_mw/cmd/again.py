# SPDX-License-Identifier: Apache-2.0
"""The writer begins once more in the same process, with its configuration as it is then."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from oslo_config import cfg
from oslo_log import log

from glance_repl_mw import exceptions

LOG = log.getLogger(__name__)

_BASE_NICE = "GLANCE_REPL_WRITER_BASE_NICE"


class Again(Exception):
    """The writer has ended in order to begin once more."""


class Reload:
    """Ends the writer where it may begin once more; a wrong configuration changes nothing.

    :param examine: raises ``ConfigError`` or ``cfg.Error`` where the configuration cannot work
    :param stop: ends the writer
    :ivar is_due: the writer ends in order to begin once more
    """

    def __init__(self, examine: Callable[[], object], stop: Callable[[], object]) -> None:
        self._examine = examine
        self._stop = stop
        self.is_due = False

    def begin(self) -> None:
        """For a signal handler: the work is done by a thread, which may wait for locks."""
        threading.Thread(target=self._run, name="reload", daemon=True).start()

    def _run(self) -> None:
        try:
            self._examine()
        except (exceptions.ConfigError, cfg.Error) as error:
            problem = " ".join(str(error).split())
            LOG.error("The new configuration cannot work, and the old one is kept: %s", problem)
            return
        LOG.info("The writer ends, and begins once more with the new configuration")
        self.is_due = True
        self._stop()


def execute() -> NoReturn:
    """Become a new writer: the process, its id and its inheritable descriptors stay."""
    logging.shutdown()
    sys.stdout.flush()
    # Until the new writer is so far, the next signal of this kind must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def add_nice(nice: int) -> None:
    """Give way by so much more than the process did when it began first."""
    base = int(os.environ.setdefault(_BASE_NICE, str(os.nice(0))))
    # Only the superuser may take back what it has given.
    os.nice(max(0, base + nice - os.nice(0)))
