# SPDX-License-Identifier: Apache-2.0
"""Uploads of API processes that died before they recorded Glance's answer."""

import os
import time

import pytest

from glance_repl_mw.spool.upload import UploadState
from glance_repl_mw.writer.recovery import Recovery
from tests.unit.writer.conftest import IMAGE

BODY = os.urandom(100_000)


@pytest.fixture
def recovery(lab, crew):
    """Looks after an upload whose process has died."""
    lab.receive(BODY, len(BODY))._file.close()
    job = lab.take_in_hand()
    return Recovery(crew, {job.upload.upload_id: job})


def until(lab, recovery, condition):
    def looked():
        recovery.tick(is_ending=False)
        if crew_has_settled(lab):
            lab.observe()
        return condition()

    lab.until(looked)


def crew_has_settled(lab):
    return any(upload.state is UploadState.ACCEPTED for upload in lab.crew.spool.uploads())


def test_upload_that_glance_has_is_accepted(lab, recovery, images):
    images.accept(BODY)
    until(lab, recovery, lambda: lab.job.done)
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


@pytest.mark.parametrize("is_deleted", [True, False], ids=["deleted", "without data"])
def test_upload_that_glance_does_not_have_ends(lab, recovery, images, records, is_deleted):
    if is_deleted:
        records.note_deleted(IMAGE)
    else:
        images.accept(BODY, status="queued")
    until(lab, recovery, lambda: lab.job.done)
    assert lab.spooled() == []


def test_upload_of_an_image_that_only_seems_to_be_gone_waits(lab, recovery, images, records):
    """As while the service user has lost its role."""
    until(lab, recovery, lambda: records.absence(IMAGE) is not None)
    end = time.monotonic() + 0.3
    until(lab, recovery, lambda: time.monotonic() > end)
    assert lab.spooled() == [".data", ".json"]
    assert not {"deleting", "deleted"} & set(lab.statuses().values())
    images.accept(BODY)
    until(lab, recovery, lambda: lab.job.done)
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


def test_glance_is_asked_after_a_pause_and_at_once_when_the_writer_ends(
    lab, recovery, conf, images, monkeypatch, caplog
):
    conf.set_override("retry_initial_seconds", 60, group="replication")
    conf.set_override("retry_max_seconds", 60, group="replication")
    asked, get = [], images.get

    def recorded(image_id):
        asked.append(image_id)
        return get(image_id)

    monkeypatch.setattr(images, "get", recorded)
    until(lab, recovery, lambda: "its broken upload waits" in caplog.text)
    end = time.monotonic() + 0.3
    until(lab, recovery, lambda: time.monotonic() > end)
    assert len(asked) == 2, "for the upload, and for the guard"
    recovery.tick(is_ending=True)
    lab.until(lambda: lab.job.done)
    assert lab.job.handed_back
    assert lab.spooled() == [".data", ".json"]
