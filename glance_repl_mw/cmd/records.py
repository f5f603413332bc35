# SPDX-License-Identifier: Apache-2.0
"""The database, as the subcommands of ``glance-repl-manage`` use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from oslo_config import cfg
from oslo_db.sqlalchemy import enginefacade

from glance_repl_mw import exceptions
from glance_repl_mw.checks import database as database_checks
from glance_repl_mw.checks import leaving as leaving_checks
from glance_repl_mw.db.demands import ReplicaDemands
from glance_repl_mw.db.outlook import Outlooks
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import CLOSED, Replica, ReplicaStatus
from glance_repl_mw.reconciler.leaving import cannot_leave

_PAGE = 500


@dataclasses.dataclass(frozen=True)
class Records:
    """Replicas, wishes, the outlook of both, and demands.

    :ivar drivers: the names of the configured targets' drivers by target
    """

    survey: ReplicaSurvey
    wishes: TargetWishes
    outlooks: Outlooks
    demands: ReplicaDemands
    drivers: dict[str, str]
    database: enginefacade._TransactionContextManager

    def counts(self) -> dict[str, dict[ReplicaStatus, int]]:
        """How many replicas, the closed ones left out, each known target has in each status.

        Known are targets of the configuration, targets that have replicas, and those of a wish.
        """
        found: dict[str, dict[ReplicaStatus, int]] = {name: {} for name in self.drivers}
        for target in self.wishes.all():
            found.setdefault(target, {})
        for target, counts in self.survey.counts().items():
            counts.pop(ReplicaStatus.DELETED, None)
            if counts:
                found.setdefault(target, {}).update(counts)
        return found

    def require(self, target: str) -> None:
        """See that the target is known.

        :raises ConfigError: names those that are
        """
        known = self.counts()
        if target not in known:
            names = ", ".join(sorted(known)) or "none"
            raise exceptions.ConfigError(
                target=target, hint=f"there is no target of this name; known: {names}"
            )

    def staying(self, target: str) -> list[Replica]:
        """The replicas that cannot leave the target, for the reason in their ``error``."""
        found: list[Replica] = []
        after = 0
        statuses = [each for each in ReplicaStatus if each is not ReplicaStatus.DELETED]
        while page := self.survey.page(target, statuses, after=after, limit=_PAGE):
            found += filter(cannot_leave, page)
            after = page[-1].id
        return found


def counting(rows: Sequence[Replica]) -> Replica | None:
    """The replica that counts among the rows of one image and target; None if all are closed."""
    live = [row for row in rows if row.status not in CLOSED]
    active = [row for row in live if row.status is ReplicaStatus.ACTIVE]
    found = active or live
    return found[-1] if found else None


def open_records(conf: cfg.ConfigOpts) -> Records | None:
    """The records that the configuration of replication names, None before there are any.

    :raises ConfigError: the database is not that of this release
    """
    database = database_checks.open_current(conf.replication.connection)
    if database is None:
        return None
    drivers = leaving_checks.configured(conf)
    return Records(
        ReplicaSurvey(database),
        TargetWishes(database),
        Outlooks(database),
        ReplicaDemands(database),
        drivers,
        database,
    )


def require_records(conf: cfg.ConfigOpts) -> Records:
    """As ``open_records``.

    :raises ConfigError: also where the database is yet to be made
    """
    records = open_records(conf)
    if records is None:
        raise exceptions.ConfigError(
            operation="read the database",
            hint="it has no tables yet; the writer makes them, or glance-repl-manage db sync",
        )
    return records
