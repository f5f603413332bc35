# SPDX-License-Identifier: Apache-2.0
"""What ``glance-repl-manage verify --orphans`` does."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence

import prettytable

from glance_repl_mw import exceptions
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.reconciler.orphans import delete_orphan, find_orphans
from glance_repl_mw.reconciler.tools import Tools

_FAILED = 2


@dataclasses.dataclass(frozen=True)
class _Line:
    """An object as the command shows it.

    :ivar state: what it is, or that it was deleted
    """

    target: str
    object_name: str
    state: str


def run(tools: Tools, targets: Sequence[str], *, delete: bool, as_json: bool) -> int:
    """List the orphans at these targets, and delete those of ours if wanted.

    A target that cannot be listed, or does not delete, keeps no other from being looked at; a line
    on stderr says why. Returns 2 where there is such a target, else 1 where an orphan of ours
    stays, else 0.

    :raises GlanceUnavailable:
    :raises GlanceRefused:
    :raises oslo_db.exception.DBError:
    """
    lines: list[_Line] = []
    problems: list[str] = []
    for target in targets:
        try:
            # What was found before a target fails is shown as well.
            for line in _lines(tools, target, delete):
                lines.append(line)
        except exceptions.TargetError as error:
            problems.append(f"{target}: not looked at to the end: {printable(error.hint)}")
    _show(lines, as_json=as_json, is_complete=not problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return _FAILED
    return 1 if any(line.state.startswith(("orphan", "kept")) for line in lines) else 0


def _show(lines: Sequence[_Line], *, as_json: bool, is_complete: bool) -> None:
    if as_json:
        print(json.dumps([dataclasses.asdict(line) for line in lines], indent=2))
    elif lines:
        table = prettytable.PrettyTable(("Target", "Object", "State"))
        table.align = "l"
        table.add_rows([[line.target, printable(line.object_name), line.state] for line in lines])
        print(table)
    elif is_complete:
        print("Every object is accounted for.")


def _lines(tools: Tools, target: str, delete: bool) -> Iterator[_Line]:
    for orphan in find_orphans(tools, tools.targets[target]):
        if not orphan.ours:
            yield _Line(target, orphan.name, "foreign")
        elif not delete:
            yield _Line(target, orphan.name, "orphan")
        else:
            kept = delete_orphan(tools, tools.targets[target], orphan, is_demanded=True)
            yield _Line(target, orphan.name, f"kept: {kept}" if kept else "deleted")
