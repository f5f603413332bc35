# SPDX-License-Identifier: Apache-2.0
"""Are the targets well configured, and can they be written, read back and deleted?"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent import futures

from oslo_config import cfg

from glance_repl_mw import exceptions, opts
from glance_repl_mw.checks import leaving
from glance_repl_mw.checks.finding import Finding, error, note, ok, warning
from glance_repl_mw.targets import loader
from glance_repl_mw.targets.base import Remark, Target


def load(conf: cfg.ConfigOpts) -> tuple[dict[str, Target], list[Finding]]:
    """The targets whose configuration is right, and what is wrong with the others."""
    where = f"[{opts.GROUP}] enabled_targets"
    if not conf.replication.enabled_targets:
        return {}, [error(where, "names no target", "set it, as in site-a:http")]
    targets, problems = loader.load_singly(conf)
    wrong = [_wrong(where, problem) for problem in problems]
    return targets, [*wrong, *_local_target(conf)]


def _local_target(conf: cfg.ConfigOpts) -> list[Finding]:
    try:
        loader.check_local_target(conf, leaving.configured(conf))
    except exceptions.ConfigError as problem:
        return [_wrong(f"[{opts.GROUP}] local_target", problem)]
    return []


def _wrong(where: str, problem: exceptions.ConfigError) -> Finding:
    hint = problem.hint.removeprefix(f"{where}: ")
    return error(problem.target or where, hint, "correct it; Glance does not start before")


def probe(targets: Mapping[str, Target]) -> Generator[Finding, None, list[Target]]:
    """Try all targets at once; returns those that work."""
    if not targets:
        return []
    with futures.ThreadPoolExecutor(len(targets)) as pool:
        trials = list(pool.map(_try, targets.values()))
    for trial in trials:
        yield from trial
    return [
        target
        for target, trial in zip(targets.values(), trials, strict=True)
        if not any(finding.level == "error" for finding in trial)
    ]


def _try(target: Target) -> Sequence[Finding]:
    try:
        remarks = target.check()
    except exceptions.TargetUnavailable as problem:
        remedy = "see that the server runs, is reached from here, and has room"
        return [error(target.name, _text(problem), remedy)]
    except exceptions.TargetError as problem:
        remedy = f"correct [{loader.section(target.name)}], or what the server allows"
        return [error(target.name, _text(problem), remedy)]
    done = ok(target.name, "an object was written, read back at its location, and deleted")
    return [done, *(_finding(target, remark) for remark in remarks)]


def _finding(target: Target, remark: Remark) -> Finding:
    if remark.remedy:
        return warning(target.name, remark.text, remark.remedy)
    return note(target.name, remark.text)


def _text(problem: exceptions.TargetError) -> str:
    return f"{problem.operation}: {problem.hint}" if problem.operation else problem.hint
