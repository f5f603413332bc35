# SPDX-License-Identifier: Apache-2.0
"""The state of the replicas, as the writer and those who ask for it use it."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade
from oslo_utils import timeutils
from sqlalchemy import orm

from glance_repl_mw.db import schema
from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.db.session import Context, changes, replica_of, retried, take_turn
from glance_repl_mw.model import (
    ENDED,
    WAITING_FOR_BYTES,
    Observer,
    Replica,
    ReplicaStatus,
    counting,
)
from glance_repl_mw.spool.upload import Origin, Upload


class ReplicaStore:
    """Rows of replicas; may be used from any thread, every call is one transaction.

    Each call may raise ``oslo_db.exception.DBError``.

    :param node: whose writer it works for; rows that another node has in hand are left alone
    :param observer: is told of every change of a status
    """

    def __init__(
        self,
        database: enginefacade._TransactionContextManager,
        node: str | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._database = database
        self._node = node
        self._observer = observer

    @retried
    def begin(self, upload: Upload, targets: Collection[str]) -> dict[str, Replica]:
        """The rows of an upload by target, but for those that another node has in hand.

        Those that are missing are made, ``pending``. Where the image has a replica at a target
        that was planned or begun after this upload, as while this node was away, it gets no second
        one. One that still waits for its bytes gets those of this upload. What was fetched serves
        only rows that it was fetched for, and what was downloaded makes a replica only where there
        is none.
        """
        with self._database.writer.using(Context()) as session:
            if upload.origin is Origin.DOWNLOAD:
                for target in sorted(targets):
                    take_turn(session, upload.image_id, target)
            of_image = sa.select(ReplicaRow).where(ReplicaRow.image_id == upload.image_id)
            rows = session.scalars(of_image).all()
            settled = {row.target for row in rows if row.upload_id == upload.upload_id}
            for row in (row for row in rows if self._comes_first(row, upload)):
                if row.target in targets and row.target not in settled:
                    self._claim(session, row, upload)
                    settled.add(row.target)
            now = timeutils.utcnow()
            session.add_all(
                ReplicaRow(
                    image_id=upload.image_id,
                    target=target,
                    upload_id=upload.upload_id,
                    status=ReplicaStatus.PENDING,
                    size=upload.size,
                    node=self._node,
                    created_at=now,
                    updated_at=now,
                )
                for target in targets
                if target not in settled and not upload.is_fetched
            )
            session.flush()
            present = session.scalars(
                sa.select(ReplicaRow).where(ReplicaRow.upload_id == upload.upload_id, self._free())
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
        conditions = [
            ReplicaRow.upload_id == upload_id,
            ReplicaRow.target.in_(list(targets)),
            self._free(),
        ]
        if status is ReplicaStatus.UPLOADING:
            values["node"] = self._node
        counted: dict[str, Any] = {}
        if status is not None:
            counted["version"] = ReplicaRow.version + 1
            legal = [before for before in ReplicaStatus if before.may_become(status)]
            conditions.append(ReplicaRow.status.in_(legal))
        is_observed = self._observer is not None and status is not None
        with self._database.writer.using(Context()) as session:
            rows = sa.select(ReplicaRow).where(*conditions)
            before = [replica_of(row) for row in session.scalars(rows)] if is_observed else []
            values = changes(status, values)
            statement = sa.update(ReplicaRow).where(*conditions).values(**values, **counted)
            changed: int = session.execute(statement).rowcount
        self._tell(before, values)
        return changed

    @retried
    def record_progress(self, sent: Mapping[tuple[str, str], int]) -> None:
        """Store the bytes sent, by (upload id, target)."""
        with self._database.writer.using(Context()) as session:
            # In one order, so that two writers never wait for each other.
            for (upload_id, target), bytes_sent in sorted(sent.items()):
                session.execute(
                    sa.update(ReplicaRow)
                    .where(
                        ReplicaRow.upload_id == upload_id,
                        ReplicaRow.target == target,
                        ReplicaRow.node == self._node,
                    )
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
        return counting(self._select(statement))

    @retried
    def is_left_to_others(self, upload: Upload, targets: Collection[str]) -> bool:
        """Whether one of the targets has an unfinished replica that another upload serves.

        The writer of another node owns that replica, or owned it until its last attempt failed.
        """
        at_targets = (ReplicaRow.image_id == upload.image_id, ReplicaRow.target.in_(targets))
        rows = self._select(sa.select(ReplicaRow).where(*at_targets))
        return any(row.status not in ENDED and self._comes_first(row, upload) for row in rows)

    @retried
    def lacks(self, image_id: str, target: str) -> bool:
        """Whether nobody makes or withholds the image's replica at the target."""
        here = (ReplicaRow.image_id == image_id, ReplicaRow.target == target)
        rows = self._select(sa.select(ReplicaRow).where(*here))
        return not any(_is_taken(row) and not _may_be_filled(row) for row in rows)

    @retried
    def active_locations(self, upload_ids: Collection[str]) -> set[str]:
        """The location URLs of those replicas of these uploads that are ``active``."""
        statement = sa.select(ReplicaRow.location_url).where(
            ReplicaRow.upload_id.in_(list(upload_ids)),
            ReplicaRow.status == ReplicaStatus.ACTIVE,
        )
        with self._database.reader.using(Context()) as session:
            return {url for url in session.scalars(statement) if url}

    @retried
    def unfinished(self) -> list[Replica]:
        """Rows of uploads that this node had in hand and that reached no end of any kind."""
        return self._select(
            sa.select(ReplicaRow).where(
                self._free(),
                sa.or_(
                    ReplicaRow.status == ReplicaStatus.UPLOADING,
                    sa.and_(
                        ReplicaRow.status == ReplicaStatus.PENDING,
                        ReplicaRow.next_attempt_at.is_(None),
                    ),
                ),
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
            return int(result.rowcount)

    @retried
    def restore_tables(self) -> None:
        """Make an SQLite file that was deleted while it was in use again, without any row.

        :raises ConfigError: it is another database, whose schema only an operator may change
        """
        schema.prepare(self._database)

    def _tell(self, before: Iterable[Replica], values: Mapping[str, Any]) -> None:
        for replica in before:
            if self._observer is not None:
                now = dataclasses.replace(replica, **values, version=replica.version + 1)
                self._observer(replica, now)

    def _free(self) -> sa.ColumnElement[bool]:
        """Rows that no other node has in hand."""
        return sa.or_(ReplicaRow.node.is_(None), ReplicaRow.node == self._node)

    def _comes_first(self, row: ReplicaRow | Replica, upload: Upload) -> bool:
        """Whether the row is of another upload, and neither older nor this node's own.

        To a download, which only fills gaps, every row of a replica comes first.
        """
        if upload.origin is Origin.DOWNLOAD:
            return row.upload_id != upload.upload_id and _is_taken(row)
        began_at = datetime.datetime.fromtimestamp(upload.created_at, datetime.UTC)
        return (
            row.upload_id != upload.upload_id
            and row.created_at >= began_at.replace(tzinfo=None)
            and row.status not in (ReplicaStatus.DELETING, ReplicaStatus.DELETED)
            and (row.node is None or row.node != self._node)
        )

    def _claim(self, session: orm.Session, row: ReplicaRow, upload: Upload) -> None:
        """Let the upload serve the row, if that still waits for its bytes."""
        may_fill = _may_be_filled(row) or upload.origin is not Origin.DOWNLOAD
        if row.node is None and row.status in WAITING_FOR_BYTES and may_fill:
            session.execute(
                sa.update(ReplicaRow)
                .where(ReplicaRow.id == row.id, ReplicaRow.version == row.version)
                .values(
                    upload_id=upload.upload_id,
                    status=ReplicaStatus.PENDING,
                    node=self._node,
                    next_attempt_at=None,
                    version=row.version + 1,
                )
            )

    def _select(self, statement: sa.Select[Any]) -> list[Replica]:
        with self._database.reader.using(Context()) as session:
            return [replica_of(row) for row in session.scalars(statement)]


def _is_taken(row: ReplicaRow | Replica) -> bool:
    """Whether a row speaks for its replica, be it that there shall be none."""
    return row.withheld or row.status not in (ReplicaStatus.DELETING, ReplicaStatus.DELETED)


def _may_be_filled(row: ReplicaRow | Replica) -> bool:
    """Whether it waits for bytes in no one's hand, and no location can name a former object."""
    is_waiting = row.node is None and row.status in WAITING_FOR_BYTES
    return is_waiting and row.location_url is None
