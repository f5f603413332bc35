# SPDX-License-Identifier: Apache-2.0
"""What goes on at all targets, read again and again by an operator who watches."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade

from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.db.session import Context, replica_of, retried
from glance_repl_mw.model import Replica, ReplicaStatus


class ReplicaOverview:
    """The rows that are of interest now; every select goes by an index and reads few rows.

    Each call may raise ``oslo_db.exception.DBError``.
    """

    def __init__(self, database: enginefacade._TransactionContextManager) -> None:
        self._database = database

    @retried
    def under_way(self, limit: int) -> list[Replica]:
        """Replicas whose bytes flow, at most ``limit``, those that began first."""
        is_flowing = ReplicaRow.status == ReplicaStatus.UPLOADING
        return self._select(sa.select(ReplicaRow).where(is_flowing).order_by(ReplicaRow.id), limit)

    @retried
    def waiting_since(self) -> datetime.datetime | None:
        """Since when the replica waits that waits longest, failed ones left out; UTC.

        One that is to be fetched waits since that was planned, one of an upload since that began.
        """
        is_pending = ReplicaRow.status == ReplicaStatus.PENDING
        is_fresh = sa.and_(is_pending, ReplicaRow.next_attempt_at.is_(None))
        questions = (
            sa.select(sa.func.min(ReplicaRow.next_attempt_at)).where(is_pending),
            sa.select(sa.func.min(ReplicaRow.updated_at)).where(is_fresh),
        )
        with self._database.reader.using(Context()) as session:
            moments = [session.scalar(question) for question in questions]
        return min((moment for moment in moments if moment is not None), default=None)

    @retried
    def has_rows(self, upload_id: str) -> bool:
        """Whether a writer has made rows for this upload."""
        statement = sa.select(ReplicaRow).where(ReplicaRow.upload_id == upload_id)
        return bool(self._select(statement, 1))

    @retried
    def failed(self, limit: int) -> list[Replica]:
        """Replicas in error, at most ``limit``: those that are tried next, then all others."""
        has_failed = sa.select(ReplicaRow).where(ReplicaRow.status == ReplicaStatus.ERROR)
        next_attempt = ReplicaRow.next_attempt_at
        planned = has_failed.where(next_attempt.is_not(None)).order_by(next_attempt)
        found = self._select(planned, limit)
        return found + self._select(has_failed.where(next_attempt.is_(None)), limit - len(found))

    def _select(self, statement: sa.Select[Any], limit: int) -> list[Replica]:
        with self._database.reader.using(Context()) as session:
            return [replica_of(row) for row in session.scalars(statement.limit(limit))]
