# SPDX-License-Identifier: Apache-2.0
"""How slow a source may be."""

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.reconciler.reading import Reading, Watched

LEAST = 1000


class Clock:
    now = 5000.0

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reading(clock):
    return Reading(LEAST, clock)


def source(clock, turns, *, turn_seconds=1.0, turn_bytes=LEAST):
    """So many blocks, each of which is waited for."""
    for _ in range(turns):
        clock.pass_by(turn_seconds)
        yield bytes(turn_bytes)


def read(reading, blocks):
    """How many blocks come before the source is too slow."""
    count = 0
    try:
        for _ in reading.blocks("site-a", blocks):
            count += 1
    except exceptions.SourceSlow:
        return count, "slow"
    return count, "whole"


def test_source_at_the_least_rate_is_read_to_the_end(reading, clock):
    assert read(reading, source(clock, 1000)) == (1000, "whole")
    assert not reading.is_slow


def test_slow_source_is_read_for_two_minutes(reading, clock):
    blocks = source(clock, 1000, turn_seconds=2, turn_bytes=1)
    assert read(reading, blocks) == (60, "slow")


def test_source_may_begin_slowly(reading, clock):
    def warming_up():
        yield from source(clock, 1, turn_seconds=100)
        yield from source(clock, 1000)

    assert read(reading, warming_up()) == (1001, "whole")


def test_source_that_becomes_slow_is_read_for_one_more_minute(reading, clock):
    def tiring():
        yield from source(clock, 300)
        yield from source(clock, 1000, turn_bytes=1)

    count, end = read(reading, tiring())
    assert end == "slow"
    assert 360 <= count <= 370


def test_time_in_which_nobody_waits_for_the_source_does_not_count(reading, clock):
    for _ in reading.blocks("site-a", source(clock, 20)):
        clock.pass_by(100)
        assert not reading.is_slow


def test_any_source_will_do_without_a_least_rate(clock):
    reading = Reading(0, clock)
    assert read(reading, source(clock, 100, turn_seconds=50, turn_bytes=1)) == (100, "whole")


def test_others_see_after_ten_seconds_that_nothing_comes(reading, clock):
    def hanging():
        clock.pass_by(9)
        assert not reading.is_slow
        clock.pass_by(1)
        assert reading.is_slow
        assert reading.source == "site-a"
        yield b""

    list(reading.blocks("site-a", hanging()))


def test_source_is_slow_no_more_once_it_is_faster(reading, clock):
    blocks = reading.blocks("site-a", source(clock, 100, turn_bytes=20 * LEAST))
    clock.pass_by(15)
    assert not reading.is_slow
    for _ in range(30):
        next(blocks)
    assert not reading.is_slow


def test_source_that_is_broken_off_gives_one_more_block(reading, clock):
    blocks = reading.blocks("site-a", source(clock, 100))
    next(blocks)
    reading.break_off()
    with pytest.raises(exceptions.SourceSlow, match="target site-a gives less than 1000"):
        next(blocks)


def test_next_source_is_judged_afresh(reading, clock):
    assert read(reading, source(clock, 100, turn_seconds=10, turn_bytes=1))[1] == "slow"
    assert list(reading.blocks(None, source(clock, 5)))
    assert not reading.is_slow


def test_another_reader_of_the_source_is_watched_as_well(reading, clock):
    reading.begin("site-a")
    watched = Watched(reading, 1000)
    with pytest.raises(exceptions.SourceSlow):
        for _ in range(200):
            clock.pass_by(1)
            assert watched.take(1) == 1
    assert clock.now == 5000 + 120


def test_another_reader_gets_no_more_than_the_image_has(reading):
    reading.begin("site-a")
    watched = Watched(reading, 1000)
    assert watched.take(1000) == 1000
    with pytest.raises(exceptions.TargetCorrupt, match="site-a: read: it sends more bytes"):
        watched.take(1)
