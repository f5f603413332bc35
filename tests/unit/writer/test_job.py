"""The way of one upload: what its rows say, what reaches targets and Glance, what stays."""

import hashlib
import os

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.spool.upload import UploadState
from glance_repl_mw.writer.job import EMPTY_IMAGE

BODY = os.urandom(300_000)
DOWN = exceptions.TargetUnavailable(target="site-b", operation="put", hint="down")


def test_accepted_upload_becomes_a_location_everywhere_in_one_request(lab, images, targets):
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}
    assert [list(target.objects.values()) for target in targets.values()] == [[BODY], [BODY]]
    assert [len(urls) for urls in images.patches] == [2]
    assert sorted(lab.activated) == ["site-a", "site-b"]
    assert lab.spooled() == []
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


def test_image_that_was_deleted_meanwhile_leaves_no_object(lab, images):
    lab.accepted(BODY)
    images.image = None
    lab.take_in_hand()
    lab.until_done()
    assert set(lab.statuses().values()) == {"deleted"}
    assert lab.spooled() == []


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
    assert name.endswith(".3")
    assert images.patches == [[lab.rows()["site-a"].location_url], [row.location_url]]


def test_what_an_earlier_attempt_left_late_is_removed(lab, targets):
    """The object of the first attempt appears only once that has been given up and removed."""
    target = targets["site-b"]
    target.errors = [DOWN]
    delete = target.delete

    def late(name):
        delete(name)
        if len(target.deleted) == 1:
            target.objects[name] = BODY

    target.delete = late
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until_done()
    (name,) = target.objects
    assert name.endswith(".2")


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
    del images.add_locations
    if lost:
        targets["site-b"].objects.clear()
    lab.take_in_hand()
    lab.until_done()
    assert lab.statuses() == {"site-a": "active", "site-b": "active"}
    numbers = [name.rpartition(".")[2] for target in targets.values() for name in target.objects]
    assert numbers == ["1", "2" if lost else "1"]


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
