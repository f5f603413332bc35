# SPDX-License-Identifier: Apache-2.0
"""Staged bytes that nobody looks after, as the comparison of all images finds them."""

import datetime
import fcntl

import pytest
from oslo_utils import timeutils

from glance_repl_mw.reconciler import notes, sweep
from glance_repl_mw.spool.upload import Origin, Upload, UploadState
from tests.unit.reconciler.target_lab import BODY, Lab, days

UPLOAD = "0" * 32
ANOTHER = "7f2f2b5e-0c7f-4f3b-9d4c-000000000001"


class StagingLab(Lab):
    def __init__(self, directory, monkeypatch):
        super().__init__(directory)
        self.set(automatic_backfill=False)
        monkeypatch.setattr(sweep, "pages", lambda images: iter([list(images.images.values())]))
        self.sweep = sweep.Sweep(self.tools)

    def stage(self, image_id, state=UploadState.STAGED, body=BODY):
        upload = Upload(UPLOAD, image_id, len(body), state, 0.0, origin=Origin.STAGE)
        self.tools.spool.data_path(UPLOAD).write_bytes(body)
        self.tools.spool.write_sidecar(upload)

    def compare(self):
        """Let the comparison run once; returns the images that it notes."""
        self.sweep.run_once()
        return [path.stem for path in self.tools.spool.directory.glob("*.note")]

    def state(self):
        upload = self.tools.spool.get(UPLOAD)
        return upload and upload.state


@pytest.fixture
def lab(tmp_path, monkeypatch):
    lab = StagingLab(tmp_path, monkeypatch)
    yield lab
    lab.close()


@pytest.mark.parametrize("state", [UploadState.STAGED, UploadState.STAGING])
@pytest.mark.parametrize("body", [BODY, BODY[::-1]], ids=["these bytes", "others"])
def test_image_that_another_node_has_imported_is_settled(lab, state, body):
    image_id = lab.add_image(updated_at=days(1))
    looking = notes.Notes(lab.tools, lambda image_id: None, lambda image_id: None)
    lab.stage(image_id, state, body)
    assert lab.compare() == [image_id]
    looking.run_once()
    assert lab.state() == (UploadState.ACCEPTED if body == BODY else None)


def test_so_is_one_that_another_node_looks_after(lab):
    lab.tools.nodes.looks_after = lambda image_id: False
    image_id = lab.add_image(updated_at=days(1))
    lab.stage(image_id)
    assert lab.compare() == [image_id]


def test_what_was_staged_under_other_capitals_is_that_of_the_image(lab):
    image_id = lab.add_image(image_id=ANOTHER, status="queued", size=None)
    lab.stage(image_id.upper())
    assert lab.compare() == []
    lab.images.change(image_id, status="active", size=len(BODY), updated_at=days(1))
    assert lab.compare() == [image_id.upper()]


def test_import_that_has_just_ended_is_left_to_who_looks_at_it(lab):
    lab.stage(lab.add_image(updated_at=timeutils.utcnow() - datetime.timedelta(seconds=30)))
    assert lab.compare() == []


def test_image_that_is_not_listed_any_more_keeps_no_staged_bytes(lab):
    looking = notes.Notes(lab.tools, lambda image_id: None, lambda image_id: None)
    lab.stage(ANOTHER)
    assert lab.compare() == [ANOTHER]
    looking.run_once()
    assert lab.state() is None


def test_image_that_waits_for_its_import_keeps_its_staged_bytes(lab):
    lab.stage(lab.add_image(status="uploading", size=None))
    assert lab.compare() == []
    assert lab.state() is UploadState.STAGED


@pytest.mark.parametrize("is_alive", [True, False], ids=["alive", "dead"])
def test_what_a_dead_process_had_staged_goes(lab, is_alive):
    lab.stage(lab.add_image(status="queued", size=None), UploadState.STAGING)
    with lab.tools.spool.data_path(UPLOAD).open("rb") as file:
        if is_alive:
            fcntl.flock(file, fcntl.LOCK_EX)
        assert lab.compare() == []
    assert lab.state() == (UploadState.STAGING if is_alive else None)


def test_nothing_is_asked_of_glance(lab, monkeypatch):
    lab.stage(lab.add_image(updated_at=days(1)))
    monkeypatch.setattr(lab.images, "get", lambda image_id: pytest.fail("asked"))
    lab.compare()
    assert lab.images.finds == []
