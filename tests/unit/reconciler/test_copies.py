# SPDX-License-Identifier: Apache-2.0
"""Whether an image can be read without one of its objects."""

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.reconciler.copies import ReadableCopies
from glance_repl_mw.reconciler.verification import finding
from tests.unit.reconciler.target_lab import PRIMARY, SITE, Lab, url_of

HERE = ("elsewhere", "the object that is to go")
OTHER = "http://elsewhere/the object that is to go"


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    targets, health = lab.tools.targets, lab.tools.health
    lab.copies = ReadableCopies(lab.images, targets, health, lab.records.is_bad)
    yield lab
    lab.close()


def doubt(lab, image_id):
    return lab.copies.doubt(lab.image(image_id), *HERE)


@pytest.mark.parametrize("is_proven_up", [True, False])
def test_replica_that_is_there_and_readable_is_a_proof_and_glance_is_not_asked(lab, is_proven_up):
    """Also by a writer that has just begun, and so has not seen yet that the target is up."""
    image_id = lab.add()
    if is_proven_up:
        lab.health.succeeded()
    assert doubt(lab, image_id) == ""
    assert lab.target.asked == [lab.name(image_id)]
    assert lab.target.probed == ([] if is_proven_up else [lab.name(image_id)])
    assert lab.images.downloads == []


def lose(lab, name):
    del lab.target.objects[name]


def truncate(lab, name):
    lab.target.objects[name] = b"short"


def hide(lab, name):
    lab.target.unreadable.add(name)


def fail(lab, name):
    lab.target.errors[name] = exceptions.TargetUnavailable(target=SITE, hint="HTTP 500")


def take_down(lab, name):
    for _ in range(3):
        lab.health.failed(OSError("down"))


def find_bad(lab, name):
    """Its location stays, as where Glance has no other one."""
    row = lab.row(name.split(".")[0])
    lab.survey.change(row, **finding(row, exceptions.TargetCorrupt(target=SITE, hint="the md5")))


@pytest.mark.parametrize("spoil", [lose, truncate, hide, fail, take_down, find_bad])
def test_replica_that_cannot_be_read_is_none(lab, spoil):
    image_id = lab.add()
    lab.images.change(image_id, locations=(lab.row(image_id).location_url,))
    spoil(lab, lab.name(image_id))
    assert doubt(lab, image_id)
    assert lab.images.downloads == []


@pytest.mark.parametrize("dead", [set(), {PRIMARY}])
def test_glance_is_asked_where_only_locations_are_left_that_are_not_ours(lab, dead):
    image_id = lab.add_image()
    lab.images.dead = dead
    assert doubt(lab, image_id) == ("Glance cannot read it: HTTP 503" if dead else "")
    assert lab.images.downloads == [(image_id, (PRIMARY,))]


@pytest.mark.parametrize("spoil", [truncate, find_bad])
def test_wrong_bytes_that_glance_would_read_are_no_proof(lab, spoil):
    """The primary store is dead, so that Glance goes on to the next location."""
    image_id = lab.add()
    lab.images.dead = {PRIMARY}
    spoil(lab, lab.name(image_id))
    assert doubt(lab, image_id)
    lab.images.change(image_id, locations=(OTHER, *lab.image(image_id).locations))
    assert removal(lab, image_id)
    assert OTHER in lab.image(image_id).locations
    assert lab.images.downloads == []


@pytest.mark.parametrize("change", [{"status": "queued"}, {"size": 0}])
def test_what_has_no_data_cannot_be_lost(lab, change):
    image_id = lab.add_image(**change)
    assert doubt(lab, image_id) == ""
    assert lab.images.downloads == []


# The removal of a location


def removal(lab, image_id, **values):
    return lab.copies.remove_location(image_id, OTHER, **values)


def test_location_goes_first_so_that_glance_reads_another_one(lab):
    image_id = lab.add_image(locations=(OTHER, PRIMARY))
    assert removal(lab, image_id) == ""
    assert lab.image(image_id).locations == (PRIMARY,)
    assert lab.images.downloads == [(image_id, (PRIMARY,))]


def test_location_goes_without_a_read_where_a_replica_is_proven(lab):
    image_id = lab.add(locations=(OTHER,))
    assert removal(lab, image_id) == ""
    assert lab.image(image_id).locations == (url_of(lab.name(image_id)),)
    assert lab.images.downloads == []


def test_location_stays_in_place_where_only_doubtful_replicas_are_left(lab):
    image_id = lab.add(locations=(OTHER,))
    lose(lab, lab.name(image_id))
    before = lab.image(image_id).locations
    assert "has not its object" in removal(lab, image_id)
    assert lab.image(image_id).locations == before


@pytest.mark.parametrize("there", [(OTHER, PRIMARY), (PRIMARY,)], ids=["there", "gone already"])
@pytest.mark.parametrize("may_return", [True, False])
def test_location_comes_back_where_nothing_can_be_read_without_it(lab, there, may_return):
    image_id = lab.add_image(locations=there)
    lab.images.dead = {PRIMARY}
    assert "HTTP 503" in removal(lab, image_id, may_return=may_return)
    comes_back = may_return or OTHER in there
    assert lab.image(image_id).locations == ((PRIMARY, OTHER) if comes_back else (PRIMARY,))


def test_location_that_glance_does_not_take_back_is_told_of(lab):
    image_id = lab.add_image(locations=(OTHER, PRIMARY))
    lab.images.dead = {PRIMARY}
    lab.images.errors["add_locations"] = exceptions.GlanceRefused(hint="HTTP 400")
    assert "does not come back yet: HTTP 400" in removal(lab, image_id)


def test_the_only_location_and_hidden_ones_stay(lab):
    image_id = lab.add_image(locations=(OTHER,))
    assert removal(lab, image_id) == "it is the only location of the image"
    lab.images.change(image_id, locations=())
    assert removal(lab, image_id) == "Glance does not show the locations of the image"
