# SPDX-License-Identifier: Apache-2.0
"""Writes to the spool beside the thread that brings the bytes, which has other work to do."""

from __future__ import annotations

import concurrent.futures
import os
import time

from glance_repl_mw.spool.appender import MOST_PIECES, Appender

_BATCH_BYTES = 512 * 1024
_LONGEST_WAIT_SECONDS = 0.05
_THREADS = 2


class WriteBehind:
    """An appender that writes several pieces at once, in their order, while more of them come.

    Owned by one thread. At most two batches are in memory; who brings more waits. Who brings
    little at a time writes it himself. What a write raises is raised by this call or the next one.

    :param appender: from now on used by nobody else
    """

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._to_come = appender.size
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._begun_at = 0.0
        self._under_way: concurrent.futures.Future[None] | None = None

    @property
    def upload_id(self) -> str:
        return self._appender.upload_id

    def append(self, data: bytes) -> None:
        """Have ``data`` written soon; the last bytes before a pause may wait for the next ones.

        :raises SpoolFull: as ``Appender.append``
        :raises OSError:
        """
        self._pieces.append(data)
        self._bytes += len(data)
        if self._to_come is not None:
            self._to_come -= len(data)
        if self._to_come == 0:
            # Another thread would only take turns with this one, which costs small uploads most.
            self._settle()
            self._appender.append(*self._take())
        elif self._is_full:
            self._settle()
            self._begun_at = time.monotonic()
            self._under_way = _pool().submit(self._appender.append, *self._take())
        elif self._is_idle:
            self._settle()
            self._appender.append(*self._take())
            self._begun_at = time.monotonic()

    def accept(self) -> None:
        """As ``Appender.accept``, once everything is written.

        :raises SpoolFull: as ``Appender.append``
        :raises OSError:
        """
        self._settle()
        self._appender.append(*self._take())
        self._appender.accept()

    def reject(self, error: str | None = None) -> None:
        """As ``Appender.reject``.

        :raises OSError:
        """
        self._drop()
        self._appender.reject(error)

    def discard(self) -> None:
        """As ``Appender.discard``.

        :raises OSError:
        """
        self._drop()
        self._appender.discard()

    @property
    def _is_full(self) -> bool:
        return self._bytes >= _BATCH_BYTES or len(self._pieces) >= MOST_PIECES

    @property
    def _is_idle(self) -> bool:
        is_free = self._under_way is None or self._under_way.done()
        return is_free and time.monotonic() - self._begun_at > _LONGEST_WAIT_SECONDS

    def _take(self) -> list[bytes]:
        pieces, self._pieces, self._bytes = self._pieces, [], 0
        return pieces

    def _settle(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _drop(self) -> None:
        self._take()
        if self._under_way is not None:
            concurrent.futures.wait([self._under_way])


_pools: dict[int, concurrent.futures.ThreadPoolExecutor] = {}


def _pool() -> concurrent.futures.ThreadPoolExecutor:
    """That of this process: threads do not come along when a server forks."""
    process = os.getpid()
    if process not in _pools:
        pool = concurrent.futures.ThreadPoolExecutor(_THREADS, "replication-spool")
        _pools.setdefault(process, pool)
    return _pools[process]
