# SPDX-License-Identifier: Apache-2.0
"""What users demand of replicas through REST: that they be read, made now, or deleted."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_utils import timeutils
from sqlalchemy import orm

from glance_repl_mw.db.models import ReplicaRow, TargetWishRow
from glance_repl_mw.db.session import Asked, Context, briefly_retried, changes, replica_of
from glance_repl_mw.model import (
    CLOSED,
    WAITING_FOR_BYTES,
    Priority,
    Replica,
    ReplicaStatus,
    counting,
)
from glance_repl_mw.replicas.deletion import Cause

_UPLOADS = uuid.UUID("5d0c3f6a-7b21-4e58-9c04-1f8e2a6d9b37")


class ReplicaDemands(Asked):
    """Rows of replicas; may be used from any thread, every call is one transaction.

    Each call may raise ``oslo_db.exception.DBError``, and does so soon: somebody waits.
    """

    @briefly_retried
    def replicas(self, image_ids: Collection[str]) -> list[Replica]:
        """What is now: for each image and target the row that counts, by image and target."""
        statement = (
            sa.select(ReplicaRow)
            .where(ReplicaRow.image_id.in_(list(image_ids)))
            .order_by(ReplicaRow.image_id, ReplicaRow.target, ReplicaRow.id)
        )
        with self._database.reader.using(Context()) as session:
            return counting(replica_of(row) for row in session.scalars(statement))

    @briefly_retried
    def is_leaving(self, target: str) -> bool:
        """Whether an operator drains or removes the target."""
        statement = sa.select(TargetWishRow.wish).where(TargetWishRow.target == target)
        with self._database.reader.using(Context()) as session:
            return session.scalar(statement) is not None

    @briefly_retried
    def synchronise(self, image_id: str, target: str, size: int) -> Replica:
        """Have the replica made before everything else; returns it as it is now.

        A replica that waits for its bytes waits no longer, and one that is in a writer's hand, or
        complete, stays as it is. Where there is none, one is planned, only one whoever asks at the
        same time. What was deleted and withheld is withheld no more.
        """
        with self._database.writer.using(Context()) as session:
            rows = _rows(session, image_id, target)
            for row in rows:
                if row.status in CLOSED and row.withheld:
                    row.withheld = False
            live = [row for row in rows if row.status not in CLOSED]
            active = [row for row in live if row.status == ReplicaStatus.ACTIVE]
            if not live:
                row = _planned(image_id, target, size, rows[-1].id if rows else 0)
                session.add(row)
            else:
                row = (active or live)[-1]
                _hasten(session, row)
            session.flush()
            session.refresh(row)
            return replica_of(row)

    @briefly_retried
    def remove(self, replicas: Sequence[Replica]) -> bool:
        """Have replicas deleted, locations first, that no writer has in hand.

        They do not come back by themselves. Returns whether all were as they had been read, else
        none is changed.
        """
        with self._database.writer.using(Context()) as session:
            changed = [_close(session, replica) for replica in replicas]
            if not all(changed):
                session.rollback()
            return all(changed)

    @briefly_retried
    def rows(self, image_id: str, target: str) -> list[Replica]:
        """All rows of an image at a target, the closed ones too, oldest first."""
        with self._database.reader.using(Context()) as session:
            return [replica_of(row) for row in _rows(session, image_id, target)]


def _rows(session: orm.Session, image_id: str, target: str) -> Sequence[ReplicaRow]:
    statement = sa.select(ReplicaRow).where(
        ReplicaRow.image_id == image_id, ReplicaRow.target == target
    )
    return session.scalars(statement.order_by(ReplicaRow.id)).all()


def _planned(image_id: str, target: str, size: int, newest: int) -> ReplicaRow:
    """A new row; those who plan at the same time name the upload alike, and only one succeeds.

    :param newest: the id of the image's newest row at the target, 0 where there is none
    """
    now = timeutils.utcnow()
    return ReplicaRow(
        image_id=image_id,
        target=target,
        upload_id=uuid.uuid5(_UPLOADS, f"{image_id}/{target}/{newest}").hex,
        status=ReplicaStatus.PENDING,
        size=size,
        priority=Priority.SYNC,
        next_attempt_at=now,
        created_at=now,
        updated_at=now,
    )


def _hasten(session: orm.Session, row: ReplicaRow) -> None:
    if row.status in WAITING_FOR_BYTES and row.node is None:
        now = timeutils.utcnow()
        session.execute(
            sa.update(ReplicaRow)
            .where(ReplicaRow.id == row.id, ReplicaRow.version == row.version)
            .values(priority=Priority.SYNC, next_attempt_at=now, updated_at=now)
        )


def _close(session: orm.Session, replica: Replica) -> bool:
    """Returns whether the row was as it had been read."""
    has_object = bool(replica.object_names)
    status = ReplicaStatus.DELETING if has_object else ReplicaStatus.DELETED
    values = {
        "attempts": 0,
        "error": None,
        "next_attempt_at": None,
        "withheld": True,
        "cause": Cause.DEMANDED,
    }
    statement = (
        sa.update(ReplicaRow)
        .where(ReplicaRow.id == replica.id, ReplicaRow.version == replica.version)
        .values(**changes(status, values), version=replica.version + 1)
    )
    result: Any = session.execute(statement)
    return bool(result.rowcount == 1)
