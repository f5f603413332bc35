# SPDX-License-Identifier: Apache-2.0
"""Too much and too slow are told from what is only large or takes its time."""

import pytest

from glance_repl_mw.exceptions import TargetUnavailable
from glance_repl_mw.targets.bounds import TooLong, TooSlow, bounded_blocks


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def drip(clock, size, seconds, count):
    for _ in range(count):
        clock.now += seconds
        yield bytes(size)


def test_what_is_within_the_bounds_passes():
    assert list(bounded_blocks([b"ab", b"c"], 3)) == [b"ab", b"c"]
    assert list(bounded_blocks([], 0)) == []


def test_what_exceeds_the_size_is_not_passed_on():
    passed = []
    with pytest.raises(TooLong, match=r"target site: read: it sends more than 4 bytes") as caught:
        for block in bounded_blocks([b"ab", b"cd", b"e"], 4, target="site", operation="read"):
            passed.append(block)
    assert b"".join(passed) == b"abcd"
    assert isinstance(caught.value, TargetUnavailable)


def test_endless_drip_is_too_slow():
    clock = Clock()
    with pytest.raises(TooSlow, match=r"30 bytes within 60 s"):
        list(bounded_blocks(drip(clock, 1, 2.0, 10**9), 10**12, 1024, 60, clock=clock))


def test_it_may_become_slow_later():
    clock = Clock()

    def blocks():
        yield from drip(clock, 1024**2, 1.0, 100)
        yield from drip(clock, 1, 2.0, 10**9)

    with pytest.raises(TooSlow):
        list(bounded_blocks(blocks(), 10**12, 1024, 60, clock=clock))


def test_least_rate_is_enough():
    clock = Clock()
    assert len(list(bounded_blocks(drip(clock, 2048, 2.0, 1000), 10**12, clock=clock))) == 1000


def test_time_of_the_caller_does_not_count():
    clock = Clock()
    for _ in bounded_blocks([b"x"] * 100, 100, 1024, 60, clock=clock):
        clock.now += 3600


@pytest.mark.parametrize("how", ["end", "error", "left"])
def test_source_is_closed(how):
    closed = []

    def blocks():
        try:
            yield b"ab"
            yield b"cd"
        finally:
            closed.append(True)

    passed = bounded_blocks(blocks(), 3 if how == "error" else 4)
    if how == "error":
        with pytest.raises(TooLong):
            list(passed)
    elif how == "end":
        list(passed)
    else:
        next(passed)
        passed.close()
    assert closed == [True]
