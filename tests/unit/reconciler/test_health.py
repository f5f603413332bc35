# SPDX-License-Identifier: Apache-2.0
"""When a target is taken for up and when for down."""

import pytest

from glance_repl_mw.exceptions import TargetMisplaced, TargetMoved, TargetUnavailable
from glance_repl_mw.reconciler import health
from glance_repl_mw.reconciler.health import TargetHealth

ERROR = TargetUnavailable(target="site-a", hint="no answer")


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(health, "time", clock)
    return clock


def test_is_taken_for_up_but_not_proven_before_it_was_asked(clock):
    fresh = TargetHealth()
    assert fresh.is_up
    assert not fresh.is_proven_up
    assert (fresh.down_seconds, fresh.error) == (0, None)


def test_is_down_after_some_failures_and_since_the_first(clock):
    target = TargetHealth()
    for _ in range(2):
        target.failed(ERROR)
        assert target.is_up
        assert target.down_seconds == 0
        clock.now += 10
    target.failed(ERROR)
    assert not target.is_up
    assert target.down_seconds == 20
    assert "no answer" in target.error


def test_one_success_makes_it_proven_and_one_failure_undoes_that(clock):
    target = TargetHealth()
    for _ in range(5):
        target.failed(ERROR)
    target.succeeded()
    assert target.is_up
    assert target.is_proven_up
    assert (target.down_seconds, target.error) == (0, None)
    target.failed(ERROR)
    assert target.is_up
    assert not target.is_proven_up
    clock.now += 5
    for _ in range(2):
        target.failed(ERROR)
    assert target.down_seconds == 5


def test_an_error_without_words_is_named(clock):
    target = TargetHealth()
    target.failed(TimeoutError())
    assert target.error == "TimeoutError"


def test_changes_are_told_and_success_after_success_is_not(clock):
    told = []
    target = TargetHealth()
    target.on_change = lambda: told.append((target.is_proven_up, target.error))
    target.succeeded()
    target.succeeded()
    target.failed(ERROR)
    target.succeeded()
    assert told == [(True, None), (False, str(ERROR)), (True, None)]


@pytest.mark.parametrize(
    ("kind", "harms"), [(TargetUnavailable, True), (TargetMisplaced, False), (TargetMoved, False)]
)
def test_a_place_that_is_not_the_targets_own_tells_nothing_of_what_glance_reads(kind, harms):
    target = TargetHealth()
    target.failed(kind(target="site-a", hint="its collection has lost its marker"))
    assert target.harms_readers is harms
