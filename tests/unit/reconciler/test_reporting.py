# SPDX-License-Identifier: Apache-2.0
"""A change of a target's health is told when it happens."""

import datetime

from glance_repl_mw import exceptions
from glance_repl_mw.db.states import TargetStates
from glance_repl_mw.reconciler.reporting import StateReport
from tests.unit.reconciler.target_lab import SITE, Lab


def test_each_change_wakes_the_report_and_is_told(tmp_path):
    lab = Lab(tmp_path)
    report = StateReport(lab.tools, TargetStates(lab.database), "node")
    lab.health.succeeded()
    assert report._woken.is_set()
    assert report.run_once() > 1
    report._woken.clear()
    for _ in range(3):
        lab.health.failed(exceptions.TargetUnavailable(target=SITE, hint="no answer"))
    assert report._woken.is_set()
    report.run_once()
    (state,) = TargetStates(lab.database).since(datetime.datetime(2000, 1, 1))
    assert (state.target, state.is_up) == (SITE, False)
    lab.close()
