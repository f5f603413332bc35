# SPDX-License-Identifier: Apache-2.0
"""Asks a target from time to time whether it can be written and read."""

from __future__ import annotations

import collections
import random
from collections.abc import Sequence

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.reconciler.tasks import Task
from glance_repl_mw.reconciler.tools import Tools

LOG = log.getLogger(__name__)

# So that neither targets nor nodes are asked in step.
_JITTER = 0.2
# So many probes need one look at the rows, also where it finds fewer of them; where these have no
# active replica, fewer.
_PAGE = 20
_PROBES_WITHOUT_REPLICA = 5


class Probing(Task):
    """Probes one target every ``probe_interval_seconds`` and reports to its health.

    Each probe reads the beginning of the next active replica, so that all have their turn.
    """

    def __init__(self, tools: Tools, target: str) -> None:
        super().__init__(tools)
        self.name = f"probe of target {target}"
        self._target = target
        self._after = 0
        self._page: collections.deque[Replica] = collections.deque()
        self._probes_before_look = 0

    def run_once(self) -> float:
        replica = self._next_replica()
        health = self.tools.health[self._target]
        try:
            self.tools.targets[self._target].probe(replica.object_name if replica else None)
            health.succeeded()
        except exceptions.ReplicaMissing as error:
            health.succeeded()
            if replica is not None:
                self._suspect(replica, error)
        except exceptions.TargetError as error:
            health.failed(error)
        interval: float = self.tools.conf.replication.probe_interval_seconds
        return interval * random.uniform(1 - _JITTER, 1 + _JITTER)

    def _next_replica(self) -> Replica | None:
        """The active replica after the one before, by row; None where there is none."""
        if self._probes_before_look:
            self._probes_before_look -= 1
        else:
            self._page = collections.deque(self._next_page())
            self._probes_before_look = _PAGE - 1 if self._page else _PROBES_WITHOUT_REPLICA
        if not self._page:
            return None
        replica = self._page[0]
        self._page.rotate(-1)
        self._after = replica.id
        return replica

    def _next_page(self) -> Sequence[Replica]:
        """Those that follow the last one that was asked for, and again from the first row on."""
        following = self._rows(self._after, _PAGE)
        missing = _PAGE - len(following)
        if not missing or not self._after:
            return following
        return [*following, *(row for row in self._rows(0, missing) if row.id <= self._after)]

    def _rows(self, after: int, limit: int) -> Sequence[Replica]:
        return self.tools.survey.page(
            self._target, [ReplicaStatus.ACTIVE], after=after, limit=limit
        )

    def _suspect(self, replica: Replica, error: exceptions.ReplicaMissing) -> None:
        """Have the scrub look at the replica first, unless it has only left meanwhile."""
        self._probes_before_look = 0
        if self.tools.survey.change(replica, verified_at=None):
            LOG.warning("Image %s, target %s: %s", replica.image_id, replica.target, error)
