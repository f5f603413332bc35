# SPDX-License-Identifier: Apache-2.0
"""Hashes each spooled upload once while it grows, whatever the number of targets."""

from __future__ import annotations

import hashlib
import os
import pathlib
import threading
from collections.abc import Callable

from oslo_log import log

LOG = log.getLogger(__name__)

Finished = Callable[[str | None], None]

_BLOCK_BYTES = 256 * 1024
_BLOCKS_PER_TURN = 32
_SHORTEST_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.1


class Digest:
    """The running hash of one spool file; advanced by the hasher's thread only.

    A file that cannot be read any more has no digest.

    :param algorithm: as Glance's ``os_hash_algo`` names it
    """

    def __init__(self, path: pathlib.Path, algorithm: str) -> None:
        self._hash = hashlib.new(algorithm, usedforsecurity=False)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = 0
        self._finished: Finished | None = None
        self.dropped = False

    def finish(self, finished: Finished) -> None:
        """The file is complete: have ``finished`` called with the digest as a hex string."""
        self._finished = finished

    def advance(self, buffer: memoryview) -> bool:
        """Hash some of what has come, by way of ``buffer``; returns whether there was anything.

        :raises OSError:
        """
        for turn in range(_BLOCKS_PER_TURN):
            count = os.preadv(self._descriptor, [buffer], self._offset)
            self._hash.update(buffer[:count])
            self._offset += count
            if count < len(buffer):
                return count > 0 or turn > 0
        return True

    def announce(self) -> bool:
        """Whether all is hashed; then ``finished`` has been called.

        :raises OSError:
        """
        if self._finished is None or self._offset < os.fstat(self._descriptor).st_size:
            return False
        self._finished(self._hash.hexdigest())
        return True

    def fail(self) -> bool:
        """As ``announce``, without a digest."""
        if self._finished is None:
            return False
        self._finished(None)
        return True

    def close(self) -> None:
        os.close(self._descriptor)


class Hasher:
    """One thread that serves all uploads in hand in turn, so that a slow one blocks none.

    :param initializer: called by the thread before it begins
    """

    def __init__(self, initializer: Callable[[], None] | None = None) -> None:
        self._initializer = initializer
        self._digests: list[Digest] = []
        self._buffer = memoryview(bytearray(_BLOCK_BYTES))
        self._changed = threading.Condition()
        threading.Thread(target=self._run_forever, name="hasher", daemon=True).start()

    def follow(self, path: pathlib.Path, algorithm: str) -> Digest:
        """Start to hash a file that may still grow.

        :raises OSError: it cannot be opened
        :raises ValueError: there is no such algorithm
        """
        digest = Digest(path, algorithm)
        with self._changed:
            self._digests.append(digest)
            self._changed.notify_all()
        return digest

    def drop(self, digest: Digest) -> None:
        """Hash it no further; if it is not complete yet, ``finished`` will not be called."""
        with self._changed:
            digest.dropped = True
            self._changed.notify_all()

    def finish(self, digest: Digest, finished: Finished) -> None:
        """As ``Digest.finish``, and look at the file now."""
        digest.finish(finished)
        with self._changed:
            self._changed.notify_all()

    def _run_forever(self) -> None:
        if self._initializer is not None:
            self._initializer()
        pause = _SHORTEST_POLL_SECONDS
        while True:
            with self._changed:
                digests = list(self._digests)
            busy = False
            for digest in digests:
                busy |= self._serve(digest)
            pause = _SHORTEST_POLL_SECONDS if busy else min(pause * 2, _LONGEST_POLL_SECONDS)
            if not busy:
                with self._changed:
                    self._changed.wait(pause if self._digests else None)

    def _serve(self, digest: Digest) -> bool:
        try:
            busy = not digest.dropped and digest.advance(self._buffer)
            done = digest.dropped or digest.announce()
        except OSError as error:
            LOG.error("A spool file cannot be read: %s", error)
            busy, done = False, digest.fail()
        if done:
            digest.close()
            with self._changed:
                self._digests.remove(digest)
        return busy
