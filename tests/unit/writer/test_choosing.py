# SPDX-License-Identifier: Apache-2.0
"""Uploads whose targets depend on the image that Glance knows."""

import dataclasses
import time

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.upload import Origin, UploadState
from glance_repl_mw.writer.choosing import Choosing
from tests.unit.writer.conftest import IMAGE, WAIT_SECONDS

BODY = bytes(1000)


@pytest.fixture
def appender(spool):
    appender = Appender(spool, IMAGE, None)
    yield appender
    appender._file.close()


@pytest.fixture
def upload(appender, spool):
    (upload,) = spool.uploads()
    return upload


@pytest.fixture
def rule(conf):
    """Set the rule of site-b."""

    def rule(text, **options):
        for name, value in {"replicate_if": text, **options}.items():
            conf.set_override(name, value, group="replication:site-b")

    return rule


def decided(crew, choosing, upload, leaving=()):
    """Let the choosing ask until it knows."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (targets := choosing.targets_of(upload, leaving)) is None:
        assert time.monotonic() < deadline
        while not crew.events.empty():
            crew.events.get()()
        time.sleep(0.002)
    return targets


def served(crew, choosing, upload):
    """Let Glance answer once; returns what is decided then."""
    choosing.targets_of(upload, ())
    crew.events.get(timeout=WAIT_SECONDS)()
    return choosing.targets_of(upload, ())


@pytest.fixture
def asked(images, monkeypatch):
    """The images that Glance was asked for."""
    asked, get = [], images.get

    def recorded(image_id):
        asked.append(image_id)
        return get(image_id)

    monkeypatch.setattr(images, "get", recorded)
    return asked


def test_without_rules_glance_is_not_asked(crew, rule, upload, asked):
    rule("", mode="lazy")
    assert Choosing(crew).targets_of(upload, ()) == ["site-a"]
    assert asked == []


def test_what_was_fetched_goes_where_it_was_fetched_for(crew, rule, upload, asked):
    rule("tag:golden", mode="lazy")
    places = ("site-b", "gone")
    fetched = dataclasses.replace(upload, targets=places, origin=Origin.REPLICA)
    assert Choosing(crew).targets_of(fetched, ()) == ["site-b"]
    assert Choosing(crew).targets_of(fetched, ["site-b"]) == []
    assert asked == []


@pytest.mark.parametrize(("tags", "chosen"), [({"golden"}, ["site-b"]), ((), [])])
def test_download_fills_its_target_only_where_the_rule_holds(
    crew, rule, upload, images, tags, chosen
):
    rule("tag:golden", mode="lazy")
    images.accept(BODY, tags=frozenset(tags))
    download = dataclasses.replace(upload, targets=("site-b",), origin=Origin.DOWNLOAD)
    assert decided(crew, Choosing(crew), download) == chosen


@pytest.mark.parametrize(
    ("tags", "chosen"), [({"golden"}, ["site-a", "site-b"]), ((), ["site-a"])]
)
def test_glance_is_asked_once(crew, rule, upload, images, asked, tags, chosen):
    rule("tag:golden")
    images.accept(BODY, status="saving", size=None, tags=frozenset(tags))
    choosing = Choosing(crew)
    assert not choosing.take_news()
    assert decided(crew, choosing, upload) == chosen
    assert choosing.take_news()
    assert decided(crew, choosing, upload, leaving=["site-a"]) == chosen[1:]
    assert asked == [IMAGE]


def test_unknown_size_is_waited_for_until_glance_has_answered(
    crew, rule, upload, appender, images, spool, asked
):
    rule("size:<=1kB")
    images.accept(BODY, status="saving", size=None)
    choosing = Choosing(crew)
    assert served(crew, choosing, upload) is None
    choosing.tick()
    assert choosing.take_news(), "the upload's process may have died"
    assert choosing.targets_of(upload, ()) is None
    announced = dataclasses.replace(upload, size=2000)
    assert choosing.targets_of(announced, ()) == ["site-a"]
    appender.append(BODY)
    appender.accept()
    (upload,) = spool.uploads()
    assert choosing.targets_of(upload, ()) == ["site-a", "site-b"]
    assert asked == [IMAGE]


def test_process_that_dies_leaves_no_upload_undecided(crew, rule, upload, appender, images):
    rule("size:<=1kB")
    images.accept(BODY, status="saving", size=None)
    choosing = Choosing(crew)
    assert served(crew, choosing, upload) is None
    appender._file.close()
    assert choosing.targets_of(upload, ()) == ["site-a"]


def test_glance_that_cannot_be_asked_is_asked_again(crew, rule, upload, images):
    rule("tag:golden")
    images.error = exceptions.GlanceUnavailable(IMAGE, None, "read the image", "down")
    choosing = Choosing(crew)
    assert served(crew, choosing, upload) is None
    images.error = None
    images.accept(BODY)
    assert decided(crew, choosing, upload) == ["site-a"]


def test_image_that_was_deleted_goes_nowhere(crew, rule, upload, records):
    rule("tag:golden")
    records.note_deleted(IMAGE)
    assert decided(crew, Choosing(crew), upload) == []


def test_image_that_only_seems_to_be_gone_is_asked_for_again(crew, rule, upload, images, caplog):
    """As while the service user has lost its role."""
    rule("tag:golden")
    choosing = Choosing(crew)
    for _ in range(2):
        assert served(crew, choosing, upload) is None
        time.sleep(0.5)
    assert f"Image {IMAGE}: its targets are not known" in caplog.text
    assert "is believed to be gone from" in caplog.text
    images.accept(BODY)
    assert decided(crew, choosing, upload) == ["site-a"]


def test_refused_upload_goes_nowhere_and_glance_is_not_asked(crew, rule, upload, asked):
    rule("tag:golden")
    refused = dataclasses.replace(upload, state=UploadState.REJECTED)
    assert Choosing(crew).targets_of(refused, ()) == []
    assert asked == []


def test_upload_that_has_gone_is_forgotten(crew, rule, upload, images, spool):
    rule("size:<=1kB")
    images.accept(BODY, status="saving", size=None)
    choosing = Choosing(crew)
    assert served(crew, choosing, upload) is None
    spool.remove(upload.upload_id)
    choosing.tick()
    choosing.take_news()
    choosing.tick()
    assert not choosing.take_news()
