# SPDX-License-Identifier: Apache-2.0
"""Tasks that are woken, and what an error does to their pauses."""

import queue
import time

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.reconciler import tasks
from tests.lab.process import wait_until
from tests.unit.reconciler.target_lab import Lab

WAIT_SECONDS = 60
FOREVER = 1_000_000.0


class Woken(tasks.WokenTask):
    """Tells when it has run; the first run fails where ``fails``."""

    name = "test"

    def __init__(self, tools, *, fails=False):
        super().__init__(tools)
        self.fails = fails
        self.runs = queue.Queue()

    def run_once(self):
        self.runs.put(time.monotonic())
        if self.fails:
            self.fails = False
            raise exceptions.GlanceUnavailable(hint="no answer")
        return FOREVER


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.tools.stopping.set()
    lab.close()


class Unresting(Woken):
    """Its first pause cannot be waited, as those of a number that no clock counts."""

    def rest(self, seconds):
        if self.runs.qsize() == 1:
            raise OverflowError("timeout value is too large")
        super().rest(seconds)


def run(task):
    tasks.start(task)
    return task.runs.get(timeout=WAIT_SECONDS)


def test_task_that_is_woken_runs_before_its_time(lab):
    task = Woken(lab.tools)
    run(task)
    for _ in range(2):
        task.wake()
        task.runs.get(timeout=WAIT_SECONDS)
    lab.tools.stopping.set()
    task.wake()


def test_wake_that_comes_while_it_runs_is_not_lost(lab):
    task = Woken(lab.tools)
    task.wake()
    run(task)
    task.runs.get(timeout=WAIT_SECONDS)
    lab.tools.stopping.set()
    task.wake()


def test_pause_after_an_error_is_not_cut_short(lab, monkeypatch):
    monkeypatch.setattr(tasks, "_AFTER_AN_ERROR_SECONDS", 0.3)
    task = Woken(lab.tools, fails=True)
    failed_at = run(task)
    task.wake()
    assert task.runs.get(timeout=WAIT_SECONDS) - failed_at >= 0.3
    lab.tools.stopping.set()
    task.wake()


def test_pause_that_cannot_be_waited_does_not_end_the_task(lab, monkeypatch):
    monkeypatch.setattr(tasks, "_AFTER_AN_ERROR_SECONDS", 0.01)
    task = Unresting(lab.tools)
    tasks.start(task)
    wait_until(lambda: task.runs.qsize() == 2, WAIT_SECONDS, "the task runs again")
    lab.tools.stopping.set()
    task.wake()
