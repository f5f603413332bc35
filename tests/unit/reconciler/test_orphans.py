# SPDX-License-Identifier: Apache-2.0
"""Which objects are orphans, and when they are deleted."""

import datetime
import uuid

import pytest
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import Priority, ReplicaStatus, Wish
from glance_repl_mw.reconciler import orphans
from glance_repl_mw.reconciler.orphans import Orphan, OrphanSweep, delete_orphan, find_orphans
from glance_repl_mw.spool.upload import Upload, UploadState
from tests.unit.reconciler.target_lab import SITE, Lab, at, url_of

S = ReplicaStatus

AN_IMAGE = "7f2f2b5e-0c7f-4f3b-9d4c-000000000001"
AN_UPLOAD = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def find(lab):
    return list(find_orphans(lab.tools, lab.target))


def put(lab, image_id=None, upload_id=None, number=1, suffix=""):
    """An object that is named as ours are; returns its name."""
    image_id, upload_id = image_id or str(uuid.uuid4()), upload_id or uuid.uuid4().hex
    name = f"{image_id}.{upload_id}.{number}{suffix}"
    lab.target.objects[name] = b"left over"
    return name


def image_of(name):
    return name.partition(".")[0]


def plan(lab, *steps, target=SITE, object_number=None):
    """An image with a row that got to a status by these steps; returns both."""
    image_id = lab.add_image()
    lab.survey.plan(image_id, [target], Priority.REPAIR, 5)
    row = lab.row(image_id)
    if object_number is not None:
        name = f"{image_id}.{row.upload_id}.{object_number}"
        lab.survey.change(row, object_name=name)
    for step in steps:
        lab.survey.change(lab.row(image_id), step)
    return image_id, lab.row(image_id)


def test_object_of_no_image(lab):
    name = put(lab)
    assert find(lab) == [Orphan(name, True, image_of(name))]


def test_unfinished_object_of_no_image(lab):
    name = put(lab, suffix=".partial")
    assert find(lab) == [Orphan(name, True, image_of(name))]


def test_listing_is_read_in_pages(lab, monkeypatch):
    given = []

    def endless():
        while True:
            given.append(f"foreign-{len(given)}")
            yield given[-1]

    monkeypatch.setattr(lab.target, "list", endless)
    found = find_orphans(lab.tools, lab.target)
    assert [next(found).name for _ in range(3)] == given[:3]
    assert len(given) <= 50
    found.close()


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        AN_IMAGE,
        f"{AN_IMAGE}.{AN_UPLOAD}",
        f"{AN_IMAGE}.{AN_UPLOAD}.x",
        f"{AN_IMAGE}.{AN_UPLOAD}.1.bak",
        f"{AN_UPLOAD}.{AN_UPLOAD}.1",
        f"{AN_IMAGE}.short.1",
    ],
)
def test_foreign_objects_are_told_apart(lab, name):
    lab.target.objects[name] = b"of someone else"
    assert find(lab) == [Orphan(name, ours=False)]


def test_active_replica_is_none(lab):
    lab.add()
    assert find(lab) == []


def test_older_attempt_of_an_active_replica_is_one(lab):
    image_id = lab.add()
    row = lab.row(image_id)
    name = put(lab, image_id, row.upload_id, 7)
    assert find(lab) == [Orphan(name, True, image_of(name))]


@pytest.mark.parametrize(
    "steps", [(S.ERROR,), (S.UPLOADING, S.STORED), (S.UPLOADING,), (S.DELETING,)]
)
def test_object_of_a_row_is_none_whatever_its_status(lab, steps):
    image_id, row = plan(lab, *steps, object_number=2)
    put(lab, image_id, row.upload_id, 2)
    assert find(lab) == []


@pytest.mark.parametrize("steps", [(), (S.UPLOADING,), (S.DELETING,)])
def test_all_attempts_count_while_an_upload_is_under_way_or_deleted(lab, steps):
    image_id, row = plan(lab, *steps, object_number=2)
    put(lab, image_id, row.upload_id, 1)
    put(lab, image_id, row.upload_id, 3, ".partial")
    assert find(lab) == []


def test_row_of_another_target_does_not_count(lab):
    image_id, row = plan(lab, target="site-b", object_number=1)
    name = put(lab, image_id, row.upload_id, 1)
    assert find(lab) == [Orphan(name, True, image_of(name))]


def test_closed_row_does_not_count(lab):
    image_id, row = plan(lab, S.ERROR, S.DELETED, object_number=1)
    name = put(lab, image_id, row.upload_id, 1)
    assert find(lab) == [Orphan(name, True, image_of(name))]


def test_upload_in_the_spool_counts_without_a_row(lab):
    name = put(lab)
    image_id, upload_id, _ = name.split(".")
    lab.tools.spool.write_sidecar(Upload(upload_id, image_id, 1, UploadState.RECEIVING, 0.0))
    assert find(lab) == []


@pytest.mark.parametrize("listed", [True, False])
def test_location_counts_without_a_row(lab, listed):
    image_id = lab.add_image()
    name = put(lab, image_id)
    lab.images.change(image_id, locations=("file:///primary", url_of(name)))
    if not listed:
        lab.images.unlisted.add(image_id)
    assert find(lab) == []


def test_location_at_another_target_does_not_count(lab):
    image_id = lab.add_image()
    name = put(lab, image_id)
    lab.images.change(image_id, locations=(f"http://site-b/{name}",))
    assert find(lab) == [Orphan(name, True, image_of(name))]


@pytest.mark.parametrize("call", ["find", "get"])
def test_nothing_is_an_orphan_where_glance_does_not_say(lab, call):
    put(lab)
    lab.images.errors[call] = exceptions.GlanceUnavailable(hint="503")
    with pytest.raises(exceptions.GlanceUnavailable):
        find(lab)


def test_glance_is_asked_only_about_images_without_a_row(lab):
    for _ in range(3):
        lab.add()
    find(lab)
    assert [each for each in lab.images.finds if each] == []


def test_many_pages(lab):
    for _ in range(60):
        lab.add()
    wanted = {put(lab) for _ in range(60)}
    assert {orphan.name for orphan in find(lab)} == wanted


def test_upload_that_begins_while_the_listing_runs(lab):
    """Its row is there before its object is listed."""
    image_id = lab.add_image()

    def listing():
        lab.survey.plan(image_id, [SITE], Priority.REPAIR, 5)
        yield put(lab, image_id, lab.row(image_id).upload_id)

    lab.target.list = listing
    assert find(lab) == []


def test_deleting_an_unfinished_one_removes_it_under_both_names(lab):
    image_id = lab.add_image()
    put(lab, image_id, suffix=".partial")
    (orphan,) = find(lab)
    assert delete_orphan(lab.tools, lab.target, orphan) == ""
    assert lab.target.objects == {}


def test_object_named_for_another_target_is_foreign(lab):
    """As where two targets are one server under two names."""
    name = f"{AN_IMAGE}.site-b.{AN_UPLOAD}.1"
    lab.target.objects[name] = b"the replica of the other target"
    assert find(lab) == [Orphan(name, ours=False)]


def test_marker_is_no_orphan(lab):
    lab.target.objects["glance-repl-marker"] = b"{}"
    assert find(lab) == []


def test_object_that_became_a_location_stays(lab):
    image_id = lab.add_image()
    name = put(lab, image_id)
    (orphan,) = find(lab)
    lab.images.change(image_id, locations=("file:///primary", url_of(name)))
    assert delete_orphan(lab.tools, lab.target, orphan, is_demanded=True)
    assert name in lab.target.objects


def test_last_readable_copy_stays(lab):
    image_id = lab.add_image()
    put(lab, image_id)
    (orphan,) = find(lab)
    lab.images.change(image_id, locations=())
    assert delete_orphan(lab.tools, lab.target, orphan, is_demanded=True)


def test_orphan_of_a_missing_image_goes_after_a_day_or_when_it_is_asked_for(lab):
    lab.add_witness()
    put(lab)
    put(lab)
    first, second = find(lab)
    assert "missing since" in delete_orphan(lab.tools, lab.target, first)
    assert delete_orphan(lab.tools, lab.target, second, is_demanded=True) == ""
    with at(timeutils.utcnow() + datetime.timedelta(days=2)):
        assert delete_orphan(lab.tools, lab.target, first) == ""


def test_orphan_of_a_missing_image_stays_without_the_proof_that_all_are_shown(lab):
    put(lab)
    (orphan,) = find(lab)
    assert "role" in delete_orphan(lab.tools, lab.target, orphan, is_demanded=True)


# The task


@pytest.fixture
def sweep(lab):
    """A sweep that is past its first rest."""
    task = OrphanSweep(lab.tools, SITE)
    assert task.run_once() == orphans._FIRST_LOOK_SECONDS
    return task


def test_what_is_found_twice_is_deleted(lab, sweep):
    lab.target.objects["index.html"] = b"foreign"
    put(lab, lab.add_image())
    lab.add()
    before = set(lab.target.objects)
    assert sweep.run_once() == 3600
    assert set(lab.target.objects) == before
    later = put(lab, lab.add_image())
    sweep.run_once()
    assert len(lab.target.objects) == 3
    assert {later, "index.html"} < set(lab.target.objects)


def test_what_was_an_orphan_only_once_stays(lab, sweep):
    image_id = lab.add_image()
    name = put(lab, image_id)
    sweep.run_once()
    lab.images.change(image_id, locations=(url_of(name),))
    sweep.run_once()
    lab.images.change(image_id, locations=("file:///primary",))
    sweep.run_once()
    assert name in lab.target.objects


def test_few_orphans_may_go_in_an_hour(lab, sweep):
    lab.set(missing_images_per_hour=3)
    for _ in range(5):
        put(lab, lab.add_image())
    for _ in range(3):
        sweep.run_once()
    assert len(lab.target.objects) == 2
    assert lab.records.breaker().tripped_at is not None
    lab.records.release()
    sweep.run_once()
    assert lab.target.objects == {}


def test_target_that_cannot_list_is_asked_again_later(lab, sweep):
    def listing():
        raise exceptions.TargetRefused(target=SITE, hint="needs PROPFIND")

    lab.target.list = listing
    assert sweep.run_once() == 3600


@pytest.mark.parametrize("wish", [Wish.REMOVE, None])
def test_target_that_is_removed_or_down_is_not_asked(lab, sweep, wish):
    def listing():
        raise AssertionError

    lab.target.list = listing
    if wish:
        lab.tools.wishes.ask(SITE, wish)
    else:
        for _ in range(3):
            lab.health.failed(OSError())
    assert sweep.run_once() == 3600


def test_interval_zero_means_never(lab):
    lab.set(orphan_interval_seconds=0)
    put(lab)
    task = OrphanSweep(lab.tools, SITE)
    for _ in range(4):
        assert task.run_once() > 0
    assert len(lab.target.objects) == 1
