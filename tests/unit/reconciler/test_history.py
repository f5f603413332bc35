# SPDX-License-Identifier: Apache-2.0
"""Whom to ask last, and for how long."""

import pytest

from glance_repl_mw.model import Image
from glance_repl_mw.reconciler import history
from glance_repl_mw.reconciler.history import Lately, SourceHistory

IMAGE, OTHER = "image", "another image"
GLANCE = None
SOURCES = ["site-a", "site-b", GLANCE]


class Clock:
    now = 0.0

    def __call__(self):
        self.now += 0.001
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(history.time, "monotonic", clock)
    monkeypatch.setattr(Lately.__init__, "__defaults__", (10_000, clock))
    return clock


@pytest.fixture
def sources(clock):
    return SourceHistory()


def image(image_id=IMAGE, owner="alice"):
    return Image(image_id, "active", 1, None, None, None, (), owner=owner)


def test_order_stays_where_nothing_is_wrong(sources):
    assert sources.in_order(IMAGE, SOURCES) == SOURCES


def test_source_that_failed_is_asked_last_for_this_image(sources):
    sources.failed(IMAGE, "site-a")
    assert sources.in_order(IMAGE, SOURCES) == ["site-b", GLANCE, "site-a"]
    assert sources.in_order(OTHER, SOURCES) == SOURCES
    sources.failed(IMAGE, GLANCE)
    assert sources.in_order(IMAGE, SOURCES) == ["site-b", "site-a", GLANCE]
    sources.failed(IMAGE, "site-a")
    assert sources.in_order(IMAGE, SOURCES) == ["site-b", GLANCE, "site-a"]


def test_slow_target_is_asked_last_for_every_image(sources):
    sources.slow(image(), "site-a")
    assert sources.in_order(OTHER, SOURCES) == ["site-b", GLANCE, "site-a"]
    assert not sources.is_slow(image())
    sources.good(image(), ["site-a"])
    assert sources.in_order(OTHER, SOURCES) == SOURCES


def test_image_that_comes_slowly_from_glance_is_held_against_its_owner(sources):
    sources.slow(image(), GLANCE)
    assert sources.is_slow(image())
    assert sources.is_slow(image(OTHER))
    assert not sources.is_slow(image(OTHER, "bob"))
    assert sources.in_order(OTHER, SOURCES) == SOURCES
    sources.good(image(OTHER), ["site-b"])
    assert sources.is_slow(image(OTHER))
    sources.good(image(OTHER), [GLANCE])
    assert not sources.is_slow(image(OTHER))
    assert sources.is_slow(image())


def test_images_of_nobody_have_no_owner_in_common(sources):
    sources.slow(image(owner=None), GLANCE)
    assert not sources.is_slow(image(OTHER, None))


def test_it_is_forgotten_after_a_while(sources, clock):
    sources.wrong(IMAGE, ["site-a"])
    sources.slow(image(), GLANCE)
    assert sources.is_faulty(IMAGE, "site-a")
    assert sources.is_doubted(IMAGE)
    clock.now += 601
    assert not sources.is_faulty(IMAGE, "site-a")
    clock.now += 3600
    assert not sources.is_doubted(IMAGE)
    assert not sources.is_slow(image())


def test_memory_is_bounded():
    lately = Lately(60, most=3)
    for number in range(1000):
        lately.add(number)
    assert [number for number in range(1000) if number in lately] == [997, 998, 999]
