# SPDX-License-Identifier: Apache-2.0
"""Threads that share a pace keep to its bytes per second, and nothing is lost on the way."""

import random
import threading

import pytest

from glance_repl_mw import pace
from glance_repl_mw.pace import Pace


class Clock:
    """Stands still unless somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def take_for(shared, clock, seconds, wanted=1 << 20):
    """Take as much as is granted for so long; returns the bytes."""
    end = clock.now + seconds
    total = 0
    while (granted := shared.take(wanted)) and clock.now <= end:
        total += granted
    return total


@pytest.mark.parametrize("rate", [1, 70, 5_000, 4 << 20, 10**9])
def test_ten_seconds_bring_what_the_rate_says(clock, rate):
    shared = Pace(rate)
    assert take_for(shared, clock, 10) == pytest.approx(10 * rate, rel=0.05, abs=1)


def test_idle_time_is_followed_by_no_burst(clock):
    shared = Pace(4 << 20)
    take_for(shared, clock, 1)
    clock.sleep(3600)
    assert take_for(shared, clock, 10) == pytest.approx(10 * (4 << 20), rel=0.05)


def test_those_who_come_a_little_late_lose_nothing(clock):
    shared = Pace(4 << 20)
    chance = random.Random(1)
    total, begin = 0, clock.now
    while clock.now < begin + 10:
        total += shared.take(1 << 20)
        clock.sleep(chance.choice([0, 0, 0.05, 0.1]) * chance.random())
    assert total == pytest.approx(10 * (4 << 20), rel=0.05)


def test_turns_come_one_after_the_other(clock):
    shared = Pace(1000)
    shared.take(1000)
    waits = [shared.reserve(1000)[1] for _ in range(40)]
    assert waits == pytest.approx([turn * 0.01 for turn in range(40)], abs=0.01)


def test_what_is_given_back_is_granted_to_others(clock):
    shared = Pace(100)
    shared.take(1)
    for _ in range(1000):
        granted, _ = shared.reserve(1)
        shared.give_back(granted)
    assert shared.reserve(1)[1] <= 0.01


def test_no_limit_grants_everything_at_once(clock):
    shared = Pace(0)
    assert shared.reserve(10**12) == (10**12, 0.0)
    assert shared.take(10**12) == 10**12
    shared.give_back(5)


def test_threads_share_one_limit():
    shared = Pace(1 << 20)
    begin = pace.time.monotonic()
    taken = []

    def take():
        taken.extend(shared.take(1 << 20) for _ in range(5))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # However slow the machine, they cannot have been faster.
    assert sum(taken) <= (pace.time.monotonic() - begin + 0.17) * (1 << 20)
