# SPDX-License-Identifier: Apache-2.0
"""The replicas of all images, page by page, and how many there are."""

from __future__ import annotations

import sqlalchemy as sa

from glance_repl_mw.db.models import ReplicaRow, TargetWishRow
from glance_repl_mw.db.session import Asked, Context, briefly_retried, replica_of
from glance_repl_mw.model import Replica, ReplicaStatus


class ReplicaCatalogue(Asked):
    """Reads only; may be used from any thread, every call is one transaction.

    Each call may raise ``oslo_db.exception.DBError``, and does so soon: somebody waits.
    """

    @briefly_retried
    def page(
        self, status: ReplicaStatus | None, target: str | None, *, after: int, limit: int
    ) -> list[Replica]:
        """The next rows, by row id; without a status those that are not ``deleted``.

        :param after: the ``id`` of the last row of the page before, 0 for the first page
        """
        statement = sa.select(ReplicaRow).where(ReplicaRow.id > after)
        if status is None:
            statement = statement.where(ReplicaRow.status != ReplicaStatus.DELETED)
        else:
            statement = statement.where(ReplicaRow.status == status)
        if target is not None:
            statement = statement.where(ReplicaRow.target == target)
        statement = statement.order_by(ReplicaRow.id).limit(limit)
        with self._database.reader.using(Context()) as session:
            return [replica_of(row) for row in session.scalars(statement)]

    @briefly_retried
    def counts(self) -> dict[str, dict[str, int]]:
        """How many rows there are by target and status; reads only an index."""
        statement = sa.select(ReplicaRow.target, ReplicaRow.status, sa.func.count()).group_by(
            ReplicaRow.target, ReplicaRow.status
        )
        counts: dict[str, dict[str, int]] = {}
        with self._database.reader.using(Context()) as session:
            for target, status, count in session.execute(statement):
                counts.setdefault(target, {})[status] = count
        return counts

    @briefly_retried
    def wishes(self) -> dict[str, str]:
        """What operators want of targets, by target."""
        with self._database.reader.using(Context()) as session:
            rows = session.scalars(sa.select(TargetWishRow))
            return {row.target: row.wish for row in rows}
