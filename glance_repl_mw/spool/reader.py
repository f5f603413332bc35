# SPDX-License-Identifier: Apache-2.0
"""The reading end: follows a data file while it grows, up to what the gate lets through."""

from __future__ import annotations

import os
import pathlib
import threading
import time

from glance_repl_mw import exceptions
from glance_repl_mw.pace import Pace
from glance_repl_mw.spool.upload import TAIL_BYTES

_BLOCK_BYTES = 1024**2
_SHORTEST_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.1
# Who still reads so long after the bytes were proven may read others than were hashed.
_LAG_SECONDS = 1.0

Digest = tuple[str, str]


class Gate:
    """Decides, for all readers of one upload, what they may pass on.

    Shut: everything but the last ``TAIL_BYTES``, so that no target can complete the object.
    Opened, once the bytes are proven: all of them. Cut: nothing more; readers raise.

    :param announced_size: where a target that was told so takes the object for complete, even
        when more comes; None where it is not told
    """

    def __init__(self, announced_size: int | None = None) -> None:
        self._changed = threading.Condition()
        self._announced_size = announced_size
        self._size: int | None = None
        self._reason: str | None = None
        self._opened_at: float | None = None
        self.digest: Digest | None = None

    def open(self, size: int, digest: Digest | None = None) -> None:
        """Let all ``size`` bytes pass; they are complete and proven.

        :param digest: the algorithm, and the hash of the bytes as a hex string
        """
        with self._changed:
            self._size = size
            self._opened_at = time.monotonic()
            self.digest = digest
            self._changed.notify_all()

    def cut(self, reason: str) -> None:
        """End every reader with ``UploadCut``."""
        with self._changed:
            self._reason = self._reason or reason
            self._changed.notify_all()

    @property
    def open_seconds(self) -> float:
        """For how long it has been open, 0 while it is shut."""
        return 0.0 if self._opened_at is None else time.monotonic() - self._opened_at

    @property
    def is_cut(self) -> bool:
        return self._reason is not None

    def allowed(self, grown_bytes: int) -> tuple[int, bool]:
        """The offset up to which readers may go when the file has ``grown_bytes``.

        And whether that is the end of the upload.

        :raises UploadCut:
        """
        self._raise_if_cut()
        if self._size is not None:
            return self._size, True
        if self._announced_size is not None:
            grown_bytes = min(grown_bytes, self._announced_size)
        return max(0, grown_bytes - TAIL_BYTES), False

    def sleep(self, seconds: float) -> None:
        """Wait until the gate changes, at most ``seconds``."""
        with self._changed:
            if self._reason is None and self._size is None:
                self._changed.wait(seconds)

    def hold(self, seconds: float) -> None:
        """Wait ``seconds``, whatever else happens.

        :raises UploadCut: at once when it is cut
        """
        with self._changed:
            self._changed.wait_for(lambda: self.is_cut, seconds)
        self._raise_if_cut()

    def _raise_if_cut(self) -> None:
        if self._reason is not None:
            raise exceptions.UploadCut(operation="read the spool", hint=self._reason)


class SpoolReader:
    """Reads one upload forwards while it grows; owned by one thread, closed by it.

    :param pace: grants the bytes that may be read; None for no limit
    :ivar lagged: it read on long after the bytes were proven
    :raises FileNotFoundError: the data file is gone
    """

    def __init__(self, path: pathlib.Path, gate: Gate, pace: Pace | None = None) -> None:
        self._gate = gate
        self._pace = pace
        self._granted = 0
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = 0
        self.lagged = False

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)
        if self._pace is not None:
            self._pace.give_back(self._granted)

    @property
    def offset(self) -> int:
        """Bytes that were read or skipped so far."""
        return self._offset

    def fileno(self) -> int:
        return self._descriptor

    def wait(self) -> int:
        """Bytes that can be read now, at least 1; 0 at the end. Blocks while there are none.

        Also blocks until the pace grants some, and then tells of no more than those.

        :raises UploadCut: the upload was refused, broken off or handed back
        """
        available = self._wait_for_growth()
        if self._pace is None or not available:
            return available
        if self._granted <= 0:
            self._granted, seconds = self._pace.reserve(available)
            self._gate.hold(seconds)
        return min(available, self._granted)

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes (a block where negative); b"" at the end; blocks as ``wait``.

        :raises UploadCut: as ``wait``; also when the file is shorter than was accepted
        """
        wanted = min(self.wait(), size if size >= 0 else _BLOCK_BYTES)
        data = os.pread(self._descriptor, wanted, self._offset)
        if wanted and not data:
            raise exceptions.UploadCut(operation="read the spool", hint="the file has shrunk")
        self.skip(len(data))
        return data

    def skip(self, count: int) -> None:
        """Count ``count`` bytes as read: they were sent straight from ``fileno()``."""
        self._offset += count
        if self._pace is not None:
            self._granted -= count

    def _wait_for_growth(self) -> int:
        """Bytes that the gate lets through now; 0 at the end."""
        pause = _SHORTEST_POLL_SECONDS
        while True:
            limit, complete = self._gate.allowed(os.fstat(self._descriptor).st_size)
            self.lagged = self._gate.open_seconds > _LAG_SECONDS
            if limit > self._offset or complete:
                return max(0, limit - self._offset)
            self._gate.sleep(pause)
            pause = min(pause * 2, _LONGEST_POLL_SECONDS)
