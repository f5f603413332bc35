"""What ``glance-repl-manage verify --orphans`` does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

import prettytable

from glance_repl_mw.reconciler.orphans import delete_orphan, find_orphans
from glance_repl_mw.reconciler.tools import Tools


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

    Returns 1 where one of ours stays, else 0.

    :raises TargetError: a target cannot be listed, or does not delete
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    :raises oslo_db.exception.DBError:
    """
    lines = [line for target in targets for line in _lines(tools, target, delete)]
    if as_json:
        print(json.dumps([dataclasses.asdict(line) for line in lines], indent=2))
    elif lines:
        table = prettytable.PrettyTable(("Target", "Object", "State"))
        table.align = "l"
        table.add_rows([list(dataclasses.astuple(line)) for line in lines])
        print(table)
    else:
        print("Every object is accounted for.")
    return 1 if any(line.state.startswith(("orphan", "kept")) for line in lines) else 0


def _lines(tools: Tools, target: str, delete: bool) -> Iterator[_Line]:
    for orphan in find_orphans(tools, tools.targets[target]):
        if not orphan.ours:
            yield _Line(target, orphan.name, "foreign")
        elif not delete:
            yield _Line(target, orphan.name, "orphan")
        else:
            kept = delete_orphan(tools, tools.targets[target], orphan, is_demanded=True)
            yield _Line(target, orphan.name, f"kept: {kept}" if kept else "deleted")
