# SPDX-License-Identifier: Apache-2.0
"""Threads that have only what Glance leaves."""

import os
import threading

from glance_repl_mw.writer import spare_time


def policy_of_a_thread_that_gives_way():
    found = []

    def work():
        spare_time.keep_to_it()
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_gives_way_by_itself():
    assert policy_of_a_thread_that_gives_way() == os.SCHED_IDLE
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_thread_that_may_not_works_as_others_do(monkeypatch, caplog):
    def refuse(*_arguments):
        raise PermissionError("seccomp")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert policy_of_a_thread_that_gives_way() == os.SCHED_OTHER
    assert "cannot give way to Glance: seccomp" in caplog.text
