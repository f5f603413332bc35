# SPDX-License-Identifier: Apache-2.0
"""Calls that a database does not answer."""

import threading

import pytest
from oslo_db import exception as db_exception

from glance_repl_mw.db.patience import Patience


@pytest.fixture
def silence():
    """What a call waits for."""
    end = threading.Event()
    yield end
    end.set()


def ask_in_vain(patience, work):
    with pytest.raises(db_exception.DBConnectionError):
        patience.call(work)


def test_answer_and_error_are_the_calls_own():
    patience = Patience(60)
    assert patience.call(lambda: 5) == 5
    for error in (ValueError, TimeoutError):
        with pytest.raises(error, match="why"):
            patience.call(lambda error=error: raise_it(error("why")))


def raise_it(error):
    raise error


def test_silence_costs_few_callers_time(silence, monkeypatch):
    """Others are refused without a call, and one in a while tries."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    patience = Patience(0.01)
    made = []

    def hang():
        made.append(now[0])
        silence.wait(60)

    ask_in_vain(patience, hang)
    for _ in range(3):
        ask_in_vain(patience, hang)
    assert made == [0.0]
    now[0] = 1.0
    for _ in range(3):
        ask_in_vain(patience, hang)
    assert made == [0.0, 1.0]


def test_all_may_ask_again_when_the_database_has_answered(silence):
    patience = Patience(0.01)
    over = threading.Event()

    def late():
        silence.wait(60)
        over.set()

    ask_in_vain(patience, late)
    silence.set()
    assert over.wait(60)
    patient = threading.Event()
    while not patient.is_set():
        try:
            patience.call(patient.set)
        except db_exception.DBConnectionError:
            # The thread that is late has not quite ended.
            continue
