# SPDX-License-Identifier: Apache-2.0
"""All tasks of the reconciler."""

from __future__ import annotations

from collections.abc import Callable

from glance_repl_mw.model import Wish
from glance_repl_mw.reconciler import tasks
from glance_repl_mw.reconciler.feeder import Feeder
from glance_repl_mw.reconciler.leaving import Leaving
from glance_repl_mw.reconciler.notes import Notes
from glance_repl_mw.reconciler.orphans import OrphanSweep
from glance_repl_mw.reconciler.probing import Probing
from glance_repl_mw.reconciler.scrub import ReadBack, Scrub
from glance_repl_mw.reconciler.sweep import Sweep
from glance_repl_mw.reconciler.takeover import TakeOver
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.reconciler.withdrawal import Withdrawal


def start(
    tools: Tools, on_change: Callable[[str], None], on_gone: Callable[[str], None]
) -> Callable[[], None]:
    """Start every task in a thread of its own; they end when ``tools.stopping`` is set.

    :param on_change: called, in the thread of a task, with an image to which something was done
    :param on_gone: likewise, with an image that was deleted and cannot be restored
    :return: to be called, in any thread, when something has come into the spool
    """
    notes = Notes(tools, on_change, on_gone)
    feeder, leaving = Feeder(tools), Leaving(tools)
    for woken in (notes, feeder, leaving):
        tools.outlooks.on_change(woken.wake)
    for task in (notes, Sweep(tools), feeder, leaving, TakeOver(tools)):
        tasks.start(task)
    for target in tools.targets:
        for kind in (Probing, Scrub, ReadBack, OrphanSweep):
            tasks.start(kind(tools, target), target, pauses_for=[Wish.REMOVE])
        # Locations of targets that leave are the concern of another task.
        tasks.start(Withdrawal(tools, target), target, pauses_for=list(Wish))
    return notes.wake
