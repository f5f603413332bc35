# SPDX-License-Identifier: Apache-2.0
"""The state of the replicas, as the reconciler reads and changes it: in pages, row by row."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade
from oslo_utils import timeutils

from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.db.session import Context, add_missing, changes, replica_of, retried
from glance_repl_mw.db.urgency import is_verified_after, urgency
from glance_repl_mw.model import SHARE_LETTERS, Observer, Priority, Replica, ReplicaStatus

_OWNERSHIP = {"upload_id", "node"}


class ReplicaSurvey:
    """Rows of replicas; may be used from any thread, every call is one transaction.

    Each call may raise ``oslo_db.exception.DBError``.

    :param node: whose writer it works for, None for an operator's command
    :param share: tells which images are this node's to look after, by how their ids begin; None
        for all
    :param observer: is told of every change
    """

    def __init__(
        self,
        database: enginefacade._TransactionContextManager,
        node: str | None = None,
        share: Callable[[], Collection[str] | None] = lambda: None,
        observer: Observer | None = None,
    ) -> None:
        self.node = node
        self._observer = observer
        self._database = database
        self._share = share

    @retried
    def of_images(self, image_ids: Collection[str]) -> dict[str, list[Replica]]:
        """All rows of these images, the closed ones too, oldest first; images without: no key."""
        found: dict[str, list[Replica]] = {}
        for replica in self._select(ReplicaRow.image_id.in_(list(image_ids))):
            found.setdefault(replica.image_id, []).append(replica)
        return found

    @retried
    def image_ids(self, after: str, limit: int) -> list[str]:
        """The next images, by id, that have rows which are not closed."""
        statement = (
            sa.select(ReplicaRow.image_id)
            .where(ReplicaRow.image_id > after, _open(), *self._mine())
            .distinct()
            .order_by(ReplicaRow.image_id)
            .limit(limit)
        )
        with self._database.reader.using(Context()) as session:
            return list(session.scalars(statement))

    @retried
    def page(
        self, target: str, statuses: Collection[ReplicaStatus], *, after: int, limit: int
    ) -> list[Replica]:
        """The next rows of a target, by row id.

        :param after: the ``id`` of the last row of the page before, 0 for the first page
        """
        return self._select(
            ReplicaRow.target == target,
            ReplicaRow.status.in_(list(statuses)),
            ReplicaRow.id > after,
            *self._mine(),
            limit=limit,
        )

    @retried
    def due(
        self,
        now: datetime.datetime,
        statuses: Collection[ReplicaStatus],
        *,
        limit: int,
        horizon: datetime.timedelta,
        targets: Collection[str],
    ) -> list[Replica]:
        """Rows in ``statuses`` whose next attempt is due, at most ``limit``.

        The most urgent come first, then those that are due longest.

        :param horizon: what is planned for later than this was planned before the clock was set
            back, and is due
        :param targets: of which rows are wanted
        """
        statement = (
            sa.select(ReplicaRow)
            .where(
                ReplicaRow.status.in_(list(statuses)),
                sa.or_(
                    ReplicaRow.next_attempt_at <= now,
                    ReplicaRow.next_attempt_at > now + horizon,
                ),
                ReplicaRow.target.in_(list(targets)),
                *self._mine(),
            )
            .order_by(ReplicaRow.priority, ReplicaRow.next_attempt_at, ReplicaRow.id)
            .limit(limit)
        )
        with self._database.reader.using(Context()) as session:
            return [replica_of(row) for row in session.scalars(statement)]

    @retried
    def never_verified(self, target: str, *, after: int, limit: int) -> list[Replica]:
        """The next active replicas, by row id, that nobody has verified; costs little."""
        return self._select(
            ReplicaRow.target == target,
            ReplicaRow.status == ReplicaStatus.ACTIVE,
            ReplicaRow.verified_at.is_(None),
            ReplicaRow.id > after,
            *self._mine(),
            limit=limit,
        )

    @retried
    def least_verified(
        self,
        target: str,
        *,
        read_back: bool,
        before: datetime.datetime,
        limit: int,
        after: Replica | None = None,
    ) -> list[Replica]:
        """Active replicas that were verified longest ago, or never, oldest first.

        Of those that were never read back, those come first that were never verified at all.

        :param before: only those that were not verified since then
        :param after: the last one of the page before
        """
        moment = ReplicaRow.read_back_at if read_back else ReplicaRow.verified_at
        statement = sa.select(ReplicaRow).where(
            ReplicaRow.target == target,
            ReplicaRow.status == ReplicaStatus.ACTIVE,
            sa.or_(moment.is_(None), moment < before),
            *self._mine(),
        )
        if after is not None:
            statement = statement.where(is_verified_after(after, read_back))
        statement = statement.order_by(urgency(read_back), moment, ReplicaRow.id).limit(limit)
        with self._database.reader.using(Context()) as session:
            return [replica_of(row) for row in session.scalars(statement)]

    @retried
    def counts(self) -> dict[str, dict[ReplicaStatus, int]]:
        """How many rows each target has in each status, those of unknown targets too."""
        statement = sa.select(ReplicaRow.target, ReplicaRow.status, sa.func.count()).group_by(
            ReplicaRow.target, ReplicaRow.status
        )
        counts: dict[str, dict[ReplicaStatus, int]] = {}
        with self._database.reader.using(Context()) as session:
            for target, status, count in session.execute(statement):
                counts.setdefault(target, {})[ReplicaStatus(status)] = count
        return counts

    def plan(
        self, image_id: str, targets: Iterable[str], priority: Priority, size: int | None
    ) -> None:
        """Make rows of replicas that are to be made; their bytes are yet to be fetched."""
        # Named once, so that a second try finds what the first one has made.
        self._plan(image_id, {target: uuid.uuid4().hex for target in targets}, priority, size)

    @retried
    def _plan(
        self, image_id: str, uploads: Mapping[str, str], priority: Priority, size: int | None
    ) -> None:
        now = timeutils.utcnow()
        with self._database.writer.using(Context()) as session:
            rows = [
                ReplicaRow(
                    image_id=image_id,
                    target=target,
                    upload_id=upload_id,
                    status=ReplicaStatus.PENDING,
                    size=size,
                    priority=priority,
                    next_attempt_at=now,
                    created_at=now,
                    updated_at=now,
                )
                for target, upload_id in uploads.items()
            ]
            add_missing(session, rows)

    @retried
    def adopt(
        self, image_id: str, target: str, upload_id: str, object_name: str, **values: Any
    ) -> None:
        """Make a row, ``active``, of an object that a location names but no row knows."""
        now = timeutils.utcnow()
        with self._database.writer.using(Context()) as session:
            row = ReplicaRow(
                image_id=image_id,
                target=target,
                upload_id=upload_id,
                status=ReplicaStatus.ACTIVE,
                object_name=object_name,
                created_at=now,
                updated_at=now,
                **values,
            )
            add_missing(session, [row])

    def assign(self, replicas: Sequence[Replica], upload_id: str) -> list[str]:
        """Let an upload serve waiting replicas of its image; returns the targets that it got.

        Rows that have changed since they were read are left alone.
        """
        targets = []
        for replica in replicas:
            values = {"upload_id": upload_id, "bytes_sent": 0, "next_attempt_at": None}
            if self.change(replica, ReplicaStatus.PENDING, node=self.node, **values):
                targets.append(replica.target)
        return targets

    @retried
    def left_behind(
        self, nodes: Collection[str], before: datetime.datetime, limit: int
    ) -> list[Replica]:
        """Rows in the hand of other nodes than these that have not changed since ``before``."""
        return self._select(
            ReplicaRow.node.is_not(None),
            ReplicaRow.node.not_in(list(nodes)),
            ReplicaRow.updated_at < before,
            _open(),
            *self._mine(),
            limit=limit,
        )

    def change(
        self, replica: Replica, status: ReplicaStatus | None = None, **values: Any
    ) -> Replica | None:
        """Change a row, unless it has changed its status or owner since it was read.

        Returns the replica as it is now, None where the row has changed.
        """
        wanted = status or replica.status
        if not replica.status.may_become(wanted):
            return None
        counts = wanted is not replica.status or not values.keys().isdisjoint(_OWNERSHIP)
        changed = {**changes(wanted, values), "version": replica.version + counts}
        if not self._change(replica, changed):
            return None
        now = dataclasses.replace(replica, **changed)
        if self._observer is not None:
            self._observer(replica, now)
        return now

    @retried
    def _change(self, replica: Replica, values: dict[str, Any]) -> bool:
        is_as_read = ReplicaRow.version == replica.version
        # What a try has done whose end the database did not come to tell.
        is_done = sa.and_(
            ReplicaRow.version == values["version"],
            ReplicaRow.updated_at == values["updated_at"],
        )
        statement = (
            sa.update(ReplicaRow)
            .where(ReplicaRow.id == replica.id, sa.or_(is_as_read, is_done))
            .values(**values)
        )
        with self._database.writer.using(Context()) as session:
            count: int = session.execute(statement).rowcount
            return count == 1

    def _mine(self) -> Collection[sa.ColumnElement[bool]]:
        share = self._share()
        if share is None:
            return ()
        beginning = sa.func.lower(sa.func.substr(ReplicaRow.image_id, 1, SHARE_LETTERS))
        return (beginning.in_(list(share)),)

    def _select(self, *conditions: Any, limit: int | None = None) -> list[Replica]:
        statement = sa.select(ReplicaRow).where(*conditions).order_by(ReplicaRow.id).limit(limit)
        with self._database.reader.using(Context()) as session:
            return [replica_of(row) for row in session.scalars(statement)]


def _open() -> sa.ColumnElement[bool]:
    return ReplicaRow.status != ReplicaStatus.DELETED
