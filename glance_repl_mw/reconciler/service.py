"""All tasks of the reconciler."""

from __future__ import annotations

from collections.abc import Callable

from glance_repl_mw.reconciler import tasks
from glance_repl_mw.reconciler.feeder import Feeder
from glance_repl_mw.reconciler.leaving import Leaving
from glance_repl_mw.reconciler.notes import Notes
from glance_repl_mw.reconciler.orphans import OrphanSweep
from glance_repl_mw.reconciler.probing import Probing
from glance_repl_mw.reconciler.scrub import ReadBack, Scrub
from glance_repl_mw.reconciler.sweep import Sweep
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.reconciler.withdrawal import Withdrawal


def start(tools: Tools, on_change: Callable[[str], None]) -> None:
    """Start every task in a thread of its own; they end when ``tools.stopping`` is set.

    :param on_change: called, in the thread of a task, with an image to which something was done
    """
    for task in _tasks(tools, on_change):
        tasks.start(task)


def _tasks(tools: Tools, on_change: Callable[[str], None]) -> list[tasks.Task]:
    kinds = (Probing, Withdrawal, Scrub, ReadBack, OrphanSweep)
    of_targets = [kind(tools, target) for target in tools.targets for kind in kinds]
    return [Notes(tools, on_change), Sweep(tools), Feeder(tools), Leaving(tools), *of_targets]
