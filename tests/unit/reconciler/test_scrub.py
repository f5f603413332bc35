# SPDX-License-Identifier: Apache-2.0
"""Which replicas are verified, in which order, and how soon."""

import threading

import pytest
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import Priority, ReplicaStatus
from glance_repl_mw.reconciler import scrub
from glance_repl_mw.reconciler.scrub import ReadBack, Scrub
from glance_repl_mw.reconciler.tools import Stopping
from tests.lab.process import wait_until
from tests.unit.reconciler.target_lab import SITE, Lab, at, days

DAY = 86400
UNAVAILABLE = exceptions.TargetUnavailable(target=SITE, hint="500")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(scrub, "_AFTER_A_PROBLEM_SECONDS", 0)
    lab = Lab(tmp_path)
    lab.set(scrub_interval_seconds=DAY)
    yield lab
    lab.close()


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock, as far as the scrub sees it, moved by hand."""

    class Clock:
        seconds = 1000.0

        def __call__(self):
            return self.seconds

    clock = Clock()
    monkeypatch.setattr(scrub.time, "monotonic", clock)
    return clock


def take_down(lab):
    for _ in range(3):
        lab.health.failed(UNAVAILABLE)


def names(lab, image_ids):
    return [lab.name(image_id) for image_id in image_ids]


# Sizes


def test_never_verified_ones_are_all_looked_at_at_once(lab):
    image_ids = {lab.add() for _ in range(scrub._PAGE + 1)}
    task = Scrub(lab.tools, SITE)
    assert task.run_once() == 0
    task.run_once()
    assert lab.verified() == image_ids


def test_one_that_is_new_among_many_is_found_soon(lab, clock):
    task = Scrub(lab.tools, SITE)
    lab.add(verified_at=days(0))
    task.run_once()
    image_id = lab.add()
    assert task.run_once() <= 30
    assert image_id in lab.verified()


def test_fresh_one_waits_a_little_and_is_not_put_off(lab, clock):
    image_id = lab.add(made_at=timeutils.utcnow())
    task = Scrub(lab.tools, SITE)
    task.run_once()
    assert lab.target.asked == []
    with at(days(-1)):
        task.run_once()
    assert lab.target.asked == [lab.name(image_id)]


def test_one_in_hand_is_looked_at_once_its_upload_has_ended(lab, clock):
    image_id = lab.add()
    lab.put_in_hand(image_id)
    task = Scrub(lab.tools, SITE)
    task.run_once()
    assert (lab.target.asked, lab.images.finds) == ([], [])
    lab.tools.spool.remove(lab.row(image_id).upload_id)
    task.run_once()
    assert lab.target.asked == [lab.name(image_id)]


def test_others_are_spread_over_the_interval_oldest_first(lab, clock):
    image_ids = [lab.add(verified_at=days(age)) for age in (3, 4, 2, 5)]
    oldest_first = names(lab, [image_ids[place] for place in (3, 1, 0, 2)])
    task = Scrub(lab.tools, SITE)
    for _ in range(100):
        task.run_once()
    assert lab.target.asked == oldest_first[:1]
    for count in (2, 3, 4):
        clock.seconds += DAY / 4
        for _ in range(10):
            task.run_once()
        assert lab.target.asked == oldest_first[:count]


def test_every_interval_has_a_round_of_its_own(lab, clock):
    lab.add(verified_at=days(3))
    task = Scrub(lab.tools, SITE)
    began = timeutils.utcnow()
    for _ in range(3 * 24):
        with at(days(-clock.seconds / DAY)):
            task.run_once()
        clock.seconds += DAY / 24
    assert 3 <= len(lab.target.asked) <= 4
    assert began < lab.row(next(iter(lab.images.images))).verified_at


def test_many_replicas_are_looked_at_in_batches(lab, clock):
    lab.set(scrub_interval_seconds=20 * 60)
    for _ in range(20):
        lab.add(verified_at=days(3))
    task = Scrub(lab.tools, SITE)
    task.run_once()
    assert len(lab.target.asked) == 1
    lab.set(scrub_interval_seconds=5 * 60)
    Scrub(lab.tools, SITE).run_once()
    assert len(lab.target.asked) == 1 + 4


def test_wiped_target_is_gone_through_at_once(lab, clock):
    image_ids = [lab.add(verified_at=days(3)) for _ in range(3)]
    lab.target.objects.clear()
    task = Scrub(lab.tools, SITE)
    for _ in range(len(image_ids)):
        assert task.run_once() == 0
    assert {lab.row(image_id).status for image_id in image_ids} == {ReplicaStatus.ERROR}


def test_missing_one_that_was_never_verified_wakes_the_round(lab, clock):
    lab.add(verified_at=days(3))
    second = lab.add(verified_at=days(2))
    task = Scrub(lab.tools, SITE)
    task.run_once()
    lab.add()
    lab.target.objects.clear()
    task.run_once()
    assert lab.row(second).status is ReplicaStatus.ERROR


def test_nothing_is_asked_while_the_target_is_down(lab):
    lab.add()
    take_down(lab)
    assert Scrub(lab.tools, SITE).run_once() > 0
    assert ReadBack(lab.tools, SITE).run_once() > 0
    assert (lab.target.asked, lab.images.finds) == ([], [])


def test_page_ends_when_the_target_goes_down(lab):
    for _ in range(5):
        lab.target.errors[lab.name(lab.add())] = UNAVAILABLE
    stat = lab.target.stat

    def failing(name):
        if len(lab.target.asked) == 1:
            take_down(lab)
        return stat(name)

    lab.target.stat = failing
    Scrub(lab.tools, SITE).run_once()
    assert len(lab.target.asked) == 2


def test_unknown_one_does_not_stand_in_the_way(lab, clock):
    broken = lab.add(verified_at=days(9))
    lab.target.errors[lab.name(broken)] = UNAVAILABLE
    good = lab.add(verified_at=days(3))
    task = Scrub(lab.tools, SITE)
    for _ in range(10):
        task.run_once()
        clock.seconds += DAY / 4
    assert lab.row(good).verified_at > days(1)
    assert lab.row(broken).status is ReplicaStatus.ACTIVE


def test_one_that_cannot_be_verified_is_not_asked_all_the_time(lab, clock):
    broken = lab.add()
    lab.target.errors[lab.name(broken)] = UNAVAILABLE
    task = Scrub(lab.tools, SITE)
    for _ in range(20):
        task.run_once()
    assert lab.target.asked.count(lab.name(broken)) == 1
    clock.seconds += 601
    lab.target.errors.clear()
    task.run_once()
    assert broken in lab.verified()


def test_idle_scrub_asks_nobody_but_the_database(lab, clock):
    lab.add(verified_at=days(0))
    task = Scrub(lab.tools, SITE)
    task.run_once()
    lab.images.finds.clear()
    lab.target.asked.clear()
    assert {task.run_once() for _ in range(10)} == {30.0}
    assert (lab.target.asked, lab.images.finds) == ([], [])


@pytest.mark.parametrize("kind", [Scrub, ReadBack])
def test_without_any_replica_the_outlook_is_all_that_is_read(lab, clock, monkeypatch, kind):
    monkeypatch.setattr(lab.tools.survey, "_database", None)
    assert {kind(lab.tools, SITE).run_once() for _ in range(10)} == {30.0}


def test_scrub_of_nothing_rests(lab):
    task = Scrub(lab.tools, SITE)
    assert task.run_once() > 1
    assert lab.images.finds == []


def test_scrub_ends_between_two_replicas(lab):
    lab.add()
    lab.tools.stopping.set()
    with pytest.raises(Stopping):
        Scrub(lab.tools, SITE).run_once()
    assert lab.target.asked == []


# Bytes


def test_order_of_reading_back(lab):
    read_long_ago = lab.add(verified_at=days(1), read_back_at=days(9))
    read_once = lab.add(verified_at=days(1), read_back_at=days(3))
    never_read = lab.add(verified_at=days(1))
    never_verified = lab.add()
    lab.add(verified_at=days(1), read_back_at=days(0.5))
    ReadBack(lab.tools, SITE).run_once()
    order = (never_verified, never_read, read_long_ago, read_once)
    assert lab.target.read == names(lab, order)


def test_pages_go_on_where_the_page_before_ended(lab, monkeypatch):
    monkeypatch.setattr(scrub, "_PAGE", 2)
    for age in (None, 5, 4, 3, None):
        lab.add(verified_at=days(1), read_back_at=age and days(age), status="deactivated")
    good = lab.add(verified_at=days(1), read_back_at=days(2))
    task = ReadBack(lab.tools, SITE)
    for _ in range(3):
        task.run_once()
    assert lab.target.read == names(lab, [good])


def test_all_is_read_once_and_then_not_again(lab):
    lab.add()
    task = ReadBack(lab.tools, SITE)
    task.run_once()
    assert task.run_once() > 1
    assert len(lab.target.read) == 1


def test_unreadable_one_is_not_read_again_in_the_next_round(lab, clock):
    broken = lab.add()
    lab.target.errors[lab.name(broken)] = UNAVAILABLE
    task = ReadBack(lab.tools, SITE)
    for _ in range(5):
        task.run_once()
        clock.seconds += 3601
    assert len(lab.target.asked) == 1


def test_nothing_is_read_where_the_rate_is_zero(lab):
    lab.set(scrub_bytes_per_second=0)
    lab.add()
    assert ReadBack(lab.tools, SITE).run_once() > 1
    assert lab.target.asked == []


def test_nothing_is_read_back_while_a_replica_waits_for_its_bytes(lab, monkeypatch):
    monkeypatch.setattr(scrub, "_OTHERS_SECONDS", 0.0)
    first, second = (lab.add(verified_at=days(age)) for age in (5, 4))
    task = ReadBack(lab.tools, SITE)
    open_object = lab.target.open

    def opening(name):
        lab.survey.plan(lab.add_image(), [SITE], Priority.BACKFILL, 1)
        return open_object(name)

    lab.target.open = opening
    for _ in range(3):
        task.run_once()
    assert lab.target.read == names(lab, [first])
    for row in lab.tools.waiting_for_bytes(10):
        lab.survey.change(row, ReplicaStatus.DELETED)
    task.run_once()
    assert lab.target.read == names(lab, [first, second])


def test_rate_holds_the_reading_up_until_the_writer_ends(lab):
    lab.set(scrub_bytes_per_second=1)
    lab.add()
    ended = []

    def run():
        with pytest.raises(Stopping):
            ReadBack(lab.tools, SITE).run_once()
        ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: lab.target.read, 60, "the reading begins")
    lab.tools.stopping.set()
    thread.join(10)
    assert ended
