# SPDX-License-Identifier: Apache-2.0
"""How the stores reach the database: transactions that are tried again where that helps."""

from __future__ import annotations

import dataclasses
import functools
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from oslo_db import api as db_api
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import enginefacade
from oslo_utils import timeutils
from sqlalchemy import orm

from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.db.patience import Patience
from glance_repl_mw.model import Priority, Replica, ReplicaStatus

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Asked = TypeVar("_Asked", bound="Asked")

_FIELDS = [field.name for field in dataclasses.fields(Replica)]
_OUT_OF_HAND = (ReplicaStatus.ACTIVE, ReplicaStatus.DELETING, ReplicaStatus.DELETED)
_TURNS = uuid.UUID("49546fca-d34b-477f-8b94-30c20ce41b4d")
_RETRIES = 8
_BRIEF_RETRIES = 3
_RETRY_SECONDS = 0.05


# Serialization failure, lock not available, the server ends: what oslo.db leaves as it is.
_PASSING_STATES = ("40001", "55P03", "57P01", "57P02", "57P03")
# Too many connections, the server ends: likewise, of MariaDB and MySQL.
_PASSING_NUMBERS = (1040, 1053)
# SQLite gave way to another transaction; libpq finds no server that lets it in.
_PASSING_TEXTS = ("is locked", "connection to server")


def _will_pass(error: Exception) -> bool:
    """Whether the same transaction, begun anew, may meet no error."""
    if isinstance(error, db_exception.DBDuplicateEntry):
        # Another made the row after we had looked for it.
        return True
    if not isinstance(error, sa.exc.OperationalError):
        return False
    number = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return (
        getattr(error.orig, "pgcode", None) in _PASSING_STATES
        or number in _PASSING_NUMBERS
        or any(text in str(error) for text in _PASSING_TEXTS)
    )


def retried(call: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Do a transaction again that met another or lost its server; let only ``DBError`` out.

    It may have been committed although the server did not come to say so: ``call`` must do no harm
    when it is done twice. It is given up after some 13 seconds.

    oslo.db leaves operational errors, such as of a database that is locked, as they are.
    """
    return _retried(call, _RETRIES)


class Asked:
    """A store that is asked by those whom somebody waits for.

    :param patience: how long they wait; those who share it learn from each other
    """

    def __init__(
        self,
        database: enginefacade._TransactionContextManager,
        patience: Patience | None = None,
    ) -> None:
        self._database = database
        self.patience = patience or Patience()


def briefly_retried(
    call: Callable[Concatenate[_Asked, _Parameters], _Result],
) -> Callable[Concatenate[_Asked, _Parameters], _Result]:
    """As ``retried``, for those whom somebody waits for.

    It is given up after half a second of errors, and as soon as ``Patience`` has none.
    """
    again = _retried(call, _BRIEF_RETRIES)

    @functools.wraps(call)
    def in_time(
        store: _Asked, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        return store.patience.call(functools.partial(again, store, *args, **kwargs))

    return in_time


def _retried(call: Callable[_Parameters, _Result], retries: int) -> Callable[_Parameters, _Result]:
    wrapped = db_api.wrap_db_retry(
        max_retries=retries,
        retry_interval=_RETRY_SECONDS,
        retry_on_deadlock=True,
        retry_on_disconnect=True,
        exception_checker=_will_pass,
    )(call)

    @functools.wraps(call)
    def translated(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            result: _Result = wrapped(*args, **kwargs)
        except Exception as error:
            interruption = _interruption(error)
            if interruption is not None:
                raise interruption from None
            if isinstance(error, sa.exc.SQLAlchemyError):
                raise db_exception.DBError(error) from error
            raise
        return result

    return translated


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that met SQLAlchemy at work, which then fails to end its transaction."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


@enginefacade.transaction_context_provider
class Context:
    """What enginefacade keeps the session of one transaction on."""


def add_missing(session: orm.Session, rows: Sequence[ReplicaRow]) -> None:
    """Add the rows, but none of an upload at a target that has one: it may be done twice."""
    uploads = {row.upload_id for row in rows}
    here = sa.select(ReplicaRow.upload_id, ReplicaRow.target).where(
        ReplicaRow.upload_id.in_(uploads)
    )
    present = {(upload_id, target) for upload_id, target in session.execute(here)}
    session.add_all(row for row in rows if (row.upload_id, row.target) not in present)


def take_turn(session: orm.Session, image_id: str, target: str) -> None:
    """Begin a transaction that may make the image's replica at the target, one at a time.

    It must come before the first read: what another makes meanwhile is seen by none that began
    earlier. A row is made that all of them name alike, and taken back; whoever is later waits for
    the end of the earlier transaction.
    """
    now = timeutils.utcnow()
    row = ReplicaRow(
        image_id=image_id,
        target=target,
        upload_id=uuid.uuid5(_TURNS, f"{image_id}/{target}").hex,
        status=ReplicaStatus.DELETED,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    session.flush()
    session.delete(row)
    session.flush()


def changes(status: ReplicaStatus | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a change of a row sets besides ``values``.

    With its last step a row leaves the hand of its node. What made an active one urgent, or not,
    is fulfilled: whenever it is to be made anew, that is a repair.
    """
    changed = {"updated_at": timeutils.utcnow(), **values}
    if status is not None:
        changed["status"] = status
    if status in _OUT_OF_HAND:
        changed["node"] = None
    if status is ReplicaStatus.ACTIVE:
        changed["priority"] = Priority.REPAIR
    return changed


def replica_of(row: ReplicaRow) -> Replica:
    """The row as the other rooms know it."""
    values = {name: getattr(row, name) for name in _FIELDS}
    return Replica(**{**values, "status": ReplicaStatus(row.status)})
