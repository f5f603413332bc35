# SPDX-License-Identifier: Apache-2.0
"""What the guard finds out of an image before one of its objects is deleted, and when that is."""

import datetime

import pytest
from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import opts
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.reconciler import deletion_guard
from glance_repl_mw.reconciler.deletion_guard import delete_delay, delete_objects
from glance_repl_mw.replicas.deletion import Cause
from tests.unit.reconciler.target_lab import PRIMARY, Lab, url_of

UNPROVEN = "no other copy of the image is proven to be readable: Glance cannot read it: HTTP 503"


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.guard = lab.tools.guard
    yield lab
    lab.close()


def delete(lab, image_id, names, cause=Cause.DEMANDED):
    return delete_objects(lab.guard, lab.guard.look(image_id), lab.target, names, cause)


@pytest.mark.parametrize("cause", [Cause.DEMANDED, Cause.SUPERSEDED, Cause.ORPHAN])
def test_object_goes_only_when_another_copy_was_read(lab, cause):
    image_id = lab.add_image()
    lab.target.objects["an object"] = b"bytes"
    lab.images.dead = {PRIMARY}
    assert delete(lab, image_id, ["an object"], cause) == {"an object": UNPROVEN}
    assert lab.target.deleted == []
    lab.images.dead = set()
    assert delete(lab, image_id, ["an object"], cause) == {}
    assert lab.target.deleted == ["an object"]


def test_newer_replica_is_the_proof_for_what_earlier_attempts_left(lab):
    image_id = lab.add()
    assert delete(lab, image_id, ["former"], Cause.SUPERSEDED) == {}
    assert lab.target.asked == [lab.name(image_id)]
    assert lab.images.downloads == []


def test_nobody_is_asked_for_what_a_location_names(lab):
    image_id = lab.add()
    kept = delete(lab, image_id, [lab.name(image_id)])
    assert list(kept.values()) == ["a location of the image names it"]
    assert lab.target.asked == []
    assert lab.images.downloads == []


def test_image_that_is_shown_again_is_missed_no_more(lab):
    image_id = lab.add()
    lab.records.note_missing(image_id)
    lab.guard.look(image_id)
    assert lab.records.absence(image_id) is None


@pytest.mark.parametrize("was_missing", [True, False])
def test_delete_that_is_seen_while_glance_answers_is_not_forgotten(lab, was_missing, monkeypatch):
    image_id = lab.add()
    get = lab.images.get

    def get_and_be_deleted(asked):
        record = get(asked)
        lab.guard.image_was_deleted(asked)
        return record

    if was_missing:
        lab.records.note_missing(image_id)
    with monkeypatch.context() as patched:
        patched.setattr(lab.images, "get", get_and_be_deleted)
        lab.guard.look(image_id)
    assert lab.records.absence(image_id).was_deleted


@pytest.mark.parametrize("is_late", [True, False])
def test_what_was_seen_long_ago_is_looked_at_again(lab, monkeypatch, is_late):
    """A PATCH that lands while the delete waits for pushes to its target names the object."""
    image_id = lab.add_image()
    clock = [1000.0]
    monkeypatch.setattr(deletion_guard.time, "monotonic", lambda: clock[0])
    seen = lab.guard.look(image_id)
    lab.images.change(image_id, locations=(PRIMARY, url_of("an object")))
    clock[0] += deletion_guard._FRESH_SECONDS * (1 if is_late else 0.5)
    kept = delete_objects(lab.guard, seen, lab.target, ["an object"], Cause.SUPERSEDED)
    assert kept == ({"an object": "a location of the image names it"} if is_late else {})


def test_demand_still_counts_at_the_second_look(lab, monkeypatch):
    """An operator does not wait for the delay after which a missing image is taken for gone."""
    lab.add_witness()
    lab.guard.glance.forget_answers()
    seen = lab.guard.look("no image", is_demanded=True)
    assert seen.is_gone
    monkeypatch.setattr(deletion_guard, "_FRESH_SECONDS", 0.0)
    assert delete_objects(lab.guard, seen, lab.target, ["an object"], Cause.DEMANDED) == {}


@pytest.mark.parametrize("status", [ReplicaStatus.STORED, ReplicaStatus.ACTIVE])
def test_object_of_a_replica_that_is_no_location_now_stays(lab, status):
    """Its target was down, and it was withdrawn."""
    image_id = lab.add()
    row = lab.survey.change(lab.row(image_id), status)
    lab.images.change(image_id, locations=(PRIMARY,))
    kept = delete(lab, image_id, [row.object_name], Cause.SUPERSEDED)
    assert kept == {row.object_name: "another replica of the image has it"}
    lab.survey.change(row, ReplicaStatus.DELETING)
    assert delete(lab, image_id, [row.object_name]) == {}


def test_a_scrub_time_of_glance_that_no_date_reaches_is_one_that_never_ends(tmp_path):
    (tmp_path / "conf").write_text("[DEFAULT]\ndelayed_delete = True\nscrub_time = 99999999999\n")
    conf = cfg.ConfigOpts()
    conf.register_opts(opts.GLANCE_OPTIONS)
    opts.register_opts(conf)
    conf(["--config-file", str(tmp_path / "conf")], default_config_dirs=[])
    assert delete_delay(conf) > datetime.timedelta(days=3000)
    assert timeutils.utcnow() + delete_delay(conf)
