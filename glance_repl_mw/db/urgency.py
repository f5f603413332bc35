# SPDX-License-Identifier: Apache-2.0
"""In which order replicas are verified."""

from __future__ import annotations

import sqlalchemy as sa

from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.model import Replica


def urgency(read_back: bool) -> sa.ColumnElement[int]:
    """0 for replicas that were never verified, 1 for those never read back, 2 for all others."""
    was_verified = ReplicaRow.verified_at.is_not(None)
    if not read_back:
        return sa.case((was_verified, 2), else_=0)
    return sa.case((ReplicaRow.read_back_at.is_not(None), 2), (was_verified, 1), else_=0)


def is_verified_after(replica: Replica, read_back: bool) -> sa.ColumnElement[bool]:
    """What comes after the replica by urgency, moment and row id."""
    moment = ReplicaRow.read_back_at if read_back else ReplicaRow.verified_at
    known = replica.read_back_at if read_back else replica.verified_at
    is_later_row = ReplicaRow.id > replica.id
    if known is not None:
        return sa.or_(moment > known, sa.and_(moment == known, is_later_row))
    number = 1 if replica.verified_at else 0
    same_urgency = sa.and_(urgency(read_back) == number, is_later_row)
    return sa.or_(urgency(read_back) > number, same_urgency)
