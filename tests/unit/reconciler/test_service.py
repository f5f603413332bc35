# SPDX-License-Identifier: Apache-2.0
"""Who is woken by what."""

from glance_repl_mw import opts
from glance_repl_mw.model import Wish
from glance_repl_mw.reconciler import service, tasks
from glance_repl_mw.reconciler.tasks import WokenTask
from tests.unit.reconciler.target_lab import SITE, Lab


def test_another_outlook_wakes_all_that_wait_for_it(tmp_path, monkeypatch):
    lab = Lab(tmp_path)
    lab.tools.conf.register_opts(opts.GLANCE_OPTIONS)
    started = []
    monkeypatch.setattr(tasks, "start", lambda task, *_rest, **_more: started.append(task))
    lab.tools.outlooks.now()
    service.start(lab.tools, lambda image_id: None, lambda image_id: None)
    woken = [task for task in started if isinstance(task, WokenTask)]
    assert len(woken) == 3
    assert not any(task._woken.is_set() for task in woken)
    lab.tools.wishes.ask(SITE, Wish.DRAIN)
    lab.tools.outlooks.now()
    assert all(task._woken.is_set() for task in woken)
    lab.close()
