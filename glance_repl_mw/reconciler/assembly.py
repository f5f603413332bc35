# SPDX-License-Identifier: Apache-2.0
"""Puts together what deletions need, for the writer and for commands alike."""

from __future__ import annotations

from collections.abc import Mapping

from oslo_config import cfg
from oslo_db.sqlalchemy import enginefacade

from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.deployment import deployment_id
from glance_repl_mw.patches import Readability
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.reconciler.place import PlaceCheck, RememberedMarking
from glance_repl_mw.targets.base import Target
from glance_repl_mw.targets.guarded import GuardedTarget


def guarded(
    conf: cfg.ConfigOpts,
    targets: Mapping[str, Target],
    database: enginefacade._TransactionContextManager,
) -> dict[str, GuardedTarget]:
    """The targets by name, which write only to collections that are their own.

    :raises OSError: the spool cannot be written
    :raises oslo_db.exception.DBError:
    """
    records = DeletionRecords(database)
    deployment = deployment_id(conf, records)
    survey = ReplicaSurvey(database)
    return {
        name: GuardedTarget(
            target,
            deployment,
            PlaceCheck(target, records, survey),
            RememberedMarking(target, records, survey),
        )
        for name, target in targets.items()
    }


def readability(targets: Mapping[str, Target], health: Mapping[str, TargetHealth]) -> Readability:
    """What tells whether a location can be read, as far as is known."""

    def owners(url: str) -> list[TargetHealth]:
        return [
            health[name] for name, each in targets.items() if each.object_name(url) is not None
        ]

    return Readability(
        is_known=lambda url: all(owner.is_proven_up for owner in owners(url)),
        may_be=lambda url: all(owner.is_up for owner in owners(url)),
    )
