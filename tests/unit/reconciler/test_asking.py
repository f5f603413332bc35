# SPDX-License-Identifier: Apache-2.0
"""Targets that are asked by a thread with other work."""

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.reconciler.asking import Asking, NotAsked
from glance_repl_mw.reconciler.health import TargetHealth

SITE = "site-a"


class Target:
    def __init__(self):
        self.name = SITE
        self.asked = 0
        self.error = None
        self.is_readable = False

    def stat(self, name):
        self.asked += 1
        if self.error:
            raise self.error

    def open(self, name):
        if not self.is_readable:
            raise exceptions.ReplicaMissing(target=SITE, hint="GET: 404")
        return iter([b"bytes"])


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def target():
    return Target()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health():
    return TargetHealth()


@pytest.fixture
def asking(target, clock, health):
    return Asking({SITE: target}, {SITE: health}, clock)


def test_pause_grows_while_a_target_does_not_answer(asking, target, clock, health):
    """Also where its probes go well."""
    target.error = exceptions.TargetUnavailable(target=SITE)
    for number, pause in enumerate((30, 60, 120, 240, 480, 600, 600), 1):
        with pytest.raises(exceptions.TargetUnavailable):
            asking.stat(SITE, "object")
        health.succeeded()
        assert target.asked == number
        clock.now += pause - 1
        with pytest.raises(NotAsked):
            asking.stat(SITE, "object")
        clock.now += 1


def test_an_answer_ends_the_pauses(asking, target, clock):
    target.error = exceptions.TargetUnavailable(target=SITE)
    with pytest.raises(exceptions.TargetUnavailable):
        asking.stat(SITE, "object")
    target.error = None
    with pytest.raises(NotAsked):
        asking.stat(SITE, "object")
    clock.now += 30
    assert asking.stat(SITE, "object") is None
    assert asking.stat(SITE, "object") is None


def test_refusal_is_an_answer(asking, target, health):
    target.error = exceptions.TargetRefused(target=SITE)
    for _ in range(5):
        with pytest.raises(exceptions.TargetRefused):
            asking.stat(SITE, "object")
    assert (target.asked, health.is_up) == (5, True)


def test_target_that_is_down_is_not_asked(asking, target, health):
    for _ in range(3):
        health.failed(OSError("down"))
    with pytest.raises(NotAsked):
        asking.stat(SITE, "object")
    assert target.asked == 0


def test_object_that_only_glance_finds_is_not_missing_and_holds_up_no_other(asking, target):
    target.is_readable = True
    for _ in range(2):
        with pytest.raises(exceptions.TargetUnavailable, match="although Glance can read it"):
            asking.stat(SITE, "object")
    assert target.asked == 2
