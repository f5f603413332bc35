# SPDX-License-Identifier: Apache-2.0
"""The bell brings the writer what comes into the spool, whoever rings it."""

import threading

import pytest

from glance_repl_mw.spool import bell
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.bell import NAME, Bell
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import TAIL_BYTES
from tests.lab.process import wait_until

IMAGE = "5f0c6c3e-9d55-4d4e-a6a3-2d8f1c1d2a10"
WAIT_SECONDS = 60


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare()
    return spool


@pytest.fixture
def rung(spool):
    """Set after each ring."""
    rung = threading.Event()
    spool.bell.listen(rung.set)
    return rung


def heard(rung):
    was_rung = rung.wait(WAIT_SECONDS)
    rung.clear()
    return was_rung


def test_upload_rings_when_it_begins_and_when_it_ends(spool, rung):
    appender = Appender(spool, IMAGE, None)
    assert heard(rung)
    appender.append(b"x")
    appender.accept()
    assert heard(rung)


@pytest.mark.parametrize(
    ("size", "held_back", "at_begin"),
    [(1, False, 0), (TAIL_BYTES, False, 0), (TAIL_BYTES + 1, False, 1), (TAIL_BYTES + 1, True, 0)],
)
def test_upload_of_which_nothing_can_be_sent_early_rings_at_its_end(
    spool, monkeypatch, size, held_back, at_begin
):
    rings = []
    monkeypatch.setattr(spool.bell, "ring", lambda: rings.append(None))
    appender = Appender(spool, IMAGE, size, held_back=held_back)
    assert spool.uploads()[0].can_be_sent_early == bool(at_begin)
    assert len(rings) == at_begin
    appender.accept()
    assert len(rings) == at_begin + 1


def test_rings_in_quick_succession_are_told_together(spool, monkeypatch):
    told, pauses, pausing, go_on = [], [], threading.Event(), threading.Event()

    class Clock:
        def sleep(self, seconds):
            pauses.append(seconds)
            pausing.set()
            assert go_on.wait(WAIT_SECONDS)

    monkeypatch.setattr(bell, "time", Clock())
    spool.bell.listen(lambda: told.append(None))
    spool.bell.ring()
    assert pausing.wait(WAIT_SECONDS)
    for _ in range(200):
        spool.bell.ring()
    assert len(told) == 1
    go_on.set()
    wait_until(lambda: len(pauses) > 1, WAIT_SECONDS, "the other rings are heard")
    spool.bell.ring()
    wait_until(lambda: len(pauses) > 2, WAIT_SECONDS, "the last ring is heard")
    assert len(told) == 3
    alone, rush, alone_again = pauses
    assert alone == alone_again < rush


def test_bell_of_another_process_is_heard_and_a_second_listener_takes_over(spool, rung):
    Bell(spool.directory).ring()
    assert heard(rung)
    again = threading.Event()
    Bell(spool.directory).listen(again.set)
    while not (rung.is_set() or again.is_set()):
        Bell(spool.directory).ring()


def test_bell_that_nobody_hears_holds_up_nobody(spool):
    spool.bell.ring()
    assert not (spool.directory / NAME).exists()


def test_bell_that_is_rung_too_often_holds_up_nobody(spool):
    stuck = threading.Event()
    spool.bell.listen(lambda: stuck.wait(WAIT_SECONDS))
    for _ in range(70_000):
        spool.bell.ring()
    stuck.set()


def test_what_is_no_bell_is_not_listened_to(spool, caplog):
    (spool.directory / NAME).write_text("")
    threads = threading.active_count()
    spool.bell.listen(pytest.fail)
    assert threading.active_count() == threads
    assert "no named pipe" in caplog.text
