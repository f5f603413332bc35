"""How the stores reach the database: transactions that are tried again where that helps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import sqlalchemy.exc
from oslo_db import api as db_api
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import enginefacade

from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.model import Replica, ReplicaStatus

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_FIELDS = [field.name for field in dataclasses.fields(Replica)]
_RETRIES = 8
_RETRY_SECONDS = 0.05


def _is_locked(error: Exception) -> bool:
    """Whether SQLite gave way to another transaction that both read and wrote."""
    return isinstance(error, sqlalchemy.exc.OperationalError) and "is locked" in str(error)


def retried(call: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Do a transaction again that met another, and let no error but ``DBError`` out.

    oslo.db leaves operational errors, such as of a database that is locked, as they are.
    """
    wrapped = db_api.wrap_db_retry(
        max_retries=_RETRIES,
        retry_interval=_RETRY_SECONDS,
        retry_on_deadlock=True,
        retry_on_disconnect=True,
        exception_checker=_is_locked,
    )(call)

    @functools.wraps(call)
    def translated(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return wrapped(*args, **kwargs)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise db_exception.DBError(error) from error

    return translated


@enginefacade.transaction_context_provider
class Context:
    """What enginefacade keeps the session of one transaction on."""


def replica_of(row: ReplicaRow) -> Replica:
    """The row as the other rooms know it."""
    values = {name: getattr(row, name) for name in _FIELDS}
    return Replica(**{**values, "status": ReplicaStatus(row.status)})
