# SPDX-License-Identifier: Apache-2.0
"""How a job ends, and what becomes of the rows that it leaves."""

from __future__ import annotations

import datetime
import enum
from typing import Any

from oslo_utils import timeutils

from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.replicas.deletion import Cause
from glance_repl_mw.writer.push import Push


class Ending(enum.Enum):
    """Why a job ends before all of its replicas are active."""

    REFUSED = enum.auto()  # Glance does not have the image
    GIVEN_UP = enum.auto()  # the spool has not the bytes: the reconciler reads them elsewhere
    HANDED_OVER = enum.auto()  # the spool needs the room: the reconciler reads them elsewhere
    IMPOSSIBLE = enum.auto()  # nobody can make these replicas
    HANDED_BACK = enum.auto()  # the next writer goes on from the spool


Change = tuple[ReplicaStatus, dict[str, Any]]


def closing(ending: Ending, push: Push, reason: str, pause_seconds: float) -> Change | None:
    """What the row of ``push`` becomes, None where it stays as it is.

    What is stored stays so: Glance may have its location, as of a request whose answer was lost.

    :param pause_seconds: until the reconciler takes up what was given up or handed over, or the
        location of what is stored is asked for
    """
    now = timeutils.utcnow()
    if ending is Ending.HANDED_BACK:
        return (ReplicaStatus.PENDING, {}) if push.status is ReplicaStatus.UPLOADING else None
    if push.has_ended:
        # What is active is no part of the upload any more, whatever becomes of that.
        return None
    if ending is Ending.REFUSED:
        if not push.object_names:
            return ReplicaStatus.DELETED, {"error": reason, "next_attempt_at": None}
        return ReplicaStatus.DELETING, {
            "error": reason,
            "attempts": 0,
            "next_attempt_at": now,
            "cause": Cause.REFUSED_UPLOAD,
        }
    later = now + datetime.timedelta(seconds=pause_seconds)
    values: dict[str, Any] = {
        "error": reason,
        "attempts": push.attempts,
        "next_attempt_at": None if ending is Ending.IMPOSSIBLE else later,
        "node": None,
    }
    if push.status is ReplicaStatus.STORED:
        return ReplicaStatus.STORED, values
    return ReplicaStatus.ERROR, {**values, "bytes_sent": 0}
