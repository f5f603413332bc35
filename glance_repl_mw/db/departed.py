# SPDX-License-Identifier: Apache-2.0
"""Targets that have replicas but are no longer in the configuration."""

from __future__ import annotations

from collections.abc import Collection

from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import ReplicaStatus

REMEDY = "put it back and drain it, or forget it with glance-repl-manage target remove %s --force"


def departed(survey: ReplicaSurvey, configured: Collection[str]) -> dict[str, int]:
    """How many replicas each target has that is not among those that are configured.

    :raises oslo_db.exception.DBError:
    """
    numbers = {
        target: sum(counts.values()) - counts.get(ReplicaStatus.DELETED, 0)
        for target, counts in survey.counts().items()
        if target not in configured
    }
    return {target: number for target, number in numbers.items() if number}
