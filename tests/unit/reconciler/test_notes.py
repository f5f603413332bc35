# SPDX-License-Identifier: Apache-2.0
"""Notes are looked at when they come, not when it is time again."""

import dataclasses
import queue
import threading
import types

import oslo_db.exception
import pytest

from glance_repl_mw.reconciler import notes, tasks
from glance_repl_mw.spool.upload import Upload, UploadState
from tests.unit.reconciler.target_lab import BODY, Lab, at, days

WAIT_SECONDS = 60


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


class WatchedNotes(notes.Notes):
    """`is_idle` is set before it rests for as long as it ever does."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.is_idle = threading.Event()

    def rest(self, seconds):
        if seconds == notes._IDLE_SECONDS:
            self.is_idle.set()
        super().rest(seconds)


def test_note_wakes_who_rests(lab, monkeypatch):
    monkeypatch.setattr(notes, "_IDLE_SECONDS", 1_000_000.0)
    looked_at = queue.Queue()
    task = WatchedNotes(lab.tools, looked_at.put, lambda image_id: None)
    lab.tools.spool.bell.listen(task.wake)
    tasks.start(task)
    for _ in range(2):
        assert task.is_idle.wait(WAIT_SECONDS)
        task.is_idle.clear()
        image_id = lab.add()
        del lab.images.images[image_id]
        lab.tools.spool.note(image_id)
        assert looked_at.get(timeout=WAIT_SECONDS) == image_id
    lab.tools.stopping.set()
    task.wake()


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the task, moved by hand."""
    clock = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(notes.time, "monotonic", lambda: clock.seconds)
    return clock


def test_deleted_image_is_looked_at_until_its_job_has_ended(lab, clock):
    gone = []
    task = notes.Notes(lab.tools, lambda image_id: None, gone.append)
    image_id = lab.add()
    lab.put_in_hand(image_id)
    del lab.images.images[image_id]
    lab.tools.spool.note(image_id, was_deleted=True)
    task.run_once()
    assert gone == [image_id]
    assert lab.row(image_id).status == "active"
    lab.tools.spool.sidecar_path(lab.row(image_id).upload_id).unlink()
    clock.seconds += notes._LONGEST_PAUSE_SECONDS
    task.run_once()
    assert lab.row(image_id).status == "deleting"
    assert not task._noted


def test_what_was_staged_goes_with_an_image_that_is_shown_but_not_listed(lab, clock):
    """So Glance leaves one whose DELETE it has broken off; nobody else looks after the bytes."""
    image_id = lab.add()
    lab.images.unlisted.add(image_id)
    spool = lab.tools.spool
    spool.write_sidecar(Upload("0" * 32, image_id, 5, UploadState.STAGED, 0.0))
    spool.data_path("0" * 32).write_bytes(b"bytes")
    notes.Notes(lab.tools, lambda image_id: None, lambda image_id: None).run_once()
    assert spool.get("0" * 32) is None
    assert not spool.data_path("0" * 32).exists()
    assert lab.row(image_id).status == "active"


def test_change_of_an_image_that_cannot_be_seen_is_no_delete(lab, clock):
    """The service user has lost its role, and the owner renames the image."""
    gone = []
    task = notes.Notes(lab.tools, lambda image_id: None, gone.append)
    image_id = lab.add()
    del lab.images.images[image_id]
    lab.tools.spool.note(image_id)
    task.run_once()
    assert not gone
    assert lab.row(image_id).status == "active"


def test_word_of_a_delete_stays_until_the_database_has_it(lab, clock, monkeypatch):
    task = notes.Notes(lab.tools, lambda image_id: None, lambda image_id: None)
    image_id = lab.add()
    del lab.images.images[image_id]
    lab.tools.spool.note(image_id, was_deleted=True)

    def refuse(image_id):
        raise oslo_db.exception.DBConnectionError()

    with monkeypatch.context() as patched:
        patched.setattr(lab.records, "note_deleted", refuse)
        with pytest.raises(oslo_db.exception.DBConnectionError):
            task.run_once()
    assert lab.tools.spool.deleted_images() == [image_id]
    clock.seconds += 1
    task.run_once()
    assert lab.row(image_id).status == "deleting"
    assert lab.tools.spool.deleted_images() == []


def test_notes_that_cannot_be_taken_now_are_taken_later(lab, clock, monkeypatch):
    looked_at = []
    task = notes.Notes(lab.tools, looked_at.append, lambda image_id: None)
    image_id = lab.add()
    lab.tools.spool.note(image_id)
    with monkeypatch.context() as patch:
        patch.setattr(lab.tools.spool, "take_notes", fail)
        with pytest.raises(OSError, match="too many"):
            task.run_once()
    clock.seconds += 5
    task.run_once()
    assert looked_at == [image_id]


def fail():
    raise OSError("too many open files")


def test_word_of_a_delete_counts_for_an_upload_that_waits_at_another_node(lab, clock):
    """The image has no row yet, and this node's spool has nothing of it."""
    task = notes.Notes(lab.tools, lambda image_id: None, lambda image_id: None)
    image_id = lab.add_image()
    del lab.images.images[image_id]
    lab.tools.spool.note(image_id, was_deleted=True)
    task.run_once()
    assert lab.tools.guard.look(image_id).is_gone
    with at(days(-1)):
        lab.records.forget_old_absences()
    assert lab.records.absence(image_id) is None


def test_image_on_its_way_lets_the_task_rest_until_its_next_look(lab, clock):
    task = notes.Notes(lab.tools, lambda image_id: None, lambda image_id: None)
    image_id = lab.add()
    lab.images.images[image_id] = dataclasses.replace(
        lab.images.images[image_id], status="importing"
    )
    lab.tools.spool.note(image_id)
    pauses = []
    for _ in range(12):
        clock.seconds += (pauses or [0])[-1]
        pauses.append(task.run_once())
    assert pauses[0] == notes._INTERVAL_SECONDS
    assert max(pauses) == notes._IDLE_SECONDS


def test_task_rests_until_the_first_replica_is_to_go(lab, clock):
    lab.set(delete_delay_seconds=5)
    task = notes.Notes(lab.tools, lambda image_id: None, lambda image_id: None)
    image_id = lab.add()
    del lab.images.images[image_id]
    lab.tools.spool.note(image_id, was_deleted=True)
    pause = 0.0
    for _ in range(3):
        pause = task.run_once()
        clock.seconds += 1
    assert 2 < pause <= 5


# Ids that differ in capitals


UPPER = "6F1F5A5E-1C0D-4D7E-9D0B-0C5F4D1F0A11"
LOWER = UPPER.lower()


@pytest.fixture
def task(lab, clock):
    return notes.Notes(lab.tools, lambda image_id: None, lambda image_id: None)


@pytest.mark.parametrize(("own", "asked"), [(UPPER, LOWER), (LOWER, UPPER)])
def test_delete_under_other_capitals_is_that_of_the_image(lab, task, own, asked):
    lab.add_image()
    lab.images.overlooks_capitals = True
    lab.add(image_id=own)
    del lab.images.images[own]
    lab.tools.spool.note(asked, was_deleted=True)
    task.run_once()
    assert lab.row(own).status == "deleting"
    assert lab.tools.spool.deleted_images() == []


def test_image_whose_id_differs_in_capitals_is_another_one(lab, task):
    """As for PostgreSQL; that the service user does not see it at the moment proves nothing."""
    lab.add_image()
    lab.add(image_id=UPPER)
    del lab.images.images[UPPER]
    lab.tools.spool.note(LOWER, was_deleted=True)
    task.run_once()
    assert lab.row(UPPER).status == "active"
    assert not (lab.records.absence(UPPER) and lab.records.absence(UPPER).was_deleted)


def test_without_any_image_capitals_are_not_taken_for_overlooked(lab, task):
    lab.add(image_id=UPPER)
    lab.images.images.clear()
    lab.images.overlooks_capitals = True
    lab.tools.spool.note(LOWER, was_deleted=True)
    task.run_once()
    assert lab.row(UPPER).status == "active"


def test_usual_delete_costs_no_question_about_capitals(lab, task):
    image_id = lab.add()
    del lab.images.images[image_id]
    lab.images.errors["page"] = AssertionError
    lab.tools.spool.note(image_id, was_deleted=True)
    task.run_once()
    assert lab.row(image_id).status == "deleting"


@pytest.mark.parametrize("status", ["queued", "active"])
def test_change_under_other_capitals_is_that_of_the_image(lab, task, status):
    lab.images.overlooks_capitals = True
    lab.add(image_id=UPPER, status=status)
    for image_id in (LOWER, UPPER):
        lab.tools.spool.note(image_id)
    for _ in range(2):
        task.run_once()
        assert set(task._noted) == ({UPPER} if status == "queued" else set())
    (row,) = lab.survey.of_images([UPPER, LOWER]).pop(UPPER)
    assert (row.status, row.location_url) == ("active", lab.image(UPPER).locations[-1])


def test_what_was_staged_under_other_capitals_is_settled(lab, task):
    lab.images.overlooks_capitals = True
    lab.add(image_id=UPPER)
    spool = lab.tools.spool
    for upload_id, body in (("0" * 32, BODY), ("1" * 32, b"others")):
        spool.write_sidecar(Upload(upload_id, LOWER, len(body), UploadState.STAGED, 0.0))
        spool.data_path(upload_id).write_bytes(body)
    spool.note(LOWER)
    task.run_once()
    assert spool.get("0" * 32).state is UploadState.ACCEPTED
    assert spool.get("1" * 32) is None
