"""Images that Glance does not have any more."""

import datetime

import pytest
from oslo_utils import timeutils

from glance_repl_mw import exceptions, opts
from glance_repl_mw.model import Priority, ReplicaStatus
from glance_repl_mw.reconciler import gone
from glance_repl_mw.reconciler.sweep import Sweep
from tests.unit.reconciler.target_lab import SITE, Lab, at


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.tools.conf.register_opts(opts.GLANCE_OPTIONS)
    yield lab
    lab.close()


def delete(lab, image_id):
    lab.deleted = lab.images.images.pop(image_id)


def later(seconds):
    return at(timeutils.utcnow() + datetime.timedelta(seconds=seconds))


def test_replica_of_a_deleted_image_goes_at_once(lab):
    image_id = lab.add()
    delete(lab, image_id)
    gone.bury(lab.tools, image_id, seen=True)
    row = lab.row(image_id)
    assert row.status == "deleting"
    assert row.next_attempt_at <= timeutils.utcnow()


def test_image_that_is_there_after_all_keeps_its_replica(lab):
    image_id = lab.add()
    gone.bury(lab.tools, image_id, seen=True)
    assert lab.row(image_id).status == "active"


@pytest.mark.parametrize("seen", [True, False])
def test_delay(lab, seen):
    lab.set(delete_delay_seconds=100, missing_image_delay_seconds=200)
    image_id = lab.add()
    delete(lab, image_id)
    gone.bury(lab.tools, image_id, seen=seen)
    with later(90 if seen else 190):
        gone.bury(lab.tools, image_id, seen=seen)
        gone.bury_due(lab.tools)
    assert lab.row(image_id).status == "active"
    with later(110 if seen else 210):
        gone.bury_due(lab.tools)
    assert lab.row(image_id).status == "deleting"


def test_restored_image_keeps_its_replica(lab):
    lab.set(delete_delay_seconds=100)
    image_id = lab.add()
    delete(lab, image_id)
    gone.bury(lab.tools, image_id, seen=True)
    lab.images.images[image_id] = lab.deleted
    with later(110):
        gone.bury_due(lab.tools)
    row = lab.row(image_id)
    assert (row.status, row.error, row.next_attempt_at) == ("active", None, None)


def test_glance_says_how_long_an_image_can_be_restored(lab):
    lab.tools.conf.set_override("scrub_time", 50)
    assert gone.delete_delay(lab.tools.conf) == 0
    lab.tools.conf.set_override("delayed_delete", True)
    assert gone.delete_delay(lab.tools.conf) == 50
    lab.set(delete_delay_seconds=7)
    assert gone.delete_delay(lab.tools.conf) == 7


def test_planned_replica_of_a_deleted_image_is_closed(lab):
    image_id = lab.add_image()
    lab.survey.plan(image_id, [SITE], Priority.BACKFILL, 1)
    delete(lab, image_id)
    gone.bury(lab.tools, image_id, seen=False)
    assert lab.row(image_id).status == "deleted"


def test_upload_in_hand_is_left_to_its_job(lab):
    image_id = lab.add()
    lab.put_in_hand(image_id)
    delete(lab, image_id)
    burial = gone.bury(lab.tools, image_id, seen=True)
    assert burial == gone.Burial(is_final=True, is_done=False)
    assert lab.row(image_id).status == "active"


def test_row_that_changes_meanwhile_is_to_be_looked_at_again(lab, monkeypatch):
    """As when the job saves that the location is there now, and ends."""
    image_id = lab.add()
    lab.survey.change(lab.row(image_id), ReplicaStatus.STORED)
    delete(lab, image_id)
    real = gone._is_there

    def job_ends(*args):
        lab.survey.change(lab.row(image_id), ReplicaStatus.ACTIVE)
        return real(*args)

    monkeypatch.setattr(gone, "_is_there", job_ends)
    assert not gone.bury(lab.tools, image_id, seen=True).is_done
    assert lab.row(image_id).status == "active"
    monkeypatch.setattr(gone, "_is_there", real)
    assert gone.bury(lab.tools, image_id, seen=True).is_done
    assert lab.row(image_id).status == "deleting"


def test_what_is_kept_for_a_while_is_read_when_its_time_has_come(lab, monkeypatch):
    lab.set(delete_delay_seconds=100)
    image_id = lab.add()
    delete(lab, image_id)
    assert gone.bury(lab.tools, image_id, seen=True) == gone.Burial(is_final=False, is_done=True)
    looks = []
    monkeypatch.setattr(lab.survey, "overdue", lambda *args, **options: looks.append(1) or [])
    gone.bury_due(lab.tools)
    assert not looks
    with later(110):
        gone.bury_due(lab.tools)
    assert looks


@pytest.mark.parametrize(("deleted", "expected"), [(12, ReplicaStatus.DELETING), (30, "active")])
def test_nothing_is_deleted_when_most_images_are_missing(lab, monkeypatch, deleted, expected):
    """The sweep takes it for a lost right of the service user."""
    lab.set(missing_image_delay_seconds=0)
    monkeypatch.setattr("glance_repl_mw.reconciler.sweep._REST_SECONDS", 0.0)
    image_ids = [lab.add() for _ in range(40)]
    for image_id in image_ids[:deleted]:
        delete(lab, image_id)
    lab.images.page = lambda after, limit, *, hidden: (
        [] if after or hidden else list(lab.images.images.values())
    )
    Sweep(lab.tools).run_once()
    assert {lab.row(image_id).status for image_id in image_ids[:deleted]} == {expected}
    assert {lab.row(image_id).status for image_id in image_ids[deleted:]} == {"active"}


def test_image_that_glance_does_not_let_us_change_holds_up_no_other(lab, monkeypatch):
    """As a deactivated image, whose locations cannot be removed."""
    monkeypatch.setattr("glance_repl_mw.reconciler.sweep._REST_SECONDS", 0.0)
    stubborn = lab.add()
    lab.survey.change(lab.row(stubborn), ReplicaStatus.DELETING)
    other = lab.add_image()
    lab.images.errors["remove_locations"] = exceptions.GlanceRefused(stubborn, hint="409")
    lab.images.page = lambda after, limit, *, hidden: (
        [] if after or hidden else list(lab.images.images.values())
    )
    Sweep(lab.tools).run_once()
    assert lab.row(other).status == "pending"
