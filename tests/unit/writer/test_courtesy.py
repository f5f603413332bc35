# SPDX-License-Identifier: Apache-2.0
import itertools
import os
import time

import pytest

from glance_repl_mw.spool.upload import Upload, UploadState
from glance_repl_mw.writer import courtesy
from glance_repl_mw.writer.courtesy import Courtesy

LARGE, SMALL = 1 << 20, 1 << 10
MANY = 1000
NUMBERS = itertools.count()


def upload(size=SMALL, state=UploadState.ACCEPTED, age=0.0):
    number = next(NUMBERS)
    return Upload(f"upload-{number}", f"image-{number}", size, state, time.time() - age)


class Machine:
    """What /proc/stat tells of a machine that runs for a while at a time."""

    def __init__(self, path):
        self._path = path
        self._busy = self._idle = 1000
        self.run(0.0)

    def run(self, busy_share):
        self._busy += int(100 * busy_share)
        self._idle += 100 - int(100 * busy_share)
        self._path.write_text(f"cpu  {self._busy} 0 0 {self._idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(courtesy, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(courtesy, "_MEASURED_SECONDS", 0.0)
    return Machine(tmp_path / "stat")


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock, which stands still until it is moved."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

        def time(self):
            return time.time()

    clock = Clock()
    monkeypatch.setattr(courtesy, "time", clock)
    return clock


def admitted_per_second(manners, machine, clock, busy_share):
    """Of any number that wait: how many, on each processor, once nothing is kept any more."""
    number = 0
    for turn in range(200):
        machine.run(busy_share)
        clock.now += 0.02
        found = sum(
            1 for _ in itertools.takewhile(manners.admits, (upload() for _ in range(MANY)))
        )
        number += found if turn >= 150 else 0
        machine.run(busy_share)
    return number / os.cpu_count()


def test_small_uploads_are_admitted_as_far_as_the_processors_are_idle(machine, clock):
    manners = Courtesy(30.0, lambda: 0.01)
    assert admitted_per_second(manners, machine, clock, 1.0) == pytest.approx(1, abs=0.5)
    assert admitted_per_second(manners, machine, clock, 0.75) == pytest.approx(1, abs=0.5)
    assert admitted_per_second(manners, machine, clock, 0.6) == pytest.approx(10, abs=2)
    assert admitted_per_second(manners, machine, clock, 0.0) == pytest.approx(40, abs=5)


def test_fewer_are_admitted_where_glance_is_slow(machine, clock):
    manners = Courtesy(30.0, lambda: 0.1)
    assert admitted_per_second(manners, machine, clock, 1.0) <= 0.5
    assert admitted_per_second(manners, machine, clock, 0.0) == pytest.approx(5, abs=1)


def test_first_small_upload_does_not_wait(machine, clock):
    manners = Courtesy(30.0, lambda: 0.025)

    def is_admitted():
        machine.run(1.0)
        return manners.admits(upload())

    is_admitted()
    for _ in range(3):
        clock.now += 10
        assert [is_admitted() for _ in range(3)] == [True, False, False]


def test_what_was_not_admitted_for_a_moment_is_made_up_for(machine, clock):
    manners = Courtesy(30.0, lambda: 0.001)
    number = 0
    for _ in range(10):
        clock.now += 0.2
        machine.run(0.0)
        number += sum(1 for _ in itertools.takewhile(manners.admits, iter(upload, None)))
    assert number / os.cpu_count() == pytest.approx(80, abs=10)


def test_large_uploads_are_pushed_while_they_grow(machine, clock):
    manners = Courtesy(30.0, lambda: 0.025)
    machine.run(1.0)
    while manners.admits(upload()):
        machine.run(1.0)
    growing = UploadState.RECEIVING
    assert all(manners.admits(upload(size, growing)) for size in (LARGE, None) * MANY)
    assert not manners.admits(upload(SMALL, growing))
    assert not manners.admits(upload(LARGE, UploadState.ACCEPTED))


def test_none_waits_for_too_long(machine, clock):
    manners = Courtesy(30.0, lambda: 0.025)
    while manners.admits(upload()):
        machine.run(1.0)
    assert all(manners.admits(upload(age=31)) for _ in range(MANY))
    assert not manners.admits(upload(age=20))


def test_none_waits_where_that_is_not_wanted(machine, clock):
    manners = Courtesy(0.0, lambda: 0.025)
    machine.run(1.0)
    assert all(manners.admits(upload()) for _ in range(MANY))


def test_machine_that_does_not_tell_its_load_is_taken_for_idle(machine, clock, tmp_path):
    (tmp_path / "stat").unlink()
    manners = Courtesy(30.0, lambda: 0.01)
    assert admitted_per_second(manners, machine, clock, 0.0) == pytest.approx(40, abs=5)
