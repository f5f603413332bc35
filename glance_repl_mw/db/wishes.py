# SPDX-License-Identifier: Apache-2.0
"""What operators ask for targets: the command that takes it and the writer meet here."""

from __future__ import annotations

import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade
from oslo_utils import timeutils

from glance_repl_mw.db.models import TargetWishRow
from glance_repl_mw.db.session import Context, retried
from glance_repl_mw.model import Wish


class TargetWishes:
    """At most one wish for each target; may be used from any thread.

    Each call may raise ``oslo_db.exception.DBError``.
    """

    def __init__(self, database: enginefacade._TransactionContextManager) -> None:
        self._database = database

    @retried
    def all(self) -> dict[str, Wish]:
        """The wishes by target; the target may be no longer configured."""
        with self._database.reader.using(Context()) as session:
            rows = session.scalars(sa.select(TargetWishRow))
            return {row.target: Wish(row.wish) for row in rows}

    @retried
    def ask(self, target: str, wish: Wish) -> None:
        """Ask for it; takes the place of an earlier wish."""
        values = {"wish": wish, "created_at": timeutils.utcnow()}
        change = sa.update(TargetWishRow).where(TargetWishRow.target == target).values(**values)
        with self._database.writer.using(Context()) as session:
            if session.execute(change).rowcount == 0:
                session.add(TargetWishRow(target=target, **values))

    @retried
    def take_back(self, target: str) -> None:
        """The target shall hold replicas again."""
        with self._database.writer.using(Context()) as session:
            session.execute(sa.delete(TargetWishRow).where(TargetWishRow.target == target))
