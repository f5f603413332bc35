# SPDX-License-Identifier: Apache-2.0
"""What is known of missing images and of this Glance, and how many images are being deleted."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Iterable

import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade
from oslo_utils import timeutils
from sqlalchemy import orm

from glance_repl_mw.db.models import (
    AbsenceRow,
    BreakerRow,
    DeletionRow,
    FactRow,
    ReplicaRow,
    WitnessRow,
)
from glance_repl_mw.db.session import Context, retried
from glance_repl_mw.model import CLOSED, ReplicaStatus

_BREAKER = "deletions"
_KEEP_DELETIONS = datetime.timedelta(days=30)
_KEEP_DELETED = datetime.timedelta(hours=6)
_HAS_REPLICAS = sa.exists().where(
    ReplicaRow.image_id == AbsenceRow.image_id,
    ReplicaRow.status != ReplicaStatus.DELETED,
)
_KEEPS_REPLICAS = sa.exists().where(
    ReplicaRow.image_id == AbsenceRow.image_id, ReplicaRow.status.not_in(CLOSED)
)


@dataclasses.dataclass(frozen=True)
class Absence:
    """An image that Glance does not show.

    :ivar was_deleted: Glance was seen to answer a DELETE of it with 2xx
    :ivar since: when that was seen, or when Glance first did not show it; UTC
    :ivar is_released: an operator says that the image is gone
    """

    image_id: str
    was_deleted: bool
    since: datetime.datetime
    is_released: bool = False


@dataclasses.dataclass(frozen=True)
class Witness:
    """An image that Glance has shown before.

    :ivar owner: its project
    :ivar created_at: UTC; another Glance has no image of this id that was made then
    """

    image_id: str
    owner: str | None
    created_at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class BreakerState:
    """The circuit breaker of deletions.

    :ivar tripped_at: since when nothing is deleted for want of proof; None where it is closed
    :ivar counts_since: deletions before then count no more, as an operator has looked at them
    """

    tripped_at: datetime.datetime | None = None
    why: str | None = None
    counts_since: datetime.datetime | None = None


class DeletionRecords:
    """Shared by all nodes; may be used from any thread, every call is one transaction.

    Each call may raise ``oslo_db.exception.DBError``.
    """

    def __init__(self, database: enginefacade._TransactionContextManager) -> None:
        self._database = database

    # Missing images

    @retried
    def absence(self, image_id: str) -> Absence | None:
        """What is known of the absence of an image, None where it was not missed yet."""
        with self._database.reader.using(Context()) as session:
            row = session.get(AbsenceRow, image_id)
            return None if row is None else _absence_of(row)

    @retried
    def absences(self, limit: int | None = None) -> list[Absence]:
        """The missing images that have replicas, those that are missing longest first."""
        with self._database.reader.using(Context()) as session:
            wanted = sa.select(AbsenceRow).where(_HAS_REPLICAS).order_by(AbsenceRow.since)
            return [_absence_of(row) for row in session.scalars(wanted.limit(limit))]

    @retried
    def missing_images(self) -> int:
        """How many images are missing that nobody saw deleted, and whose replicas are kept."""
        number = sa.select(sa.func.count()).select_from(AbsenceRow)
        unproven = (AbsenceRow.was_deleted.is_(False), AbsenceRow.is_released.is_(False))
        with self._database.reader.using(Context()) as session:
            return session.scalar(number.where(*unproven, _KEEPS_REPLICAS)) or 0

    @retried
    def note_missing(self, image_id: str) -> Absence:
        """Glance does not show the image; returns since when that is known."""
        with self._database.writer.using(Context()) as session:
            row = session.get(AbsenceRow, image_id)
            if row is None:
                row = AbsenceRow(image_id=image_id, was_deleted=False, since=timeutils.utcnow())
                row.is_released = False
                session.add(row)
            return _absence_of(row)

    @retried
    def note_deleted(self, image_id: str) -> None:
        """Glance was seen to answer a DELETE of the image with 2xx."""
        with self._database.writer.using(Context()) as session:
            row = session.get(AbsenceRow, image_id)
            if row is None:
                row = AbsenceRow(image_id=image_id, is_released=False)
                session.add(row)
            if not row.was_deleted:
                row.was_deleted, row.since = True, timeutils.utcnow()

    @retried
    def forget_absences(self, absences: Collection[Absence]) -> None:
        """Glance shows these images; what has become known since they were asked for stays.

        :param absences: as they were before Glance was asked
        """
        same = [
            sa.and_(
                AbsenceRow.image_id == each.image_id,
                AbsenceRow.was_deleted == each.was_deleted,
                AbsenceRow.since == each.since,
            )
            for each in absences
        ]
        with self._database.writer.using(Context()) as session:
            session.execute(sa.delete(AbsenceRow).where(sa.or_(sa.false(), *same)))

    @retried
    def forget_old_absences(self) -> None:
        """Forget those of images without replicas, once no orphan of theirs is waited for."""
        now = timeutils.utcnow()
        is_old = sa.or_(
            sa.and_(AbsenceRow.was_deleted, AbsenceRow.since < now - _KEEP_DELETED),
            AbsenceRow.since < now - _KEEP_DELETIONS,
        )
        with self._database.writer.using(Context()) as session:
            session.execute(sa.delete(AbsenceRow).where(is_old, ~_HAS_REPLICAS))

    # Objects

    @retried
    def has_replica(self, image_id: str, target: str, object_name: str) -> bool:
        """Whether a replica that is not closed has the object, be it a location or not."""
        wanted = sa.exists().where(
            ReplicaRow.image_id == image_id,
            ReplicaRow.target == target,
            ReplicaRow.object_name == object_name,
            ReplicaRow.status.not_in(CLOSED),
        )
        with self._database.reader.using(Context()) as session:
            return bool(session.scalar(sa.select(wanted)))

    @retried
    def is_bad(self, image_id: str, target: str, object_name: str) -> bool:
        """Whether a replica has the object, and it was found to be bad."""
        wanted = sa.select(ReplicaRow.former_objects).where(
            ReplicaRow.image_id == image_id,
            ReplicaRow.target == target,
            ReplicaRow.object_name == object_name,
        )
        with self._database.reader.using(Context()) as session:
            return any(object_name in (each or "").split() for each in session.scalars(wanted))

    # The Glance that is known

    @retried
    def witnesses(self) -> list[Witness]:
        """The images by which this Glance is known, the newest first."""
        with self._database.reader.using(Context()) as session:
            rows = session.scalars(sa.select(WitnessRow).order_by(WitnessRow.created_at.desc()))
            return [Witness(row.image_id, row.owner, row.created_at) for row in rows]

    @retried
    def set_witnesses(self, witnesses: Iterable[Witness]) -> None:
        """Let Glance be known by these images."""
        wanted = {each.image_id: each for each in witnesses}
        with self._database.writer.using(Context()) as session:
            present = {row.image_id: row for row in session.scalars(sa.select(WitnessRow))}
            for image_id in present.keys() - wanted.keys():
                session.delete(present[image_id])
            session.add_all(
                WitnessRow(**dataclasses.asdict(wanted[image_id]))
                for image_id in wanted.keys() - present.keys()
            )

    @retried
    def forget_witness(self, image_id: str) -> None:
        """The image was deleted, and tells nothing of its Glance any more."""
        with self._database.writer.using(Context()) as session:
            session.execute(sa.delete(WitnessRow).where(WitnessRow.image_id == image_id))

    @retried
    def fact(self, name: str) -> str | None:
        """What is known of the deployment under this name."""
        with self._database.reader.using(Context()) as session:
            row = session.get(FactRow, name)
            return None if row is None else row.value

    @retried
    def set_fact(self, name: str, value: str, *, unless_known: bool = False) -> str:
        """Let this be known; returns what is.

        :param unless_known: what is known already stays
        """
        with self._database.writer.using(Context()) as session:
            row = session.get(FactRow, name)
            if row is None:
                session.add(FactRow(name=name, value=value))
                return value
            if not unless_known:
                row.value = value
            known: str = row.value
            return known

    @retried
    def forget_fact(self, name: str) -> None:
        """Let nothing be known under this name."""
        with self._database.writer.using(Context()) as session:
            session.execute(sa.delete(FactRow).where(FactRow.name == name))

    # The circuit breaker

    @retried
    def breaker(self) -> BreakerState:
        """Whether the circuit breaker has tripped."""
        with self._database.reader.using(Context()) as session:
            row = session.get(BreakerRow, _BREAKER)
            return BreakerState() if row is None else _breaker_of(row)

    @retried
    def trip(self, why: str) -> bool:
        """Let the circuit breaker trip; returns whether it had not done so before."""
        with self._database.writer.using(Context()) as session:
            row = _breaker_row(session)
            if row.tripped_at is not None:
                return False
            row.tripped_at, row.why = timeutils.utcnow(), why
            return True

    @retried
    def release(self, image_ids: Collection[str] = ()) -> None:
        """Close the circuit breaker; these missing images may be deleted.

        What was deleted before counts no more.
        """
        with self._database.writer.using(Context()) as session:
            row = _breaker_row(session)
            row.tripped_at, row.why, row.counts_since = None, None, timeutils.utcnow()
            session.execute(
                sa.update(AbsenceRow)
                .where(AbsenceRow.image_id.in_(list(image_ids)))
                .values(is_released=True)
            )

    @retried
    def counted_images(self, since: datetime.datetime) -> set[str]:
        """The images of which objects were deleted since then without a demand."""
        with self._database.reader.using(Context()) as session:
            found = sa.select(DeletionRow.image_id).where(DeletionRow.decided_at >= since)
            return set(session.scalars(found.distinct()))

    @retried
    def count(self, image_id: str, cause: str) -> None:
        """Objects of the image are deleted without a demand."""
        now = timeutils.utcnow()
        with self._database.writer.using(Context()) as session:
            session.add(DeletionRow(image_id=image_id, cause=cause, decided_at=now))
            session.execute(
                sa.delete(DeletionRow).where(DeletionRow.decided_at < now - _KEEP_DELETIONS)
            )

    @retried
    def replicated_images(self) -> int:
        """How many images have a replica, or are to have one."""
        number = sa.func.count(sa.distinct(ReplicaRow.image_id))
        with self._database.reader.using(Context()) as session:
            wanted = sa.select(number).where(ReplicaRow.status != ReplicaStatus.DELETED)
            return session.scalar(wanted) or 0


def _absence_of(row: AbsenceRow) -> Absence:
    return Absence(row.image_id, row.was_deleted, row.since, row.is_released)


def _breaker_of(row: BreakerRow) -> BreakerState:
    return BreakerState(row.tripped_at, row.why, row.counts_since)


def _breaker_row(session: orm.Session) -> BreakerRow:
    row = session.get(BreakerRow, _BREAKER)
    if row is None:
        row = BreakerRow(name=_BREAKER)
        session.add(row)
        session.flush()
    return row
