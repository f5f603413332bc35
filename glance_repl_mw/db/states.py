# SPDX-License-Identifier: Apache-2.0
"""Which targets are up: the writers say so, and REST asks."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from glance_repl_mw.db.models import TargetStateRow
from glance_repl_mw.db.session import Asked, Context, briefly_retried, retried
from glance_repl_mw.model import TargetState


class TargetStates(Asked):
    """At most one state for each node and target; may be used from any thread.

    Each call may raise ``oslo_db.exception.DBError``.
    """

    @briefly_retried
    def since(self, moment: datetime.datetime) -> list[TargetState]:
        """What the nodes have said since then, by target and node."""
        statement = (
            sa.select(TargetStateRow)
            .where(TargetStateRow.seen_at >= moment)
            .order_by(TargetStateRow.target, TargetStateRow.node)
        )
        with self._database.reader.using(Context()) as session:
            return [
                TargetState(row.node, row.target, row.is_up, row.error, row.seen_at)
                for row in session.scalars(statement)
            ]

    @retried
    def report(self, node: str, states: Sequence[TargetState]) -> None:
        """Let these be all that the node says."""
        with self._database.writer.using(Context()) as session:
            statement = sa.select(TargetStateRow).where(TargetStateRow.node == node)
            present = {row.target: row for row in session.scalars(statement)}
            for state in states:
                row = present.pop(state.target, None)
                if row is None:
                    row = TargetStateRow(node=node, target=state.target)
                    session.add(row)
                row.is_up, row.error, row.seen_at = state.is_up, state.error, state.seen_at
            for row in present.values():
                session.delete(row)

    @retried
    def forget(self, before: datetime.datetime) -> None:
        """Forget what was said before then, by nodes that are there no more."""
        with self._database.writer.using(Context()) as session:
            session.execute(sa.delete(TargetStateRow).where(TargetStateRow.seen_at < before))


def health(states: Collection[TargetState]) -> str:
    """Whether a target is ``up`` or ``down`` for these nodes, ``unknown`` where there is none.

    It is down as soon as one node finds it so.
    """
    if not states:
        return "unknown"
    return "up" if all(state.is_up for state in states) else "down"
