# SPDX-License-Identifier: Apache-2.0
"""Wakes the writer when something has come into the spool: a named pipe in the directory."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import threading
import time
from collections.abc import Callable

from oslo_log import log

LOG = log.getLogger(__name__)

NAME = "bell"
_MOST_RINGS = 64 * 1024
# Uploads that come one after the other are told together.
_PAUSE_SECONDS = 0.05
_RUSH_PAUSE_SECONDS = 0.2


class Bell:
    """Rung by all processes that use the spool, heard by one.

    A ring that is missed costs some seconds: the writer looks by itself every ten, at the latest.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._path = directory / NAME

    def ring(self) -> None:
        """Wake who listens; nothing where nobody does, or where it was rung too often already."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"!")
            finally:
                os.close(descriptor)

    def listen(self, on_ring: Callable[[], None]) -> None:
        """Have ``on_ring`` called from now on, in a thread; several rings may be told as one."""
        try:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(self._path, 0o600)
            # Open for writing, too, it has no end when those who ring it go.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                raise OSError("it is no named pipe")
        except OSError as error:
            LOG.warning("What comes is found up to two seconds later; %s: %s", self._path, error)
            return
        threading.Thread(
            target=_hear, args=(descriptor, on_ring), name="spool bell", daemon=True
        ).start()


def _hear(descriptor: int, on_ring: Callable[[], None]) -> None:
    while rings := os.read(descriptor, _MOST_RINGS):
        on_ring()
        time.sleep(_PAUSE_SECONDS if len(rings) == 1 else _RUSH_PAUSE_SECONDS)
