# SPDX-License-Identifier: Apache-2.0
"""Runs all checks and prints what they find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

from oslo_config import cfg

from glance_repl_mw import substitution
from glance_repl_mw.checks import (
    access,
    choosing,
    database,
    exposure,
    glance,
    identity,
    leaving,
    nodes,
    options,
    pipeline,
    secrecy,
    spooldir,
    writers,
)
from glance_repl_mw.checks import targets as target_checks
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, Level, error, note
from glance_repl_mw.targets.base import Target

_VALUES = "values of options"
_STATUS = {Level.ERROR: 2, Level.WARNING: 1}


def report(deployment: Deployment, out: TextIO, acknowledged: Sequence[str] = ()) -> int:
    """Write a line per finding as soon as it is known, then a summary, without any secret.

    Blocks as long as the slowest target or service. Returns the exit status: 0, 1 where there are
    warnings only, 2 where there are errors.

    :param acknowledged: warnings that hold one of these texts are shown as notes
    """
    counts: Counter[Level] = Counter()
    targets: dict[str, Target] = {}
    for found in _findings(deployment, targets):
        finding = _as_acknowledged(found, acknowledged)
        counts[finding.level] += 1
        secrets = secrecy.secrets_of(deployment.replication, targets.values())
        print(secrecy.redact(str(finding), secrets), file=out, flush=True)
    print(_summary(counts), file=out)
    return max((_STATUS.get(level, 0) for level in counts), default=0)


def _as_acknowledged(finding: Finding, acknowledged: Sequence[str]) -> Finding:
    is_accepted = any(text and text in str(finding) for text in acknowledged)
    if finding.level is not Level.WARNING or not is_accepted:
        return finding
    return note(finding.where, f"{finding.text} (acknowledged)")


def _findings(deployment: Deployment, targets: dict[str, Target]) -> Iterator[Finding]:
    """All findings; fills ``targets`` on the way."""
    steps: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("pipeline", lambda: pipeline.check(deployment)),
        (_VALUES, lambda: options.check_values(deployment)),
        ("options", lambda: options.check(deployment)),
        ("glance", lambda: glance.check_locations(deployment)),
        ("glance", lambda: glance.check_store(deployment)),
        ("glance", lambda: exposure.check_policies(deployment)),
        ("spool", lambda: spooldir.check(deployment)),
        ("database", lambda: database.check(deployment)),
        ("database", lambda: leaving.check(deployment)),
        ("coordination", lambda: nodes.check(deployment)),
        ("targets", lambda: _load(deployment, targets)),
        ("glance", lambda: glance.check_import_filter(deployment, targets)),
        ("glance", lambda: glance.check_quota(deployment, targets)),
        ("glance", lambda: glance.check_user_quota(deployment, targets)),
        ("targets", lambda: choosing.check(deployment, targets)),
        ("files", lambda: exposure.check_files(deployment.replication, targets.values())),
        ("targets", lambda: exposure.check_targets(targets.values())),
        ("targets", lambda: exposure.check_imports(deployment, targets.values())),
        ("targets", lambda: _identify(deployment, targets)),
        ("targets", lambda: _try_out(deployment, targets)),
        ("writer", lambda: writers.check(deployment)),
    ]
    wrong: list[Finding] = []
    for area, step in steps:
        for found in guarded(area, step):
            if area == _VALUES:
                wrong.append(found)
            elif any(_repeats(found, each) for each in wrong):
                continue
            yield found


def _repeats(finding: Finding, wrong: Finding) -> bool:
    """Whether a step met a value of which it was said already what is wrong with it."""
    option = wrong.where.rpartition(" ")[2]
    told = f"{finding.where}: {finding.text}"
    return finding.text == wrong.text or f" {option}: {wrong.text}" in told


def _load(deployment: Deployment, targets: dict[str, Target]) -> list[Finding]:
    loaded, findings = target_checks.load(deployment.replication)
    targets.update(loaded)
    return findings


def _identify(deployment: Deployment, targets: dict[str, Target]) -> Iterator[Finding]:
    """Leaves in ``targets`` those whose collections may be written to."""
    for finding in identity.check(deployment, dict(targets)):
        if finding.level is Level.ERROR:
            targets.pop(finding.where, None)
        yield finding


def _try_out(deployment: Deployment, targets: dict[str, Target]) -> Iterator[Finding]:
    working = yield from target_checks.probe(targets)
    store = glance.http_store_section(deployment.glance)
    yield from access.check(deployment.replication, working, store)


def guarded(area: str, step: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of one check, whose own failure is one more."""
    try:
        yield from step()
    except cfg.Error as problem:
        yield error(area, substitution.reason_and_option(problem), "correct the value")
    except PermissionError as problem:
        text = f"{problem.filename} may not be looked at"
        yield error(area, text, "run this check as the user of glance-api")
    except Exception as problem:
        text = f"the check failed: {type(problem).__name__}: {problem}"
        yield error(area, text, "correct what it names, or report a bug")


def _summary(counts: Counter[Level]) -> str:
    if not counts[Level.ERROR] and not counts[Level.WARNING]:
        return "Everything is ready for the first upload."
    words = [
        f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}"
        for level in (Level.ERROR, Level.WARNING)
    ]
    return f"{' and '.join(words)}."
