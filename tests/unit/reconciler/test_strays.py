# SPDX-License-Identifier: Apache-2.0
"""Locations of ours that no row knows."""

import uuid

import pytest

from glance_repl_mw.model import Priority, ReplicaStatus, Wish
from glance_repl_mw.reconciler import strays
from glance_repl_mw.reconciler.strays import Strays
from glance_repl_mw.spool.upload import Upload, UploadState
from tests.unit.reconciler.target_lab import BODY, PRIMARY, SITE, Lab, url_of


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(strays, "_SECOND_LOOK_SECONDS", 0.0)
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def add_stray(lab, image_id, name=None, place=None):
    """A second location at the target, that no row knows; returns its URL."""
    url = url_of(name or f"{image_id}.{uuid.uuid4().hex}.1")
    locations = list(lab.image(image_id).locations)
    locations.insert(len(locations) if place is None else place, url)
    lab.images.change(image_id, locations=tuple(locations))
    return url


def look(lab, image_id, looker):
    """Compare the image with its rows; returns whether another look is needed soon."""
    rows = lab.survey.of_images([image_id]).get(image_id, [])
    return looker.remove(lab.image(image_id), rows, lab.tools.wishes.all())


def look_often(lab, image_id):
    looker = Strays(lab.tools)
    for _ in range(3):
        look(lab, image_id, looker)


def assert_stays(lab, image_id):
    before = lab.image(image_id).locations
    look_often(lab, image_id)
    assert lab.image(image_id).locations == before


@pytest.mark.parametrize("place", [0, 1, 2])
def test_stray_goes_and_the_replica_stays(lab, place):
    image_id = lab.add()
    replica = lab.row(image_id)
    add_stray(lab, image_id, place=place)
    look_often(lab, image_id)
    assert lab.image(image_id).locations == (PRIMARY, replica.location_url)
    assert lab.row(image_id) == replica


def test_stray_goes_only_when_it_was_seen_twice(lab, monkeypatch):
    monkeypatch.setattr(strays, "_SECOND_LOOK_SECONDS", 60.0)
    image_id, looker = lab.add(), Strays(lab.tools)
    url = add_stray(lab, image_id)
    assert look(lab, image_id, looker)
    assert look(lab, image_id, looker)
    assert url in lab.image(image_id).locations
    monkeypatch.setattr(strays, "_SECOND_LOOK_SECONDS", 0.0)
    later = add_stray(lab, image_id)
    assert not look(lab, image_id, looker)
    assert url not in lab.image(image_id).locations
    assert later in lab.image(image_id).locations


def test_stray_that_has_got_a_row_meanwhile_stays(lab):
    image_id, looker = lab.add(), Strays(lab.tools)
    url = add_stray(lab, image_id)
    seen, rows = lab.image(image_id), lab.survey.of_images([image_id])[image_id]
    looker.remove(seen, rows, ())
    upload_id = uuid.uuid4().hex
    lab.survey.adopt(image_id, SITE, upload_id, "an object", location_url=url)
    looker.remove(seen, rows, ())
    assert url in lab.image(image_id).locations


@pytest.mark.parametrize("name", ["of-somebody-else", "{0}.short.1", "{1}.{2}.1", "{0}.{2}.x"])
def test_location_that_is_not_named_as_ours_stays(lab, name):
    image_id = lab.add()
    add_stray(lab, image_id, name.format(image_id, uuid.uuid4(), uuid.uuid4().hex))
    assert_stays(lab, image_id)


def test_nothing_goes_where_the_replica_is_no_location(lab):
    image_id = lab.add()
    add_stray(lab, image_id)
    replica = lab.row(image_id).location_url
    left = tuple(url for url in lab.image(image_id).locations if url != replica)
    lab.images.change(image_id, locations=left)
    assert_stays(lab, image_id)


@pytest.mark.parametrize("status", [ReplicaStatus.STORED, ReplicaStatus.ERROR])
def test_nothing_goes_where_the_replica_is_not_active(lab, status):
    image_id = lab.add()
    lab.survey.change(lab.row(image_id), status)
    add_stray(lab, image_id)
    assert_stays(lab, image_id)


@pytest.mark.parametrize(
    "change", [{"status": "deactivated"}, {"interval": 0}], ids=["deactivated", "no search"]
)
def test_nothing_goes_where_it_may_not(lab, change):
    image_id = lab.add()
    add_stray(lab, image_id)
    if "interval" in change:
        lab.set(orphan_interval_seconds=change["interval"])
    else:
        lab.images.change(image_id, **change)
    assert_stays(lab, image_id)


def test_upload_in_the_spool_whose_row_is_not_there_is_no_stray(lab):
    image_id, upload_id = lab.add(), uuid.uuid4().hex
    add_stray(lab, image_id, f"{image_id}.{upload_id}.2")
    lab.tools.spool.write_sidecar(Upload(upload_id, image_id, 1, UploadState.ACCEPTED, 0.0))
    assert_stays(lab, image_id)
    lab.tools.spool.remove(upload_id)
    look_often(lab, image_id)
    assert len(lab.image(image_id).locations) == 2


def test_nothing_goes_while_another_node_is_at_work(lab):
    """What it has at the target by now, its row may not say yet."""
    image_id = lab.add()
    add_stray(lab, image_id)
    lab.survey.plan(image_id, [SITE], Priority.REPAIR, len(BODY))
    waiting = lab.survey.of_images([image_id])[image_id][-1]
    assert_stays(lab, image_id)
    lab.survey.change(waiting, ReplicaStatus.UPLOADING, node="another")
    assert_stays(lab, image_id)


def test_nothing_goes_while_the_spool_has_the_upload_of_the_replica(lab):
    image_id = lab.add()
    add_stray(lab, image_id)
    lab.put_in_hand(image_id)
    assert_stays(lab, image_id)


def test_location_of_a_replica_at_another_target_stays(lab):
    image_id = lab.add()
    url = add_stray(lab, image_id)
    lab.survey.adopt(image_id, "site-b", uuid.uuid4().hex, "an object", location_url=url)
    assert_stays(lab, image_id)


@pytest.mark.parametrize("wish", list(Wish))
def test_target_that_leaves_keeps_no_stray(lab, wish):
    image_id = lab.add_image()
    add_stray(lab, image_id)
    assert_stays(lab, image_id)
    lab.tools.wishes.ask(SITE, wish)
    look_often(lab, image_id)
    assert lab.image(image_id).locations == (PRIMARY,)


def test_last_location_stays(lab):
    image_id = lab.add_image(locations=())
    url = add_stray(lab, image_id)
    lab.tools.wishes.ask(SITE, Wish.DRAIN)
    look_often(lab, image_id)
    assert lab.image(image_id).locations == (url,)
