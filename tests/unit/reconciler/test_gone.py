# SPDX-License-Identifier: Apache-2.0
"""Images that Glance does not have any more, or only seems not to have."""

import datetime

import pytest
from oslo_utils import timeutils

from glance_repl_mw import deployment, exceptions
from glance_repl_mw.model import Priority, ReplicaStatus
from glance_repl_mw.reconciler import gone, known_glance
from glance_repl_mw.reconciler.deletion_guard import delete_delay
from glance_repl_mw.reconciler.sweep import Sweep
from tests.unit.reconciler.target_lab import DEPLOYMENT, SITE, Lab, at, days

DAY = 24 * 3600


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr("glance_repl_mw.reconciler.sweep._REST_SECONDS", 0.0)
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def vanish(lab, image_id):
    """Glance does not show the image any more, for one reason or another."""
    lab.vanished = lab.images.images.pop(image_id)
    return lab.vanished


def delete(lab, image_id):
    """A user deletes the image, and the filter sees Glance's answer."""
    vanish(lab, image_id)
    lab.tools.guard.image_was_deleted(image_id)


def later(seconds):
    return at(timeutils.utcnow() + datetime.timedelta(seconds=seconds))


def test_replica_of_a_deleted_image_goes_at_once(lab):
    image_id = lab.add()
    delete(lab, image_id)
    assert gone.purge(lab.tools, image_id) == gone.Purge(is_gone=True, is_done=True)
    row = lab.row(image_id)
    assert (row.status, row.cause) == ("deleting", "image_deleted")
    assert row.next_attempt_at <= timeutils.utcnow()


def test_image_that_is_there_after_all_keeps_its_replica_and_is_missed_no_more(lab):
    image_id = lab.add()
    lab.tools.guard.image_was_deleted(image_id)
    gone.purge(lab.tools, image_id)
    assert lab.row(image_id).status == "active"
    assert lab.records.absence(image_id) is None


def test_one_negative_answer_deletes_nothing(lab):
    """The service user has lost its role, and the owner renames the image."""
    image_id = lab.add()
    vanish(lab, image_id)
    assert not gone.purge(lab.tools, image_id).is_gone
    assert lab.row(image_id).status == "active"
    assert not lab.records.absence(image_id).was_deleted


def test_missing_image_keeps_its_replicas_for_a_day(lab):
    lab.add_witness()
    image_id = lab.add()
    vanish(lab, image_id)
    gone.purge(lab.tools, image_id)
    with later(DAY - 60):
        gone.purge(lab.tools, image_id)
    assert lab.row(image_id).status == "active"
    with later(DAY + 60):
        assert gone.purge(lab.tools, image_id).is_gone
    row = lab.row(image_id)
    assert (row.status, row.cause) == ("deleting", "image_missing")


def missing_for_a_day(lab, image_id):
    vanish(lab, image_id)
    gone.purge(lab.tools, image_id)
    with later(DAY + 60):
        return gone.purge(lab.tools, image_id)


def lose_role(lab, witness):
    del lab.images.images[witness]


def publish(lab, witness):
    lab.images.change(witness, visibility="public")


def share_with_us(lab, witness):
    lab.images.change(witness, visibility="shared")
    lab.images.members = lambda image_id: ["service"]


def make_again_elsewhere(lab, witness):
    now = timeutils.utcnow()
    lab.images.change(witness, created_at=now)


def hide_from_us(lab, witness):
    lab.images.change(witness, owner="service")


def break_down(lab, witness):
    lab.images.errors["find"] = exceptions.GlanceUnavailable(hint="503")


@pytest.mark.parametrize(
    "what_happens",
    [lose_role, publish, share_with_us, make_again_elsewhere, hide_from_us, break_down],
)
def test_missing_image_stays_while_the_right_to_see_it_is_not_proven(lab, what_happens):
    witness = lab.add_witness()
    image_id = lab.add()
    what_happens(lab, witness)
    assert not missing_for_a_day(lab, image_id).is_gone
    assert lab.row(image_id).status == "active"


def test_answer_that_is_not_believed_releases_no_location_that_waits_for_its_proof(lab):
    image_id = lab.add()
    lab.survey.change(lab.row(image_id), ReplicaStatus.DELETING, next_attempt_at=None)
    vanish(lab, image_id)
    gone.purge(lab.tools, image_id)
    assert lab.row(image_id).is_still_located
    lab.tools.guard.image_was_deleted(image_id)
    gone.purge(lab.tools, image_id)
    assert not lab.row(image_id).is_still_located


@pytest.mark.parametrize("is_lost_again", [False, True])
def test_right_is_proven_with_the_answer_that_the_image_is_gone(lab, is_lost_again):
    """The role comes back, or was there a moment ago, while the image is asked for."""
    lab.add_witness()
    gone_id, image_id = lab.add(), lab.add()
    vanish(lab, gone_id)
    vanished = vanish(lab, image_id)
    gone.purge(lab.tools, image_id)
    gone.purge(lab.tools, gone_id)
    with later(DAY + 60):
        # The right to see other projects' images is there now.
        assert gone.purge(lab.tools, gone_id).is_gone
        find = lab.images.find
        if is_lost_again:
            lab.images.find = lambda image_ids: {}
        else:
            lab.images.find = lambda image_ids: find(image_ids) | {image_id: vanished}
        assert not gone.purge(lab.tools, image_id).is_gone
    assert lab.row(image_id).status == "active"


@pytest.mark.parametrize("told", [None, "of another deployment"])
def test_missing_image_stays_while_another_glance_answers(lab, told):
    lab.add_witness()
    lab.tools.guard.glance.identity_doubt()  # it has told the deployment once
    lab.tools.guard.glance.forget_answers()
    image_id = lab.add()
    lab.images.told_deployment = told
    assert not missing_for_a_day(lab, image_id).is_gone


def learn(lab):
    """What a comparison of all images does with those that Glance shows."""
    glance = lab.tools.guard.glance
    choice = glance.choice()
    for image in lab.images.images.values():
        choice.add(image)
    glance.learn(choice)


def test_endpoint_without_the_filter_is_right_once_an_operator_says_so(lab):
    glance = lab.tools.guard.glance
    lab.add_witness()
    assert glance.identity_doubt() == ""
    lab.images.told_deployment = None
    learn(lab)
    assert "deletions release --this-glance" in glance.identity_doubt()
    known_glance.trust_another(lab.records)
    learn(lab)
    assert glance.identity_doubt() == ""


def test_glance_whose_witnesses_were_all_deleted_is_right_once_an_operator_says_so(lab):
    glance = lab.tools.guard.glance
    lab.images.told_deployment = None
    del lab.images.images[lab.add_witness()]
    image_id = lab.add_image(created_at=days(1))
    learn(lab)
    assert "deletions release --this-glance" in glance.identity_doubt()
    known_glance.trust_another(lab.records)
    learn(lab)
    assert glance.identity_doubt() == ""
    assert [each.image_id for each in lab.records.witnesses()] == [image_id]


def test_database_that_was_lost_learns_the_deployment_from_the_spool(lab, tmp_path):
    lab.set(spool_dir=str(tmp_path / "spool"))
    deployment.deployment_id(lab.tools.conf, lab.records)
    lab.records.forget_fact(deployment.FACT)
    assert lab.tools.guard.glance.identity_doubt() == ""
    assert lab.records.fact(deployment.FACT) == DEPLOYMENT


def test_glance_without_the_filter_is_known_by_its_images(lab):
    lab.images.told_deployment = None
    witness = lab.add_witness()
    image_id = lab.add()
    assert missing_for_a_day(lab, image_id).is_gone
    other = lab.add()
    lab.images.change(witness, created_at=timeutils.utcnow())
    lab.tools.guard.glance.forget_answers()
    assert not missing_for_a_day(lab, other).is_gone


def test_shared_image_that_is_not_shared_with_us_is_a_witness(lab):
    lab.add_witness(visibility="shared")
    assert missing_for_a_day(lab, lab.add()).is_gone


@pytest.mark.parametrize(("owners", "is_gone"), [(["a"], False), (["a", "b"], True)])
def test_shared_images_of_two_projects_are_witnesses_where_members_are_hidden(
    lab, owners, is_gone
):
    for owner in owners:
        lab.add_witness(visibility="shared", owner=owner)
    lab.images.errors["members"] = exceptions.GlanceRefused(hint="403")
    assert missing_for_a_day(lab, lab.add()).is_gone == is_gone


def test_operator_releases_what_is_missing(lab):
    image_id = lab.add()
    vanish(lab, image_id)
    gone.purge(lab.tools, image_id)
    lab.records.trip("too many")
    lab.records.release([image_id])
    gone.purge(lab.tools, image_id)
    assert lab.row(image_id).status == "deleting"


def test_deleted_image_that_can_be_restored_keeps_its_active_replica_for_a_while(lab):
    lab.set(delete_delay_seconds=100)
    image_id = lab.add()
    delete(lab, image_id)
    purge = gone.purge(lab.tools, image_id)
    assert (purge.is_gone, purge.is_done) == (True, False)
    assert purge.due_at > timeutils.utcnow()
    assert lab.row(image_id).error == "Glance has deleted the image"
    with later(90):
        gone.purge(lab.tools, image_id)
    assert lab.row(image_id).status == "active"
    with later(110):
        gone.purge(lab.tools, image_id)
    assert lab.row(image_id).status == "deleting"


def test_restored_image_keeps_its_replica(lab):
    lab.set(delete_delay_seconds=100)
    image_id = lab.add()
    delete(lab, image_id)
    gone.purge(lab.tools, image_id)
    lab.images.images[image_id] = lab.vanished
    with later(110):
        gone.purge(lab.tools, image_id)
        Sweep(lab.tools).run_once()
    row = lab.row(image_id)
    assert (row.status, row.error, row.next_attempt_at) == ("active", None, None)


def test_restored_image_that_is_hidden_then_keeps_its_replica(lab):
    """With delayed delete, that an image was deleted once is no proof for ever."""
    lab.tools.conf.set_override("delayed_delete", True)
    witness = lab.add_witness()
    image_id = lab.add()
    delete(lab, image_id)
    hidden = lab.images.images.pop(witness)
    assert not gone.purge(lab.tools, image_id).is_gone
    lab.images.images[witness] = hidden
    lab.tools.guard.glance.forget_answers()
    assert gone.purge(lab.tools, image_id).is_gone


def test_glance_says_how_long_an_image_can_be_restored(lab):
    def seconds():
        return delete_delay(lab.tools.conf).total_seconds()

    lab.tools.conf.set_override("scrub_time", 50)
    assert seconds() == 0
    lab.tools.conf.set_override("delayed_delete", True)
    assert seconds() == 50
    lab.set(delete_delay_seconds=7)
    assert seconds() == 7


def test_planned_replica_of_a_deleted_image_is_closed(lab):
    image_id = lab.add_image()
    lab.survey.plan(image_id, [SITE], Priority.BACKFILL, 1)
    delete(lab, image_id)
    gone.purge(lab.tools, image_id)
    assert lab.row(image_id).status == "deleted"


def test_upload_of_the_image_is_left_to_its_job(lab):
    image_id = lab.add()
    lab.put_in_hand(image_id)
    delete(lab, image_id)
    purge = gone.purge(lab.tools, image_id)
    assert (purge.is_gone, purge.is_done) == (True, False)
    assert lab.row(image_id).status == "active"


def test_row_that_changes_meanwhile_is_to_be_looked_at_again(lab, monkeypatch):
    """As when the job saves that the location is there now, and ends."""
    image_id = lab.add()
    lab.survey.change(lab.row(image_id), ReplicaStatus.STORED)
    delete(lab, image_id)
    real = lab.tools.guard.decide

    def job_ends(*args):
        lab.survey.change(lab.row(image_id), ReplicaStatus.ACTIVE)
        return real(*args)

    monkeypatch.setattr(lab.tools.guard, "decide", job_ends)
    assert not gone.purge(lab.tools, image_id).is_done
    assert lab.row(image_id).status == "active"
    monkeypatch.setattr(lab.tools.guard, "decide", real)
    assert gone.purge(lab.tools, image_id).is_done
    assert lab.row(image_id).status == "deleting"


@pytest.mark.parametrize(("missing", "expected"), [(4, "deleting"), (5, "active"), (40, "active")])
def test_few_images_may_go_in_an_hour(lab, missing, expected):
    """A share of all images, which a lost role or another Glance would exceed at once."""
    lab.set(missing_image_delay_seconds=0)
    lab.add_witness()
    image_ids = [lab.add() for _ in range(45)]
    for image_id in image_ids[:missing]:
        vanish(lab, image_id)
    lab.set(missing_images_per_hour=4)
    Sweep(lab.tools).run_once()
    assert {lab.row(image_id).status for image_id in image_ids[:missing]} == {expected}
    assert {lab.row(image_id).status for image_id in image_ids[missing:]} == {"active"}
    assert (lab.records.breaker().tripped_at is not None) == (expected == "active")


def test_images_are_counted_over_time_and_not_over_passes(lab):
    lab.set(missing_image_delay_seconds=0, missing_images_per_hour=4)
    lab.add_witness()
    image_ids = [lab.add() for _ in range(12)]
    for three in (image_ids[:3], image_ids[3:6]):
        for image_id in three:
            vanish(lab, image_id)
        Sweep(lab.tools).run_once()
    statuses = [lab.row(image_id).status for image_id in image_ids[:6]]
    assert statuses.count("deleting") == 4
    assert lab.records.breaker().tripped_at is not None
    lab.records.release()
    Sweep(lab.tools).run_once()
    assert {lab.row(image_id).status for image_id in image_ids[:6]} == {"deleting"}


def test_deletes_that_were_seen_are_not_counted(lab):
    lab.set(missing_images_per_hour=0)
    image_ids = [lab.add() for _ in range(3)]
    for image_id in image_ids:
        delete(lab, image_id)
    Sweep(lab.tools).run_once()
    assert {lab.row(image_id).status for image_id in image_ids} == {"deleting"}
    assert lab.records.breaker().tripped_at is None


def test_image_that_glance_does_not_let_us_change_holds_up_no_other(lab):
    """As a deactivated image, whose locations cannot be removed."""
    stubborn = lab.add()
    lab.survey.change(lab.row(stubborn), ReplicaStatus.DELETING)
    other = lab.add_image()
    lab.images.errors["remove_locations"] = exceptions.GlanceRefused(stubborn, hint="409")
    Sweep(lab.tools).run_once()
    assert lab.row(other).status == "pending"
