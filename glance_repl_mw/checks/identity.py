# SPDX-License-Identifier: Apache-2.0
"""Are the collections of the targets their own, and do deletions go on?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from glance_repl_mw import deployment as deployments
from glance_repl_mw import exceptions
from glance_repl_mw.checks import database
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, note, ok, warning
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.reconciler.place import PlaceCheck, RememberedMarking
from glance_repl_mw.targets.base import Target
from glance_repl_mw.targets.guarded import MARKER, READ_SECONDS, GuardedTarget, Marking

_WHERE = "deletions"
_UNUSED = "until then nothing is written or deleted there"


def check(deployment: Deployment, targets: Mapping[str, Target]) -> Iterator[Finding]:
    """Compare the marker of each collection; writes nothing."""
    try:
        rows = database.open_current(deployment.replication.replication.connection)
        if rows is None:
            return
        records = DeletionRecords(rows)
        yield from _check_breaker(records)
        known = deployments.known_id(deployment.replication, records)
        survey = ReplicaSurvey(rows)
        obstacles = {
            name: PlaceCheck(target, records, survey)() for name, target in targets.items()
        }
    except (exceptions.ConfigError, *database.PROBLEMS):
        return  # the check of the database says so
    for name, target in targets.items():
        if obstacles[name]:
            yield error(name, obstacles[name], _UNUSED)
        elif known:
            yield from _check_marker(target, known, RememberedMarking(target, records, survey))


def _check_marker(target: Target, deployment: str, marking: Marking) -> Iterator[Finding]:
    try:
        if target.read(MARKER, 1, READ_SECONDS) is None:
            yield _unmarked(target, marking.objection())
            return
        GuardedTarget(target, deployment).confirm("check", 0)
    except exceptions.TargetMisplaced as problem:
        yield error(target.name, problem.hint, _UNUSED)
    except database.PROBLEMS:
        return  # as above
    except exceptions.TargetError:
        return  # the trial of the target says so
    else:
        yield ok(target.name, "its collection is marked as its own")


def _unmarked(target: Target, objection: str) -> Finding:
    if objection:
        return error(target.name, objection, _UNUSED)
    return note(target.name, f"has no {MARKER} yet: it is written at the first use")


def _check_breaker(records: DeletionRecords) -> Iterator[Finding]:
    state = records.breaker()
    if state.tripped_at is not None:
        since = state.tripped_at.isoformat(" ", "seconds")
        remedy = "look with glance-repl-manage deletions show, then run deletions release"
        yield error(_WHERE, f"are stopped since {since} UTC: {state.why}", remedy)
    missing = records.missing_images()
    if missing:
        text = f"{missing} images with replicas are missing in Glance"
        yield warning(_WHERE, text, "look with glance-repl-manage deletions show")
