"""Notes are looked at when they come, not when it is time again."""

import queue
import threading

import pytest

from glance_repl_mw import opts
from glance_repl_mw.reconciler import notes, tasks
from tests.unit.reconciler.target_lab import Lab

WAIT_SECONDS = 60


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.tools.conf.register_opts(opts.GLANCE_OPTIONS)
    yield lab
    lab.close()


class WatchedNotes(notes.Notes):
    """`is_idle` is set before it rests for as long as it ever does."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.is_idle = threading.Event()

    def rest(self, seconds):
        if seconds == notes._IDLE_SECONDS:
            self.is_idle.set()
        super().rest(seconds)


def test_note_wakes_who_rests(lab, monkeypatch):
    monkeypatch.setattr(notes, "_IDLE_SECONDS", 1_000_000.0)
    looked_at = queue.Queue()
    task = WatchedNotes(lab.tools, looked_at.put, lambda image_id: None)
    lab.tools.spool.bell.listen(task.wake)
    tasks.start(task)
    for _ in range(2):
        assert task.is_idle.wait(WAIT_SECONDS)
        task.is_idle.clear()
        image_id = lab.add()
        del lab.images.images[image_id]
        lab.tools.spool.note(image_id)
        assert looked_at.get(timeout=WAIT_SECONDS) == image_id
    lab.tools.stopping.set()
    task.wake()
