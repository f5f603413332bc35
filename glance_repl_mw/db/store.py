"""The state of the replicas: the only place with SQL."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
import sqlalchemy.exc
from oslo_db import api as db_api
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import enginefacade
from oslo_utils import timeutils

from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.spool.upload import Upload

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_FIELDS = [field.name for field in dataclasses.fields(Replica)]
_RETRIES = 8
_RETRY_SECONDS = 0.05


def _is_locked(error: Exception) -> bool:
    """Whether SQLite gave way to another transaction that both read and wrote."""
    return isinstance(error, sqlalchemy.exc.OperationalError) and "is locked" in str(error)


def _retried(call: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Do a transaction again that met another, and let no error but ``DBError`` out.

    oslo.db leaves operational errors, such as of a database that is locked, as they are.
    """
    retried = db_api.wrap_db_retry(
        max_retries=_RETRIES,
        retry_interval=_RETRY_SECONDS,
        retry_on_deadlock=True,
        retry_on_disconnect=True,
        exception_checker=_is_locked,
    )(call)

    @functools.wraps(call)
    def translated(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return retried(*args, **kwargs)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise db_exception.DBError(error) from error

    return translated


class ReplicaStore:
    """Rows of replicas; may be used from any thread, every call is one transaction.

    Each call may raise ``oslo_db.exception.DBError``.
    """

    def __init__(self, database: enginefacade._TransactionContextManager) -> None:
        self._database = database

    @_retried
    def begin(self, upload: Upload, targets: Iterable[str]) -> dict[str, Replica]:
        """The rows of an upload by target; those that are missing are made, ``pending``."""
        with self._database.writer.using(_Context()) as session:
            present = set(
                session.scalars(
                    sa.select(ReplicaRow.target).where(ReplicaRow.upload_id == upload.upload_id)
                )
            )
            now = timeutils.utcnow()
            session.add_all(
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
                if target not in present
            )
            session.flush()
            rows = session.scalars(
                sa.select(ReplicaRow).where(ReplicaRow.upload_id == upload.upload_id)
            )
            return {row.target: _replica(row) for row in rows}

    @_retried
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
        with self._database.writer.using(_Context()) as session:
            result = session.execute(statement.values(updated_at=timeutils.utcnow(), **values))
            return result.rowcount

    @_retried
    def record_progress(self, sent: Mapping[tuple[str, str], int]) -> None:
        """Store the bytes sent, by (upload id, target)."""
        with self._database.writer.using(_Context()) as session:
            for (upload_id, target), bytes_sent in sent.items():
                session.execute(
                    sa.update(ReplicaRow)
                    .where(ReplicaRow.upload_id == upload_id, ReplicaRow.target == target)
                    .values(bytes_sent=bytes_sent, updated_at=timeutils.utcnow())
                )

    @_retried
    def due(self, now: datetime.datetime) -> list[Replica]:
        """Rows whose next attempt is due."""
        return self._select(
            sa.select(ReplicaRow).where(
                ReplicaRow.status.in_(
                    [ReplicaStatus.ERROR, ReplicaStatus.STORED, ReplicaStatus.DELETING]
                ),
                ReplicaRow.next_attempt_at <= now,
            )
        )

    @_retried
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

    @_retried
    def unfinished(self) -> list[Replica]:
        """Rows of uploads that a writer had in hand."""
        finished = [ReplicaStatus.ACTIVE, ReplicaStatus.DELETED, ReplicaStatus.DELETING]
        return self._select(sa.select(ReplicaRow).where(ReplicaRow.status.not_in(finished)))

    @_retried
    def purge_closed(self, before: datetime.datetime) -> int:
        """Forget rows that were closed before then; returns how many."""
        with self._database.writer.using(_Context()) as session:
            result = session.execute(
                sa.delete(ReplicaRow).where(
                    ReplicaRow.status == ReplicaStatus.DELETED, ReplicaRow.updated_at < before
                )
            )
            return result.rowcount

    def _select(self, statement: sa.Select[Any]) -> list[Replica]:
        with self._database.reader.using(_Context()) as session:
            return [_replica(row) for row in session.scalars(statement)]


@enginefacade.transaction_context_provider
class _Context:
    """What enginefacade keeps the session of one transaction on."""


def _replica(row: ReplicaRow) -> Replica:
    values = {name: getattr(row, name) for name in _FIELDS}
    return Replica(**{**values, "status": ReplicaStatus(row.status)})
