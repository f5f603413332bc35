# SPDX-License-Identifier: Apache-2.0
"""The way of one upload: what its rows say, what reaches targets and Glance, what stays."""

import hashlib
import logging
import os
import threading
import time
from unittest import mock

import oslo_db.exception
import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.spool.upload import UploadState
from glance_repl_mw.writer import proof
from glance_repl_mw.writer.job import EMPTY_IMAGE, LOST_DATA
from tests.unit.writer.conftest import IMAGE, WAIT_SECONDS

BODY = os.urandom(300_000)
DOWN = exceptions.TargetUnavailable(target="site-b", operation="put", hint="down")


def test_accepted_upload_becomes_a_location_everywhere_in_one_request(
    lab, images, targets, caplog
):
    caplog.set_level(logging.INFO)
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}
    assert [list(target.objects.values()) for target in targets.values()] == [[BODY], [BODY]]
    assert [len(urls) for urls in images.patches] == [2]
    assert sorted(lab.activated) == ["site-a", "site-b"]
    assert lab.spooled() == []
    for target in targets:
        said = f"Image {IMAGE}, target {target}: active, {len(BODY)} bytes, "
        assert [each for each in caplog.messages if each.startswith(said)]
    assert all((row.size, row.progress) == (len(BODY), 1.0) for row in lab.rows().values())


@pytest.mark.parametrize("taken_over", [("site-a", "site-b"), ("site-b",)], ids=["all", "one"])
def test_upload_stays_where_another_node_takes_a_replica_over(lab, crew, targets, taken_over):
    """It may fail, and the spool be the last source."""
    crew.is_alone = False
    lab.accepted(BODY)
    lab.take_in_hand()
    for name in taken_over:
        crew.store.update(lab.job.upload.upload_id, [name], node="other")
    lab.until_done()
    assert lab.spooled() == [".data", ".json"]
    assert [name for name in targets if not targets[name].objects] == list(taken_over)
    assert {lab.rows()[name].status for name in taken_over} == {"pending"}


def test_tail_is_held_back_until_glance_has_accepted(lab, images, targets):
    appender = lab.receive(BODY[:200_000], len(BODY))
    job = lab.take_in_hand()
    lab.until(lambda: len(job.progress()) == 2 and min(job.progress().values()) > 100_000)
    appender.append(BODY[200_000:])
    lab.until(lambda: min(job.progress().values()) > 200_000)
    assert max(job.progress().values()) < len(BODY)
    images.accept(BODY)
    appender.accept()
    assert [target.objects for target in targets.values()] == [{}, {}]
    lab.observe()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


def test_refused_upload_is_taken_back(lab, targets):
    appender = lab.receive(BODY, None)
    job = lab.take_in_hand()
    lab.until(lambda: len(job.progress()) == 2)
    appender.reject()
    lab.observe()
    lab.until_done()
    assert lab.statuses() == {"site-a": "deleting", "site-b": "deleting"}
    assert [target.objects for target in targets.values()] == [{}, {}]
    assert lab.spooled() == []


def test_image_that_glance_has_under_other_capitals_is_left_to_that_id(lab, images, targets):
    lab.accepted(BODY)
    images.accept(BODY, image_id=IMAGE.upper())
    lab.take_in_hand()
    lab.until_done()
    assert {row.status for row in lab.rows().values()} <= {"deleting", "deleted"}
    assert all(IMAGE.upper() in row.error for row in lab.rows().values())
    assert [target.objects for target in targets.values()] == [{}, {}]
    assert lab.spooled() == []


def test_refused_upload_that_was_never_pushed_is_closed(lab):
    appender = lab.receive(b"abc", 3)
    lab.take_in_hand()
    appender.reject("the disk was full")
    lab.observe()
    lab.until_done()
    assert lab.statuses() == {"site-a": "deleted", "site-b": "deleted"}
    assert {row.error for row in lab.rows().values()} == {"the disk was full"}


def test_empty_image_says_why_it_has_no_location(lab, images):
    images.accept(b"")
    lab.receive(b"", 0).accept()
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "error", "site-b": "error"}
    assert {row.error for row in lab.rows().values()} == {EMPTY_IMAGE}
    assert {row.next_attempt_at for row in lab.rows().values()} == {None}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": len(BODY) + 1}, "size"),
        ({"os_hash_value": "0" * 128}, "sha512"),
        ({"os_hash_algo": "sha256", "os_hash_value": "0" * 64}, "sha256"),
        ({"os_hash_value": None, "checksum": "0" * 32}, "md5"),
    ],
)
def test_bytes_that_glance_does_not_have_reach_no_target(lab, images, targets, change, word):
    lab.accepted(BODY)
    images.accept(BODY, **change)
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "error", "site-b": "error"}
    assert all(word in row.error for row in lab.rows().values())
    assert [target.objects for target in targets.values()] == [{}, {}]
    assert lab.spooled() == []


def test_hash_of_another_algorithm_than_expected_is_made_up_for(lab, images):
    lab.accepted(BODY)
    digest = hashlib.sha256(BODY).hexdigest()
    images.accept(BODY, os_hash_algo="sha256", os_hash_value=digest)
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


@pytest.mark.parametrize("algorithm", ["kangaroo12", "shake_128"])
def test_hash_that_cannot_be_computed_is_made_up_for_by_the_checksum(
    lab, images, targets, algorithm
):
    lab.accepted(BODY)
    images.accept(BODY, os_hash_algo=algorithm, os_hash_value="00" * 32)
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


def test_such_a_hash_lets_no_wrong_bytes_through(lab, images, targets):
    lab.accepted(BODY)
    images.accept(BODY, os_hash_algo="kangaroo12", os_hash_value="00" * 32, checksum="0" * 32)
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "error", "site-b": "error"}


def test_algorithm_of_the_configuration_that_cannot_be_computed(lab, images, conf):
    conf.set_override("hashing_algorithm", "kangaroo12")
    lab.accepted(BODY)
    images.accept(BODY)
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


def test_image_without_a_size_waits_for_one(lab, images):
    lab.accepted(BODY)
    images.accept(BODY, size=None)
    job = lab.take_in_hand()
    lab.until(lambda: job.lacks_proof)
    assert {"size" in row.error for row in lab.rows().values()} == {True}
    images.accept(BODY)
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


def test_proof_waits_for_glance(lab, images):
    lab.accepted(BODY)
    images.error = exceptions.GlanceUnavailable(hint="it restarts")
    job = lab.take_in_hand()
    lab.until(lambda: job.lacks_proof)
    assert {row.error for row in lab.rows().values()} == {"it restarts"}
    images.error = None
    lab.until_done()
    assert not job.lacks_proof
    assert {(row.status, row.error) for row in lab.rows().values()} == {("active", None)}


def test_image_that_was_deleted_meanwhile_leaves_no_object(lab, images, records):
    lab.accepted(BODY)
    images.image = None
    records.note_deleted(IMAGE)
    lab.take_in_hand()
    lab.until_done()
    assert set(lab.statuses().values()) == {"deleted"}
    assert lab.spooled() == []


def test_image_that_only_seems_to_be_gone_keeps_everything(lab, images, records):
    """As while the service user has lost its role."""
    lab.accepted(BODY)
    image, images.image = images.image, None
    lab.take_in_hand()
    lab.until(lambda: records.absence(IMAGE) is not None)
    assert lab.spooled() == [".data", ".json"]
    images.image = image
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


@pytest.mark.parametrize("delay", [0, 3600])
def test_upload_whose_image_is_queued_again_is_kept_for_a_while(lab, images, records, conf, delay):
    """As Glance puts it back where a second request for it fails just after the upload."""
    conf.set_override("missing_image_delay_seconds", delay, group="replication")
    lab.accepted(BODY)
    images.accept(BODY, status="queued", size=None, checksum=None, os_hash_value=None)
    job = lab.take_in_hand()
    if delay:
        lab.until(lambda: all("queued" in (row.error or "") for row in lab.rows().values()))
        assert (job.done, lab.spooled()) == (False, [".data", ".json"])
        images.accept(BODY)
    lab.until_done()
    status = "active" if delay else "deleted"
    assert lab.statuses() == {"site-a": status, "site-b": status}
    assert {row.error for row in lab.rows().values()} == {None if delay else LOST_DATA}
    assert lab.spooled() == []


def test_glance_that_is_away_for_a_while_makes_no_such_upload_wait_longer(
    lab, images, conf, monkeypatch
):
    clock = mock.Mock(wraps=time)
    ahead = 0.0
    clock.monotonic.side_effect = lambda: time.monotonic() + ahead
    monkeypatch.setattr(proof, "time", clock)
    conf.set_override("missing_image_delay_seconds", 3600, group="replication")
    lab.accepted(BODY)
    images.accept(BODY, status="queued")
    lab.take_in_hand()
    for error, words in ((None, "queued"), (exceptions.GlanceUnavailable(hint="away"), "away")):
        images.error = error
        lab.until(lambda told=words: all(told in (row.error or "") for row in lab.rows().values()))
        ahead += 2000
    images.error = None
    lab.until_done()
    assert lab.statuses() == {"site-a": "deleted", "site-b": "deleted"}


def test_active_replica_is_no_part_of_a_refusal(lab, images, targets, records):
    targets["site-b"].errors = [DOWN] * 1000
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until(lambda: lab.statuses() == {"site-a": "active", "site-b": "error"})
    images.image = None
    lab.job.refuse("Glance has deleted the image")
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "deleting"}
    assert len(targets["site-a"].objects) == 1


def test_spool_keeps_the_upload_until_its_rows_are_stored(lab, store, images, monkeypatch):
    lab.accepted(BODY)
    real, refusing = store.update, []

    def update(*args, **values):
        if refusing:
            raise oslo_db.exception.DBConnectionError()
        return real(*args, **values)

    monkeypatch.setattr(store, "update", update)
    add = images.add_locations

    def added(*args):
        refusing.append(True)
        return add(*args)

    images.add_locations = added
    lab.take_in_hand()
    lab.until(lambda: bool(refusing) and not lab.crew.is_all_saved)
    for _ in range(20):
        lab.job.tick()
    assert not lab.job.done
    assert lab.spooled() == [".data", ".json"]
    refusing.clear()
    lab.crew.save_again()
    images.add_locations = add
    lab.until_done()
    assert lab.spooled() == []


def test_location_is_in_the_row_before_it_is_in_glance(lab, store, images, monkeypatch):
    lab.accepted(BODY)
    real, refusing = store.update, [True]

    def update(upload_id, targets, status=None, **values):
        if refusing and status is ReplicaStatus.STORED:
            raise oslo_db.exception.DBConnectionError()
        return real(upload_id, targets, status, **values)

    monkeypatch.setattr(store, "update", update)
    lab.take_in_hand()
    lab.until(lambda: not lab.crew.is_all_saved)
    for _ in range(20):
        lab.job.tick()
    assert images.patches == []
    refusing.clear()
    lab.crew.save_again()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


def test_what_is_a_location_already_is_adopted(lab, images, targets, store):
    """As after the rows were lost: nothing is written again, and nothing deleted."""
    lab.accepted(BODY)
    (upload,) = lab.crew.spool.uploads()
    name = f"{IMAGE}.site-a.{upload.upload_id}.7"
    targets["site-a"].objects[name] = BODY
    url = f"http://site-a/{name}"
    images.accept(BODY, locations=("file:///primary", url))
    lab.take_in_hand()
    lab.until_done()
    assert list(targets["site-a"].objects) == [name]
    assert lab.rows()["site-a"].location_url == url
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


def test_target_that_fails_is_tried_again_under_another_name(lab, targets, images):
    targets["site-b"].errors = [DOWN, DOWN]
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until(lambda: lab.rows()["site-b"].attempts == 2)
    row = lab.rows()["site-b"]
    assert (row.status, row.error, row.bytes_sent) == ("error", str(DOWN), 0)
    assert row.next_attempt_at > row.updated_at
    lab.until_done()
    row = lab.rows()["site-b"]
    assert (row.status, row.attempts, row.error) == ("active", 0, None)
    (name,) = targets["site-b"].objects
    assert row.object_name == name
    assert images.patches == [[lab.rows()["site-a"].location_url], [row.location_url]]


def test_error_of_an_attempt_is_that_of_its_put(lab, targets):
    """The server is full for PUT, and refuses DELETE as well."""
    target = targets["site-b"]
    target.errors = [DOWN] * 1000
    delete = target.delete

    def refuse(name):
        raise exceptions.TargetUnavailable(target="site-b", operation="delete", hint="no DELETE")

    target.delete = refuse
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until(lambda: lab.rows()["site-b"].attempts >= 3)
    assert lab.rows()["site-b"].error == str(DOWN)
    target.delete = delete
    target.errors = []
    lab.until_done()
    assert lab.statuses()["site-b"] == "active"


def test_what_an_earlier_attempt_has_left_goes_once_the_replica_is_active(lab, targets, images):
    target = targets["site-b"]
    put = target.put

    def leave_something(name, reader, size):
        target.objects[name] = b"half"
        target.put = put
        raise DOWN

    target.put = leave_something
    add, present = images.add_locations, []

    def added(*args):
        present.append(len(target.objects))
        return add(*args)

    images.add_locations = added
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until_done()
    assert present[-1] == 2
    assert list(target.objects) == [lab.rows()["site-b"].object_name]
    assert lab.rows()["site-b"].former_objects is None


def test_target_that_reports_another_checksum_is_not_registered(lab, targets, images):
    targets["site-b"].checksum = "0" * 32
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until(lambda: lab.rows()["site-b"].attempts == 1)
    assert "checksum" in lab.rows()["site-b"].error
    targets["site-b"].checksum = None
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}


def test_location_that_is_dropped_is_asked_for_again(lab, images, targets):
    def drop_the_first(image_id, urls):
        images.patches.append(list(urls))
        kept = urls if len(images.patches) > 1 else urls[1:]
        images.image = type(images.image)(
            **{**vars(images.image), "locations": (*images.image.locations, *kept)}
        )
        return images.image

    images.add_locations = drop_the_first
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until_done()
    assert [len(urls) for urls in images.patches] == [2, 1]
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}
    assert [len(target.objects) for target in targets.values()] == [1, 1]


def test_handed_back_upload_stays_for_the_next_writer(lab, images, targets):
    appender = lab.receive(BODY, len(BODY))
    job = lab.take_in_hand()
    lab.until(lambda: len(job.progress()) == 2)
    job.hand_back()
    lab.until_done()
    assert job.handed_back
    assert lab.statuses() == {"site-a": "pending", "site-b": "pending"}
    assert lab.spooled() == [".data", ".json"]
    images.accept(BODY)
    appender.accept()
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}
    assert [len(target.objects) for target in targets.values()] == [1, 1]


@pytest.mark.parametrize("lost", [False, True])
def test_next_writer_asks_whether_a_stored_object_is_there(lab, images, targets, lost):
    lab.accepted(BODY)
    images.add_locations = lambda *_: images.image
    lab.take_in_hand()
    lab.until(lambda: set(lab.statuses().values()) == {"stored"} and lab.rows()["site-b"].attempts)
    lab.job.hand_back()
    lab.until_done()
    before = [name for target in targets.values() for name in target.objects]
    del images.add_locations
    if lost:
        targets["site-b"].objects.clear()
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}
    after = [name for target in targets.values() for name in target.objects]
    assert (after == before) != lost


def test_next_writer_has_nothing_to_do_but_to_clear_the_spool(lab, store, crew):
    """The last one died between the last location and the removal of the spool file."""
    lab.accepted(BODY)
    (upload,) = crew.spool.uploads()
    store.begin(upload, crew.targets)
    for status in (ReplicaStatus.UPLOADING, ReplicaStatus.STORED, ReplicaStatus.ACTIVE):
        store.update(upload.upload_id, crew.targets, status)
    lab.take_in_hand()
    lab.until_done()
    assert lab.spooled() == []
    assert set(lab.statuses().values()) == {"active"}


def test_image_that_was_never_spooled_says_so(lab, spool):
    spool.record_unspooled("image", "the disk was full")
    job = lab.take_in_hand()
    assert job.upload.state is UploadState.ACCEPTED
    lab.until_done()
    rows = lab.crew.store.replicas("image")
    assert {(str(row.status), row.error) for row in rows} == {("error", "the disk was full")}
    assert lab.spooled() == []


@pytest.mark.parametrize("ending", ["hand_over", "refuse", "hand_back"])
def test_locations_that_glance_adds_while_the_upload_ends_are_active(lab, images, ending):
    begun, may_end, add = threading.Event(), threading.Event(), images.add_locations

    def add_slowly(image_id, urls):
        begun.set()
        assert may_end.wait(WAIT_SECONDS)
        return add(image_id, urls)

    images.add_locations = add_slowly
    lab.accepted(BODY)
    job = lab.take_in_hand()
    lab.until(begun.is_set)
    getattr(job, ending)(*(["Glance has deleted the image"] if ending == "refuse" else []))
    may_end.set()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}
    assert sorted(lab.activated) == ["site-a", "site-b"]


def test_what_may_be_a_location_stays_stored_when_the_spool_needs_the_room(lab, images):
    """Glance has done what was asked, but the answer was lost."""
    add = images.add_locations

    def add_and_say_nothing(image_id, urls):
        add(image_id, urls)
        raise exceptions.GlanceUnavailable(image_id, None, "add locations", "no answer")

    images.add_locations = add_and_say_nothing
    lab.accepted(BODY)
    job = lab.take_in_hand()
    lab.until(lambda: all(row.attempts for row in lab.rows().values()))
    job.hand_over()
    lab.until_done()
    assert lab.statuses() == {"site-a": "stored", "site-b": "stored"}
    assert all(row.next_attempt_at > row.updated_at for row in lab.rows().values())
    assert {row.node for row in lab.rows().values()} == {None}
    assert lab.spooled() == []
