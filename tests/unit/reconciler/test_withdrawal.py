# SPDX-License-Identifier: Apache-2.0
"""Locations of a target that is down go, and come back once each replica is proven."""

import dataclasses
import threading

import pytest
from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.pace import Pace
from glance_repl_mw.reconciler import withdrawal
from glance_repl_mw.reconciler.probing import Probing
from glance_repl_mw.reconciler.tools import Stopping
from glance_repl_mw.reconciler.withdrawal import NOT_WITHDRAWN, WITHDRAWN, Withdrawal
from glance_repl_mw.targets.opts import TARGET_OPTIONS
from tests.unit.reconciler.target_lab import BODY, PRIMARY, SITE, Lab, at, days, url_of

HANGS = exceptions.TargetUnavailable(target=SITE, hint="no answer for 5 s")


class WithdrawalLab(Lab):
    """A target with options of its own."""

    def __init__(self, directory):
        super().__init__(directory)
        conf = cfg.ConfigOpts()
        conf.register_opts(TARGET_OPTIONS, group=SITE)
        conf([], default_config_files=[], default_config_dirs=[])
        self.options = conf
        self.target.conf = conf[SITE]
        self.set(withdraw_after_seconds=0)

    def take_down(self, error=HANGS):
        while self.health.is_up:
            self.health.failed(error)

    def bring_back(self):
        self.health.succeeded()

    def run(self):
        """As a new writer would: nothing is known but the rows."""
        Withdrawal(self.tools, SITE).run_once()

    def statuses(self, image_ids):
        return {str(self.row(image_id).status) for image_id in image_ids}

    def is_due(self, image_id):
        due = self.row(image_id).next_attempt_at
        return due is not None and due <= timeutils.utcnow()


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(withdrawal, "_IMAGES_PER_SECOND", float("inf"))
    monkeypatch.setattr(withdrawal, "_PAGE", 4)
    lab = WithdrawalLab(tmp_path)
    yield lab
    lab.close()


@pytest.fixture
def withdrawn(lab):
    """Images, more than a page, whose locations were withdrawn; the target is still down."""
    image_ids = [lab.add() for _ in range(withdrawal._PAGE + 1)]
    lab.take_down()
    lab.run()
    assert lab.statuses(image_ids) == {"stored"}
    return image_ids


# Withdrawal


def test_locations_of_a_target_that_is_down_go_and_no_others(lab, withdrawn):
    for image_id in withdrawn:
        assert lab.image(image_id).locations == (PRIMARY,)
        row = lab.row(image_id)
        assert row.next_attempt_at is None
        assert row.error == f"{WITHDRAWN}{HANGS}"
        assert lab.target.objects[row.object_name]


def test_error_of_a_withdrawn_replica_names_no_other_image(lab):
    """The probe asks for the object of one image, and its error is that of the target."""
    probed, other = lab.add(), lab.add()

    def hang(name):
        raise exceptions.TargetUnavailable(target=SITE, hint=f"GET {url_of(name)}: no answer")

    lab.target.probe = hang
    probing = Probing(lab.tools, SITE)
    probing.run_once()
    while lab.health.is_up:
        lab.health.failed(exceptions.TargetUnavailable(target=SITE, hint=lab.health.error))
    lab.run()
    row = lab.row(other)
    assert row.status == "stored"
    assert "no answer" in row.error
    assert probed not in row.error


def test_nothing_is_withdrawn_while_the_target_is_up_or_not_down_for_long(lab):
    image_id = lab.add()
    lab.run()
    lab.health.failed(HANGS)
    lab.run()
    lab.take_down()
    lab.set(withdraw_after_seconds=3600)
    lab.run()
    assert lab.is_location(image_id)
    assert lab.statuses([image_id]) == {"active"}


def test_nothing_is_withdrawn_while_the_target_only_refuses_new_signatures(lab):
    image_id = lab.add()
    lab.take_down(exceptions.SignatureRefused(target=SITE, hint="403"))
    lab.run()
    assert lab.is_location(image_id)
    lab.health.failed(HANGS)
    lab.run()
    assert not lab.is_location(image_id)


@pytest.mark.parametrize(("general", "own"), [(0, 3600), (3600, 0)])
def test_the_option_of_the_target_counts(lab, general, own):
    image_id = lab.add()
    lab.set(withdraw_after_seconds=general)
    lab.options.set_override("withdraw_after_seconds", own, group=SITE)
    lab.take_down()
    lab.run()
    assert lab.is_location(image_id) == (own > 0)


def test_the_only_location_stays_and_says_why_until_the_target_is_up(lab):
    image_id = lab.add(locations=())
    lab.take_down()
    lab.run()
    assert lab.is_location(image_id)
    row = lab.row(image_id)
    assert row.status == "active"
    assert row.error.startswith(f"{NOT_WITHDRAWN}it is the only location of the image")
    lab.bring_back()
    lab.run()
    assert lab.row(image_id).error is None
    assert lab.is_location(image_id)


def test_what_glance_refuses_stays_and_is_not_asked_for_all_the_time(lab):
    image_id = lab.add()
    lab.images.errors["remove_locations"] = exceptions.GlanceRefused(hint="409 deactivated")
    lab.take_down()
    task = Withdrawal(lab.tools, SITE)
    task.run_once()
    assert "409 deactivated" in lab.row(image_id).error
    lab.images.errors.clear()
    task.run_once()
    assert lab.is_location(image_id)
    with at(days(-1)):
        lab.run()
    assert not lab.is_location(image_id)


@pytest.mark.parametrize(
    ("patience", "seconds"), [(0, 2), (60, 6), (3600, 10)], ids=["none", "short", "long"]
)
def test_target_that_is_up_is_looked_at_as_rarely_as_its_patience_lets(lab, patience, seconds):
    lab.set(withdraw_after_seconds=patience)
    assert Withdrawal(lab.tools, SITE).run_once() == 2
    lab.bring_back()
    assert Withdrawal(lab.tools, SITE).run_once() == seconds


def test_target_with_withdrawn_replicas_is_looked_at_often(lab, withdrawn):
    lab.set(withdraw_after_seconds=3600)
    lab.bring_back()
    assert Withdrawal(lab.tools, SITE).run_once() == 2


def test_images_that_are_gone_are_left_to_others(lab):
    image_id = lab.add()
    del lab.images.images[image_id]
    lab.take_down()
    lab.run()
    assert lab.row(image_id).status == "active"
    assert lab.row(image_id).error is None


def test_glance_that_fails_ends_the_withdrawal_and_it_goes_on_later(lab):
    image_ids = [lab.add() for _ in range(3)]
    lab.take_down()
    lab.images.errors["remove_locations"] = exceptions.GlanceUnavailable(hint="503")
    with pytest.raises(exceptions.GlanceUnavailable):
        lab.run()
    assert lab.statuses(image_ids) == {"active"}
    lab.images.errors.clear()
    lab.run()
    assert lab.statuses(image_ids) == {"stored"}


def test_withdrawal_ends_as_soon_as_the_target_is_up(lab, monkeypatch):
    image_ids = [lab.add() for _ in range(5)]
    lab.take_down()
    remove = lab.images.remove_locations

    def remove_and_come_back(image_id, urls):
        lab.bring_back()
        return remove(image_id, urls)

    monkeypatch.setattr(lab.images, "remove_locations", remove_and_come_back)
    lab.run()
    assert [lab.is_location(image_id) for image_id in image_ids].count(False) == 1


def test_a_location_that_has_just_been_added_waits_until_nobody_heals_it(lab):
    image_id = lab.add(made_at=timeutils.utcnow())
    lab.take_down()
    lab.run()
    assert lab.is_location(image_id)


def test_a_replica_is_withdrawn_also_while_its_upload_waits_for_other_targets(lab):
    image_id = lab.add()
    lab.put_in_hand(image_id)
    lab.take_down()
    lab.run()
    assert not lab.is_location(image_id)
    lab.bring_back()
    lab.run()
    assert lab.is_due(image_id)


def test_requests_to_glance_are_few_in_a_second(lab, monkeypatch):
    monkeypatch.setattr(withdrawal, "_IMAGES_PER_SECOND", 0.001)
    image_ids = [lab.add() for _ in range(3)]
    lab.take_down()
    threading.Timer(0.1, lab.tools.stopping.set).start()
    with pytest.raises(Stopping):
        lab.run()
    assert [lab.is_location(image_id) for image_id in image_ids] == [False, True, True]


# Return


def test_all_return_once_the_target_is_back_and_each_is_read(lab, withdrawn):
    lab.bring_back()
    lab.run()
    for image_id in withdrawn:
        row = lab.row(image_id)
        assert (row.status, row.error, row.attempts) == (ReplicaStatus.STORED, None, 0)
        assert lab.is_due(image_id)
        assert row.verified_at
        assert row.read_back_at
        assert row.object_name in lab.target.read
    assert [len(image_ids) for image_ids in lab.images.finds] == [withdrawal._PAGE, 1]


class CountingPace(Pace):
    """Without a limit; `granted` are the bytes that passed."""

    def __init__(self):
        super().__init__(0)
        self.granted = 0

    def reserve(self, wanted):
        self.granted += wanted
        return super().reserve(wanted)


def test_what_is_read_then_counts_with_what_is_sent(lab, withdrawn):
    pace = CountingPace()
    lab.tools = dataclasses.replace(lab.tools, paces={SITE: pace})
    lab.bring_back()
    lab.run()
    assert pace.granted == len(withdrawn) * len(BODY)


def test_nothing_returns_before_the_target_was_proven_up(lab, withdrawn):
    lab.health = lab.tools.health[SITE] = type(lab.health)()
    lab.run()
    assert lab.health.is_up
    assert not lab.target.read
    lab.bring_back()
    lab.health.failed(HANGS)
    lab.run()
    assert not lab.target.read


def test_replica_that_was_found_to_be_bad_is_acquitted_when_all_of_it_was_read(lab, withdrawn):
    row = lab.row(withdrawn[0])
    lab.survey.change(row, former_objects=f"{row.object_name} former")
    lab.bring_back()
    lab.run()
    row = lab.row(withdrawn[0])
    assert (row.status, row.is_bad, row.former_objects) == ("stored", False, "former")


def damage(body):
    return b"x" + body[1:]


@pytest.mark.parametrize("spoil", [damage, lambda body: body[:-1], None])
def test_a_bad_replica_is_repaired_and_the_good_ones_return(lab, withdrawn, spoil):
    bad, *good = withdrawn
    name = lab.name(bad)
    body = lab.target.objects.pop(name)
    if spoil:
        lab.target.objects[name] = spoil(body)
    lab.bring_back()
    lab.run()
    row = lab.row(bad)
    assert row.status == "error"
    assert lab.is_due(bad)
    assert name in row.error
    assert (row.verified_at, row.read_back_at) == (None, None)
    assert lab.statuses(good) == {"stored"}
    assert all(lab.is_due(image_id) for image_id in good)


def test_a_deactivated_or_deleted_image_waits(lab, withdrawn):
    deactivated, deleted, *others = withdrawn
    lab.images.change(deactivated, status="deactivated")
    del lab.images.images[deleted]
    lab.bring_back()
    lab.run()
    assert lab.statuses([deactivated, deleted]) == {"stored"}
    assert not lab.is_due(deactivated)
    assert not lab.is_due(deleted)
    assert all(lab.is_due(image_id) for image_id in others)
    lab.images.change(deactivated, status="active")
    lab.run()
    assert lab.is_due(deactivated)


def test_a_replica_that_cannot_be_read_now_keeps_no_other_back(lab, withdrawn):
    first, *others = withdrawn
    lab.target.errors[lab.name(first)] = HANGS
    lab.bring_back()
    lab.run()
    assert not lab.is_due(first)
    assert lab.row(first).error.startswith(WITHDRAWN)
    assert all(lab.is_due(image_id) for image_id in others)
    lab.target.errors.clear()
    lab.run()
    assert lab.is_due(first)


def test_return_ends_when_the_target_fails_again(lab, withdrawn):
    lab.target.errors = dict.fromkeys(lab.target.objects, HANGS)
    lab.bring_back()
    lab.run()
    assert len(lab.target.asked) == withdrawal._FAILURES_TO_STOP
    assert not any(lab.is_due(image_id) for image_id in withdrawn)


def test_return_ends_when_the_target_is_found_down(lab, withdrawn, monkeypatch):
    stat = lab.target.stat

    def stat_and_go_down(name):
        lab.take_down()
        return stat(name)

    monkeypatch.setattr(lab.target, "stat", stat_and_go_down)
    lab.bring_back()
    lab.run()
    assert [lab.is_due(image_id) for image_id in withdrawn].count(True) == 1


def test_what_a_job_has_in_hand_or_is_planned_is_left_alone(lab):
    in_hand, planned = lab.add(), lab.add()
    lab.put_in_hand(in_hand)
    later = timeutils.utcnow() + (timeutils.utcnow() - days(1))
    lab.survey.change(lab.row(in_hand), ReplicaStatus.STORED)
    lab.survey.change(lab.row(planned), ReplicaStatus.STORED, next_attempt_at=later)
    lab.bring_back()
    lab.run()
    assert not lab.is_due(in_hand)
    assert lab.row(planned).next_attempt_at == later
    assert not lab.target.read


def test_return_ends_when_the_writer_ends(lab, withdrawn):
    lab.bring_back()
    lab.tools.stopping.set()
    with pytest.raises(Stopping):
        lab.run()
    assert not any(lab.is_due(image_id) for image_id in withdrawn)
    assert lab.image(withdrawn[0]).locations != (url_of(lab.name(withdrawn[0])),)
