# SPDX-License-Identifier: Apache-2.0
"""Who has which place, and who has to leave it."""

import pytest

from glance_repl_mw.reconciler.lanes import Lanes, Shared

FEW = 2
GLANCE = None


class Reading:
    """One whose source is known to be slow, if a test says so."""

    def __init__(self, source):
        self.source = source
        self.is_broken_off = False

    def break_off(self):
        self.is_broken_off = True


@pytest.fixture
def lanes():
    return Lanes(FEW, ["site-a", "site-b", GLANCE])


def taken(lanes, place, source=GLANCE, owner=None):
    reading = Reading(source)
    assert lanes.is_free(place, FEW)
    lanes.take(place, reading, owner)
    return reading


def free(lanes, most_shared=FEW):
    """The places that are free."""
    places = [Shared.PLACE, "site-a", "site-b", GLANCE]
    return [place for place in places if lanes.is_free(place, most_shared)]


def test_few_places_are_shared_and_each_source_has_one_of_its_own(lanes):
    assert free(lanes) == [Shared.PLACE, "site-a", "site-b", GLANCE]
    readings = [taken(lanes, Shared.PLACE) for _ in range(FEW)]
    assert free(lanes) == ["site-a", "site-b", GLANCE]
    readings += [taken(lanes, place) for place in ("site-a", "site-b", GLANCE)]
    assert free(lanes) == []
    for reading in readings:
        lanes.give_back(reading)
        lanes.give_back(reading)
    assert free(lanes) == [Shared.PLACE, "site-a", "site-b", GLANCE]


def test_fewer_are_shared_while_an_upload_is_received(lanes):
    assert Shared.PLACE in free(lanes, most_shared=1)
    taken(lanes, Shared.PLACE)
    assert Shared.PLACE not in free(lanes, most_shared=1)
    assert Shared.PLACE in free(lanes)


@pytest.mark.parametrize("source", ["site-a", GLANCE])
def test_slow_source_goes_on_at_its_own_place(lanes, source):
    slow = taken(lanes, Shared.PLACE, source)
    taken(lanes, Shared.PLACE)
    lanes.move_aside(slow)
    assert Shared.PLACE in free(lanes)
    assert source not in free(lanes)
    assert not slow.is_broken_off
    lanes.move_aside(slow)
    assert not slow.is_broken_off
    lanes.give_back(slow)
    assert source in free(lanes)


def test_second_one_from_a_slow_source_is_broken_off(lanes):
    first, second = (taken(lanes, Shared.PLACE, "site-a") for _ in range(FEW))
    lanes.move_aside(first)
    lanes.move_aside(second)
    assert (first.is_broken_off, second.is_broken_off) == (False, True)
    assert free(lanes) == [Shared.PLACE, "site-b", GLANCE]
    assert [taken(lanes, Shared.PLACE) for _ in range(FEW)]


def test_large_image_whose_source_is_slow_leaves_the_place_of_its_target(lanes):
    relay = taken(lanes, "site-a", GLANCE)
    lanes.move_aside(relay)
    assert free(lanes) == [Shared.PLACE, "site-a", "site-b"]


def test_threads_are_bounded_whatever_hangs(lanes):
    hanging = []
    while Shared.PLACE in free(lanes):
        hanging.append(taken(lanes, Shared.PLACE, "site-a"))
        lanes.move_aside(hanging[-1])
    places = [each for each in free(lanes) if each is not Shared.PLACE]
    hanging += [taken(lanes, place, "site-a") for place in places]
    assert len(hanging) == lanes.most_threads
    assert len(lanes.readings) == FEW + 3
    for reading in hanging:
        lanes.give_back(reading)
    assert free(lanes) == [Shared.PLACE, "site-a", "site-b", GLANCE]


def test_owners_of_shared_places(lanes):
    reading = taken(lanes, Shared.PLACE, owner="alice")
    taken(lanes, GLANCE, owner="bob")
    assert list(lanes.owners) == ["alice"]
    lanes.move_aside(reading)
    assert list(lanes.owners) == []
