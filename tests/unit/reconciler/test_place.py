# SPDX-License-Identifier: Apache-2.0
"""A target that is elsewhere, or whose disk is not mounted, is not taken for one that lost all."""

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.reconciler import assembly
from glance_repl_mw.reconciler.place import marked_fact
from glance_repl_mw.targets import guarded
from glance_repl_mw.targets.guarded import MARKER
from tests.unit.reconciler.target_lab import DEPLOYMENT, SITE, Lab, url_of

URL = f"http://write.{SITE}/"


class Place:
    """The lab's target, which writes to `url` and is read where its locations are."""

    def __init__(self, lab):
        self._lab = lab
        self.options = ()
        self.places = [URL, url_of("")]

    def __getattr__(self, name):
        return getattr(self._lab.target, name)

    def put(self, name, reader, size):
        self._lab.target.objects[name] = reader.read()

    def read(self, name, most_bytes, seconds):
        found = self._lab.target.objects.get(name)
        return None if found is None else found[:most_bytes]


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr(guarded, "_SETTLE_SECONDS", 0.0)
    # What was found is believed for no moment, so that the next use finds what has changed.
    monkeypatch.setattr(guarded, "_FAILED_SECONDS", 0.0)


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.place = Place(lab)
    yield lab
    lab.close()


def start(lab):
    """The target as a process that has just started sees it."""
    return assembly.guarded(lab.tools.conf, {SITE: lab.place}, lab.database)[SITE]


@pytest.fixture
def marked(lab, tmp_path):
    """The target has a replica and was used."""
    lab.set(spool_dir=str(tmp_path / "spool"))
    start(lab).list()
    lab.image_id = lab.add()
    return lab


@pytest.fixture
def unmarked(lab, tmp_path):
    """A release without markers has left replicas at the target."""
    lab.set(spool_dir=str(tmp_path / "spool"))
    lab.image_id = lab.add()
    return lab


def test_marking_is_remembered_with_its_place(marked):
    assert marked.records.fact(marked_fact(SITE)) == URL
    assert MARKER in marked.target.objects


def test_empty_collection_is_not_used_until_it_is_claimed(marked):
    """A disk is not mounted, or the name of the server leads to another one."""
    marked.target.objects.clear()
    for use in (start(marked), start(marked)):
        with pytest.raises(exceptions.TargetMisplaced, match=f"target claim {SITE}"):
            use.stat(marked.name(marked.image_id))
    assert marked.target.objects == {}
    start(marked).claim()
    assert start(marked).stat(marked.name(marked.image_id)) is None


def test_disk_that_is_mounted_again_is_used_again(marked):
    aside = dict(marked.target.objects)
    marked.target.objects.clear()
    target = start(marked)
    with pytest.raises(exceptions.TargetMisplaced):
        target.list()
    marked.target.objects.update(aside)
    assert target.stat(marked.name(marked.image_id))


def test_changed_url_is_refused_though_locations_stay(marked):
    marked.place.places[0] = "http://other/"
    with pytest.raises(exceptions.TargetMoved, match=rf"replicas were written to {URL}.*moved"):
        start(marked).list()
    # The operator says that the objects were moved along, or that the new place is right.
    start(marked).claim()
    start(marked).list()
    assert marked.records.fact(marked_fact(SITE)) == "http://other/"


def test_url_may_be_changed_while_nothing_is_there(lab, tmp_path):
    lab.set(spool_dir=str(tmp_path / "spool"))
    start(lab).list()
    lab.place.places[0] = "http://other/"
    lab.target.objects.clear()
    start(lab).list()
    assert lab.records.fact(marked_fact(SITE)) == "http://other/"


def test_first_marking_where_a_replica_is_there(unmarked):
    unmarked.add()
    del unmarked.target.objects[unmarked.name(unmarked.image_id)]
    start(unmarked).list()
    assert MARKER in unmarked.target.objects
    assert unmarked.records.fact(marked_fact(SITE)) == URL


def test_first_marking_is_refused_where_no_replica_is_there(unmarked):
    unmarked.target.objects.clear()
    with pytest.raises(exceptions.TargetMisplaced, match=r"none of the objects.*target claim"):
        start(unmarked).list()
    assert unmarked.target.objects == {}
    assert unmarked.records.fact(marked_fact(SITE)) is None


def test_marker_of_an_earlier_release_is_remembered(unmarked):
    marker = f'{{"target": "{SITE}", "deployment": "{DEPLOYMENT}"}}'
    unmarked.target.objects[MARKER] = marker.encode()
    start(unmarked).list()
    assert unmarked.records.fact(marked_fact(SITE)) == URL


def test_copy_of_the_deployment_with_an_id_of_its_own_leaves_the_target_alone(marked):
    marked.set(deployment_id="of the copy")
    before = dict(marked.target.objects)
    with pytest.raises(exceptions.TargetMisplaced, match=f"of deployment '{DEPLOYMENT}'"):
        start(marked).delete(marked.name(marked.image_id))
    assert marked.target.objects == before
