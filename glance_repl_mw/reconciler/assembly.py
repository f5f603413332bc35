"""Puts together what deletions need, for the writer and for commands alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from oslo_config import cfg
from oslo_db.sqlalchemy import enginefacade

from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.deployment import deployment_id
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.patches import Readability
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.targets.base import Target
from glance_repl_mw.targets.guarded import GuardedTarget

LOCATED = (ReplicaStatus.STORED, ReplicaStatus.ACTIVE)
_PAGE = 500
_LOOK_AGAIN_SECONDS = 5.0
_MOVED = (
    "[replication:{0}] url or location_url was changed, but replicas have locations at the old "
    "one, as {1}: change it back, or, if the objects were moved along, run glance-repl-manage "
    "target moved {0}"
)


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
        name: GuardedTarget(target, deployment, PlaceCheck(target, records, survey))
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


class PlaceCheck:
    """Tells why a target must not be used: its replicas have locations elsewhere.

    Used by any thread. What is right once stays so while the process lives.
    """

    def __init__(self, target: Target, records: DeletionRecords, survey: ReplicaSurvey) -> None:
        self._target = target
        self._records = records
        self._survey = survey
        self._lock = threading.Lock()
        self._obstacle: str | None = None
        self._look_at = float("-inf")

    def __call__(self) -> str:
        """Empty where the target may be used; may raise ``oslo_db.exception.DBError``."""
        with self._lock:
            if self._obstacle != "" and time.monotonic() >= self._look_at:
                self._obstacle = self._look()
                self._look_at = time.monotonic() + _LOOK_AGAIN_SECONDS
            return self._obstacle or ""

    def _look(self) -> str:
        place, fact = self._target.places[-1], place_fact(self._target.name)
        if self._records.fact(fact) == place:
            return ""
        elsewhere = located_elsewhere(self._survey, self._target)
        if elsewhere:
            return _MOVED.format(self._target.name, elsewhere)
        self._records.set_fact(fact, place)
        return ""


def place_fact(target: str) -> str:
    """The name of the fact that holds where Glance reads the target's objects."""
    return f"place:{target}"


def located_elsewhere(survey: ReplicaSurvey, target: Target) -> str:
    """A location of the target's replicas that is not at its place, empty where all are."""
    after = 0
    while page := survey.page(target.name, LOCATED, after=after, limit=_PAGE):
        for row in page:
            if row.location_url and target.object_name(row.location_url) is None:
                return row.location_url
        after = page[-1].id
    return ""
