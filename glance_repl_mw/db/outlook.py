# SPDX-License-Identifier: Apache-2.0
"""What the rows have in store for a writer: one look serves all of its threads."""

from __future__ import annotations

import dataclasses
import datetime
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping

import oslo_db.exception
import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade

from glance_repl_mw.db.models import ReplicaRow, TargetWishRow
from glance_repl_mw.db.session import Context, retried
from glance_repl_mw.model import ReplicaStatus, Wish

_PLANNED = (
    ReplicaStatus.PENDING,
    ReplicaStatus.STORED,
    ReplicaStatus.ACTIVE,
    ReplicaStatus.ERROR,
    ReplicaStatus.DELETING,
)
# Without a stamp that tells of changes, a look serves for so long.
_LASTING_SECONDS = 0.7
# A stamp may lie, as on a file system with coarse times.
_LONGEST_SECONDS = 60.0
# File systems stamp no finer than a few milliseconds.
_SAME_STAMP_SECONDS = 0.05

Times = tuple[datetime.datetime, datetime.datetime]


@dataclasses.dataclass(frozen=True)
class Outlook:
    """What the rows say, those of all nodes' images and of all targets.

    :ivar wishes: what operators want, by target; the target may be no longer configured
    :ivar attempts: the first and the last time of the next attempts, by the status of the rows;
        statuses in which nothing is planned: no key
    :ivar has_withdrawn: whether replicas may wait for the return of their target
    :ivar has_active: whether there is any replica to look after
    """

    wishes: Mapping[str, Wish]
    attempts: Mapping[ReplicaStatus, Times]
    has_withdrawn: bool
    has_active: bool

    def planned(self, statuses: Collection[ReplicaStatus]) -> list[Times]:
        """``attempts`` of those statuses in which something is planned."""
        return [self.attempts[status] for status in statuses if status in self.attempts]


class Outlooks:
    """Looks again only when something may have changed; may be used from any thread.

    An SQLite file is looked into when it was written to, any other database about once a second.
    """

    def __init__(self, database: enginefacade._TransactionContextManager) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._stamp: object = None
        self._looked_at = float("-inf")
        self._found: Outlook | oslo_db.exception.DBError | None = None
        self._file: str | None = None
        self._on_change: list[Callable[[], None]] = []

    def on_change(self, call: Callable[[], None]) -> None:
        """Have it called whenever anybody's look finds another outlook; it must not block."""
        self._on_change.append(call)

    def now(self) -> Outlook:
        """The outlook as it is now, or was a moment ago.

        :raises oslo_db.exception.DBError: as the last look did
        """
        with self._lock:
            stamp = _stamp(self._file) if self._file else None
            if self._found is None or self._is_outdated(stamp):
                self._look()
                self._stamp, self._looked_at = stamp, time.monotonic()
            if isinstance(self._found, Outlook):
                return self._found
        assert self._found is not None
        raise self._found

    def _is_outdated(self, stamp: object) -> bool:
        age = time.monotonic() - self._looked_at
        if stamp is None or isinstance(self._found, Exception):
            return age > _LASTING_SECONDS
        return stamp != self._stamp or age > _LONGEST_SECONDS

    def _look(self) -> None:
        """Whoever waits for the lock meanwhile gets the same, also if it is an error."""
        before = self._found
        try:
            self._found = self._read()
        except oslo_db.exception.DBError as error:
            self._found = error
            return
        if self._found != before:
            for call in self._on_change:
                call()

    @retried
    def _read(self) -> Outlook:
        with self._database.reader.using(Context()) as session:
            wishes = session.execute(sa.select(TargetWishRow.target, TargetWishRow.wish))
            wished = {target: Wish(wish) for target, wish in wishes}
            has_withdrawn, has_active, *times = session.execute(_QUESTION).one()
            url = session.get_bind().engine.url
        self._file = url.database if url.get_backend_name() == "sqlite" else None
        pairs = zip(times[::2], times[1::2], strict=True)
        attempts = {
            status: (first, last)
            for status, (first, last) in zip(_PLANNED, pairs, strict=True)
            if first is not None
        }
        return Outlook(wished, attempts, has_withdrawn, has_active)


def _stamp(file: str) -> object:
    """What changes when anybody writes to the SQLite file; None where that is not known."""
    try:
        changes = [os.stat(file)]
        if os.path.exists(log := f"{file}-wal"):
            changes.append(os.stat(log))
    except OSError:
        return None
    if any(abs(time.time() - each.st_mtime) < _SAME_STAMP_SECONDS for each in changes):
        return object()  # equal to no other: it may be written to again at the same moment
    return [(each.st_ino, each.st_mtime_ns, each.st_size) for each in changes]


def _planned(status: ReplicaStatus) -> list[sa.ScalarSelect[datetime.datetime | None]]:
    is_in = (ReplicaRow.status == status, ReplicaRow.next_attempt_at.is_not(None))
    return [
        sa.select(which(ReplicaRow.next_attempt_at)).where(*is_in).scalar_subquery()
        for which in (sa.func.min, sa.func.max)
    ]


# Each part reads one entry of an index.
_QUESTION = sa.select(
    sa.exists().where(
        ReplicaRow.status == ReplicaStatus.STORED, ReplicaRow.next_attempt_at.is_(None)
    ),
    sa.exists().where(ReplicaRow.status == ReplicaStatus.ACTIVE),
    *(each for status in _PLANNED for each in _planned(status)),
)
