# SPDX-License-Identifier: Apache-2.0
"""Where the objects of a target are, as the database remembers it.

A target whose URL leads elsewhere, or whose disk is not mounted, lacks everything; it must not be
taken for one that has lost everything.
"""

from __future__ import annotations

import threading
import time

from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.targets.base import Target
from glance_repl_mw.targets.guarded import MARKER, Marking

LOCATED = (ReplicaStatus.STORED, ReplicaStatus.ACTIVE)
_PAGE = 500
_FEW = 10
_LOOK_AGAIN_SECONDS = 5.0
_MOVED = (
    "[replication:{0}] url or location_url was changed, but replicas have locations at the old "
    "one, as {1}: change it back, or, if the objects were moved along, run glance-repl-manage "
    "target moved {0}"
)
_WRITTEN_ELSEWHERE = (
    "[replication:{0}] url was changed, but replicas were written to {1}: change it back, or, if "
    "the objects were moved along, run glance-repl-manage target moved {0}"
)
_CLAIM = (
    "see that its disk is mounted, and that [replication:{0}] url leads to it; if its objects are "
    "lost for good, run glance-repl-manage target claim {0}, and they are made again"
)
_LOST = f"its collection has lost its {MARKER}: {_CLAIM}"
_STRANGE = f"its collection has no {MARKER} and none of the objects that were looked for: {_CLAIM}"


class PlaceCheck:
    """Tells why a target must not be used: its replicas are elsewhere.

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
                self._obstacle = self._read_elsewhere() or self._written_elsewhere()
                self._look_at = time.monotonic() + _LOOK_AGAIN_SECONDS
            return self._obstacle or ""

    def _read_elsewhere(self) -> str:
        place, fact = self._target.places[-1], place_fact(self._target.name)
        if self._records.fact(fact) == place:
            return ""
        elsewhere = located_elsewhere(self._survey, self._target)
        if elsewhere:
            return _MOVED.format(self._target.name, elsewhere)
        self._records.set_fact(fact, place)
        return ""

    def _written_elsewhere(self) -> str:
        name = self._target.name
        known = self._records.fact(marked_fact(name))
        if known in (None, self._target.places[0]) or not _located(self._survey, name, 1):
            return ""
        return _WRITTEN_ELSEWHERE.format(name, known)


class RememberedMarking(Marking):
    """Remembers in the database that, and where, a target's collection was marked.

    Used by any thread. Each call may raise ``oslo_db.exception.DBError``.
    """

    def __init__(self, target: Target, records: DeletionRecords, survey: ReplicaSurvey) -> None:
        self._target = target
        self._records = records
        self._survey = survey
        self._is_remembered = False

    def objection(self) -> str:
        """A collection that was marked, or has replicas, is not marked again unless it has them.

        :raises TargetError: it cannot be seen whether it has them
        """
        name = self._target.name
        if self._records.fact(marked_fact(name)) == self._target.places[0]:
            return _LOST.format(name)
        # Releases without markers have left replicas, too.
        wanted = [row.object_name or "" for row in _located(self._survey, name, _FEW)]
        if wanted and not any(self._target.stat(each) for each in wanted):
            return _STRANGE.format(name)
        self._is_remembered = False
        return ""

    def remember(self) -> None:
        if not self._is_remembered:
            self._records.set_fact(marked_fact(self._target.name), self._target.places[0])
            self._is_remembered = True


def place_fact(target: str) -> str:
    """The name of the fact that holds where Glance reads the target's objects."""
    return f"place:{target}"


def marked_fact(target: str) -> str:
    """The name of the fact that holds where the target's objects and its marker are written."""
    return f"marked:{target}"


def located_elsewhere(survey: ReplicaSurvey, target: Target) -> str:
    """A location of the target's replicas that is not at its place, empty where all are."""
    after = 0
    while page := survey.page(target.name, LOCATED, after=after, limit=_PAGE):
        for row in page:
            if row.location_url and target.object_name(row.location_url) is None:
                return row.location_url
        after = page[-1].id
    return ""


def _located(survey: ReplicaSurvey, target: str, limit: int) -> list[Replica]:
    """Some replicas whose objects are at the target."""
    return survey.page(target, LOCATED, after=0, limit=limit)
