# SPDX-License-Identifier: Apache-2.0
"""When to try again, and that no change of state is lost or overtaken."""

import oslo_db.exception
import pytest

from glance_repl_mw import exceptions


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.4), (5000, 0.4)]
)
def test_pauses_double_up_to_the_longest(crew, failures, seconds):
    pauses = [crew.pause_seconds(failures) for _ in range(200)]
    assert seconds <= min(pauses) <= max(pauses) <= seconds * 1.2
    assert len(set(pauses)) > 100, "not all wait for the same moment"


def test_refusal_waits_for_the_longest_time(crew):
    assert crew.pause_seconds(1, exceptions.TargetRefused()) >= 0.4
    assert crew.pause_seconds(1, exceptions.TargetUnavailable()) < 0.4


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(0, 0.1, 0.12), (0.3, 0.3, 0.36), (60, 0.4, 0.48)]
)
def test_a_target_may_ask_for_a_pause_up_to_the_longest(crew, asked, least, most):
    error = exceptions.TargetUnavailable()
    error.retry_after_seconds = asked
    assert least <= crew.pause_seconds(1, error) <= most


def test_changes_wait_for_the_database_in_their_order(crew, monkeypatch):
    made = []
    broken = [True]

    def update(upload_id, targets, status=None, **values):
        if broken[0]:
            raise oslo_db.exception.DBError(RuntimeError("locked"))
        made.append((upload_id, targets))

    monkeypatch.setattr(crew.store, "update", update)
    crew.save("first", ["site-a"])
    crew.save("second", ["site-b"])
    crew.save_again()
    assert made == []
    broken[0] = False
    crew.save("third", ["site-a"])
    assert made == [("first", ["site-a"]), ("second", ["site-b"]), ("third", ["site-a"])]


def test_outcomes_come_back_to_the_main_loop(crew):
    outcomes = []

    def fail():
        raise ValueError("why")

    crew.at_glance(lambda: 1, lambda *outcome: outcomes.append(outcome))
    crew.at_target("site-a", fail, lambda *outcome: outcomes.append(outcome))
    assert crew.at_work == 2
    events = [crew.events.get(timeout=60) for _ in range(2)]
    assert outcomes == []
    for event in events:
        event()
    assert crew.at_work == 0
    assert sorted(map(str, outcomes)) == ["(1, None)", "(None, ValueError('why'))"]
