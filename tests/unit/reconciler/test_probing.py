# SPDX-License-Identifier: Apache-2.0
"""Probes ask for one replica after the other and report what they find."""

import pytest

from glance_repl_mw.exceptions import ReplicaMissing, TargetRefused, TargetUnavailable
from glance_repl_mw.reconciler import probing
from glance_repl_mw.reconciler.probing import Probing
from tests.unit.reconciler.target_lab import SITE, Lab, days


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.asked = []
    lab.problem = None

    def probe(name):
        lab.asked.append(name)
        if lab.problem:
            raise lab.problem

    lab.target.probe = probe
    yield lab
    lab.close()


@pytest.fixture
def task(lab):
    return Probing(lab.tools, SITE)


def test_replicas_have_their_turn_one_after_the_other(lab, task):
    names = [lab.name(lab.add()) for _ in range(3)]
    for _ in range(7):
        task.run_once()
    assert lab.asked == [*names, *names, names[0]]


def test_without_a_replica_none_is_asked_for(lab, task):
    lab.add_image()
    task.run_once()
    assert lab.asked == [None]
    assert lab.health.is_proven_up


@pytest.fixture
def looks(lab, monkeypatch):
    """The looks at the rows so far."""
    looks = []
    page = lab.tools.survey.page

    def look(*args, **options):
        looks.append(args)
        return page(*args, **options)

    monkeypatch.setattr(lab.tools.survey, "page", look)
    return looks


def test_few_replicas_are_asked_in_turn_after_one_look(lab, task, looks):
    names = [lab.name(lab.add()) for _ in range(2)]
    for _ in range(probing._PAGE):
        task.run_once()
    assert lab.asked == names * (probing._PAGE // 2)
    assert len(looks) == 1
    new = lab.name(lab.add())
    for _ in range(3):
        task.run_once()
    assert lab.asked[-3:] == [new, *names]


def test_first_replica_is_found_after_some_probes(lab, task, looks):
    task.run_once()
    assert len(looks) == 1
    name = lab.name(lab.add())
    while lab.asked[-1] is None:
        task.run_once()
    assert lab.asked == [None] * (1 + probing._PROBES_WITHOUT_REPLICA) + [name]
    assert len(looks) == 2


@pytest.mark.parametrize("kind", [TargetUnavailable, TargetRefused])
def test_failures_make_the_target_down_until_one_success(lab, task, kind):
    lab.add()
    lab.problem = kind(target=SITE, hint="no")
    for _ in range(3):
        assert lab.health.is_up
        task.run_once()
    assert not lab.health.is_up
    lab.problem = None
    task.run_once()
    assert lab.health.is_proven_up


def test_a_missing_replica_is_suspected_and_the_target_is_up(lab, task):
    image_id = lab.add(verified_at=days(1))
    other = lab.add(verified_at=days(1))
    lab.problem = ReplicaMissing(target=SITE, hint="404")
    task.run_once()
    assert lab.health.is_proven_up
    assert lab.row(image_id).verified_at is None
    assert lab.row(image_id).status == "active"
    assert lab.row(other).verified_at


def test_pauses_differ_around_the_interval(lab, task):
    lab.set(probe_interval_seconds=100)
    pauses = {task.run_once() for _ in range(20)}
    assert len(pauses) > 1
    assert all(80 <= pause <= 120 for pause in pauses)
