"""The state of the replicas, as the writer and those who ask for it use it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade
from oslo_utils import timeutils

from glance_repl_mw.db import schema
from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.db.session import Context, add_missing, replica_of, retried
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.spool.upload import Upload


class ReplicaStore:
    """Rows of replicas; may be used from any thread, every call is one transaction.

    Each call may raise ``oslo_db.exception.DBError``.
    """

    def __init__(self, database: enginefacade._TransactionContextManager) -> None:
        self._database = database

    @retried
    def begin(self, upload: Upload, targets: Iterable[str]) -> dict[str, Replica]:
        """The rows of an upload by target; those that are missing are made, ``pending``."""
        with self._database.writer.using(Context()) as session:
            now = timeutils.utcnow()
            rows = [
                ReplicaRow(
                    image_id=upload.image_id,
                    target=target,
                    upload_id=upload.upload_id,
                    status=ReplicaStatus.PENDING,
                    size=upload.size,
                    created_at=now,
                    updated_at=now,
                )
                for target in targets
            ]
            add_missing(session, rows)
            session.flush()
            present = session.scalars(
                sa.select(ReplicaRow).where(ReplicaRow.upload_id == upload.upload_id)
            )
            return {row.target: replica_of(row) for row in present}

    @retried
    def update(
        self,
        upload_id: str,
        targets: Iterable[str],
        status: ReplicaStatus | None = None,
        **values: Any,
    ) -> int:
        """Change the rows of an upload at ``targets``; returns how many were changed.

        With ``status``, rows that may not legally become that are left alone.
        """
        statement = sa.update(ReplicaRow).where(
            ReplicaRow.upload_id == upload_id, ReplicaRow.target.in_(list(targets))
        )
        if status is not None:
            legal = [before for before in ReplicaStatus if before.may_become(status)]
            statement = statement.where(ReplicaRow.status.in_(legal))
            values["status"] = status
        with self._database.writer.using(Context()) as session:
            result = session.execute(statement.values(updated_at=timeutils.utcnow(), **values))
            return result.rowcount

    @retried
    def record_progress(self, sent: Mapping[tuple[str, str], int]) -> None:
        """Store the bytes sent, by (upload id, target)."""
        with self._database.writer.using(Context()) as session:
            # In one order, so that two writers never wait for each other.
            for (upload_id, target), bytes_sent in sorted(sent.items()):
                session.execute(
                    sa.update(ReplicaRow)
                    .where(ReplicaRow.upload_id == upload_id, ReplicaRow.target == target)
                    .values(bytes_sent=bytes_sent, updated_at=timeutils.utcnow())
                )

    @retried
    def replicas(self, image_id: str | None = None) -> list[Replica]:
        """What is now: for each image and target the row that counts, by image and target.

        A closed row, of an upload that Glance refused, counts only where there is no other.
        """
        statement = sa.select(ReplicaRow).order_by(
            ReplicaRow.image_id, ReplicaRow.target, ReplicaRow.id
        )
        if image_id is not None:
            statement = statement.where(ReplicaRow.image_id == image_id)
        counting: dict[tuple[str, str], Replica] = {}
        for replica in self._select(statement):
            key = (replica.image_id, replica.target)
            if key not in counting or replica.status is not ReplicaStatus.DELETED:
                counting[key] = replica
        return list(counting.values())

    @retried
    def unfinished(self) -> list[Replica]:
        """Rows of uploads that a writer had in hand and that reached no end of any kind."""
        return self._select(
            sa.select(ReplicaRow).where(
                sa.or_(
                    ReplicaRow.status == ReplicaStatus.UPLOADING,
                    sa.and_(
                        ReplicaRow.status == ReplicaStatus.PENDING,
                        ReplicaRow.next_attempt_at.is_(None),
                    ),
                )
            )
        )

    @retried
    def purge_closed(self, before: datetime.datetime) -> int:
        """Forget rows that were closed before then; returns how many."""
        with self._database.writer.using(Context()) as session:
            result = session.execute(
                sa.delete(ReplicaRow).where(
                    ReplicaRow.status == ReplicaStatus.DELETED,
                    ReplicaRow.withheld.is_(False),
                    ReplicaRow.updated_at < before,
                )
            )
            return result.rowcount

    @retried
    def restore_tables(self) -> None:
        """Make an SQLite file that was deleted while it was in use again, without any row.

        :raises ConfigError: it is another database, whose schema only an operator may change
        """
        schema.prepare(self._database)

    def _select(self, statement: sa.Select[Any]) -> list[Replica]:
        with self._database.reader.using(Context()) as session:
            return [replica_of(row) for row in session.scalars(statement)]
