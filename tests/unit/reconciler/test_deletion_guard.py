"""What the guard finds out of an image before one of its objects is deleted."""

import pytest

from glance_repl_mw.reconciler.deletion_guard import delete_objects
from glance_repl_mw.replicas.deletion import Cause
from tests.unit.reconciler.target_lab import PRIMARY, Lab

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
