# SPDX-License-Identifier: Apache-2.0
"""What a verification finds, and what it does to a replica that is bad."""

import dataclasses
import hashlib
import threading
import types

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.model import ReplicaStatus, Wish
from glance_repl_mw.reconciler.leaving import CANNOT_LEAVE
from glance_repl_mw.reconciler.tools import Stopping
from glance_repl_mw.reconciler.verification import Outcome, Verifier, examine
from glance_repl_mw.targets.bounds import bounded_blocks
from tests.unit.reconciler.target_lab import BLOCK, BODY, PRIMARY, SITE, Lab, at, days

FLIPPED = bytes([BODY[0] ^ 1]) + BODY[1:]


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def verify(lab, image_id, *, read_back=False):
    row, image = lab.row(image_id), lab.image(image_id)
    return Verifier(lab.tools).verify(row, image, read_back=read_back)


def assert_withdrawn(lab, image_id, verdict):
    row = lab.row(image_id)
    assert verdict.outcome is Outcome.BAD
    assert row.status is ReplicaStatus.ERROR
    assert row.next_attempt_at is not None
    assert row.error == verdict.why
    assert (row.verified_at, row.read_back_at) == (None, None)
    assert lab.image(image_id).locations == (PRIMARY,)


def test_good_size(lab):
    image_id = lab.add()
    assert verify(lab, image_id).outcome is Outcome.GOOD
    row = lab.row(image_id)
    assert row.verified_at is not None
    assert row.read_back_at is None
    assert lab.target.read == []


def test_good_bytes(lab):
    image_id = lab.add()
    assert verify(lab, image_id, read_back=True).outcome is Outcome.GOOD
    row = lab.row(image_id)
    assert row.read_back_at == row.verified_at is not None


def test_old_error_of_a_good_one_goes(lab):
    image_id = lab.add()
    with at(days(1)):
        lab.survey.change(lab.row(image_id), error="once it was bad")
    verify(lab, image_id)
    assert lab.row(image_id).error is None


def test_why_a_good_one_cannot_leave_stays_as_long_as_it_is_to_leave(lab):
    image_id = lab.add()
    why = f"{CANNOT_LEAVE}it is the only location of the image"
    with at(days(1)):
        lab.survey.change(lab.row(image_id), error=why)
    lab.tools.wishes.ask(SITE, Wish.DRAIN)
    assert verify(lab, image_id).outcome is Outcome.GOOD
    assert lab.row(image_id).error == why
    lab.tools.wishes.take_back(SITE)
    verify(lab, image_id)
    assert lab.row(image_id).error is None


def test_missing_object(lab):
    image_id = lab.add(verified_at=days(1), read_back_at=days(1))
    lab.target.objects.clear()
    verdict = verify(lab, image_id)
    assert_withdrawn(lab, image_id, verdict)
    assert "is not there" in verdict.why


def test_object_that_glance_reads_elsewhere_is_not_missing(lab):
    """HEAD at url says 404, GET at the location 200."""
    image_id = lab.add()
    lab.target.stat = lambda name: None
    before = lab.row(image_id)
    verdict = verify(lab, image_id)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "although Glance can read it" in verdict.why
    assert lab.row(image_id) == before
    assert lab.is_location(image_id)


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (exceptions.TargetUnavailable, Outcome.UNKNOWN),
        (exceptions.TargetMisplaced, Outcome.UNKNOWN),
        (exceptions.TargetRefused, Outcome.BAD),
    ],
)
def test_missing_is_what_glance_does_not_get_either(lab, kind, outcome):
    """Some servers refuse to strangers what they do not have."""
    image_id = lab.add()
    lab.target.objects.clear()

    def refuse(name):
        raise kind(target=SITE, hint="GET: no")

    lab.target.open = refuse
    assert verify(lab, image_id).outcome is outcome


def test_wrong_size(lab):
    image_id = lab.add()
    lab.target.objects[lab.name(image_id)] = BODY[:-1]
    assert_withdrawn(lab, image_id, verify(lab, image_id))


def test_flipped_bit_is_found_only_by_reading_back(lab):
    image_id = lab.add()
    lab.target.objects[lab.name(image_id)] = FLIPPED
    assert verify(lab, image_id).outcome is Outcome.GOOD
    verdict = verify(lab, image_id, read_back=True)
    assert_withdrawn(lab, image_id, verdict)
    assert "sha512" in verdict.why


def test_checksum_that_the_target_reports_is_compared(lab):
    image_id = lab.add()
    lab.target.checksums[lab.name(image_id)] = hashlib.md5(FLIPPED).hexdigest()
    assert_withdrawn(lab, image_id, verify(lab, image_id))


@pytest.mark.parametrize("algorithm", [None, "no-such-algorithm"])
def test_md5_where_there_is_no_usable_hash(lab, algorithm):
    image_id = lab.add(os_hash_algo=algorithm, os_hash_value=algorithm and "0")
    assert verify(lab, image_id, read_back=True).outcome is Outcome.GOOD
    lab.target.objects[lab.name(image_id)] = FLIPPED
    assert_withdrawn(lab, image_id, verify(lab, image_id, read_back=True))


def test_object_that_only_its_reader_misses_is_bad(lab):
    image_id = lab.add()
    lab.target.open = lambda name: Target404()
    assert_withdrawn(lab, image_id, verify(lab, image_id, read_back=True))


class Target404:
    def __iter__(self):
        raise exceptions.ReplicaMissing(target=SITE, hint="GET: 404")


@pytest.mark.parametrize("kind", [exceptions.TargetUnavailable, exceptions.TargetRefused])
def test_nothing_changes_where_the_target_does_not_say(lab, kind):
    image_id = lab.add()
    lab.target.errors[lab.name(image_id)] = kind(target=SITE, hint="no")
    before = lab.row(image_id)
    assert verify(lab, image_id).outcome is Outcome.UNKNOWN
    assert lab.row(image_id) == before
    assert lab.is_location(image_id)


def test_last_location_stays(lab):
    image_id = lab.add(locations=())
    lab.target.objects.clear()
    verdict = verify(lab, image_id)
    row = lab.row(image_id)
    assert verdict.outcome is Outcome.BAD
    assert lab.image(image_id).locations == (row.location_url,)
    assert (row.status, row.error) == (ReplicaStatus.ACTIVE, verdict.why)
    assert "only one" in verdict.why


@pytest.mark.parametrize("kind", [exceptions.GlanceUnavailable, exceptions.GlanceRefused])
def test_location_that_glance_does_not_remove_stays(lab, kind):
    image_id = lab.add(read_back_at=days(3))
    lab.target.objects[lab.name(image_id)] = FLIPPED
    lab.images.errors["remove_locations"] = kind(image_id, hint="409")
    verdict = verify(lab, image_id, read_back=True)
    row = lab.row(image_id)
    assert verdict.outcome is Outcome.BAD
    assert (row.status, row.error) == (ReplicaStatus.ACTIVE, verdict.why)
    assert row.read_back_at is None
    assert row.is_bad


class Killed(Exception):
    pass


def kill(*_, **__):
    raise Killed


@pytest.mark.parametrize("read_back", [True, False])
def test_finding_is_in_the_row_before_the_location_goes(lab, read_back):
    image_id = lab.add(verified_at=days(1), read_back_at=days(1))
    name = lab.name(image_id)
    lab.target.objects[name] = FLIPPED if read_back else BODY[:-1]
    lab.images.remove_locations = kill
    with pytest.raises(Killed):
        verify(lab, image_id, read_back=read_back)
    row = lab.row(image_id)
    assert (row.status, row.is_bad, name in row.error) == (ReplicaStatus.ACTIVE, True, True)
    assert (row.verified_at, row.read_back_at) == (None, None)
    del lab.images.remove_locations
    assert_withdrawn(lab, image_id, verify(lab, image_id, read_back=read_back))


def test_only_reading_acquits_a_replica_that_was_found_to_be_bad(lab):
    image_id = lab.add(locations=())
    name = lab.name(image_id)
    lab.target.objects[name] = FLIPPED
    assert verify(lab, image_id, read_back=True).outcome is Outcome.BAD
    assert verify(lab, image_id).outcome is Outcome.GOOD
    assert lab.row(image_id).is_bad
    lab.target.objects[name] = BODY
    assert verify(lab, image_id, read_back=True).outcome is Outcome.GOOD
    row = lab.row(image_id)
    assert (row.is_bad, row.former_objects) == (False, None)


def test_image_that_was_deleted_meanwhile(lab):
    image_id = lab.add()
    row, image = lab.row(image_id), lab.image(image_id)
    del lab.images.images[image_id]
    lab.target.objects.clear()
    verdict = Verifier(lab.tools).verify(row, image, read_back=False)
    assert verdict.outcome is Outcome.BAD
    assert lab.row(image_id).status is ReplicaStatus.ERROR


def test_row_that_has_changed_meanwhile_is_left_alone(lab):
    image_id = lab.add()
    row = lab.row(image_id)
    lab.survey.change(row, ReplicaStatus.DELETING)
    lab.target.objects.clear()
    verdict = Verifier(lab.tools).verify(row, lab.image(image_id), read_back=False)
    assert verdict.outcome is Outcome.SKIPPED
    assert lab.row(image_id).status is ReplicaStatus.DELETING
    assert lab.row(image_id).error is None


@pytest.mark.parametrize("status", ["deactivated", "queued", "deleted"])
def test_image_that_is_not_active_is_skipped(lab, status):
    image_id = lab.add(status=status)
    lab.target.objects.clear()
    assert verify(lab, image_id).outcome is Outcome.SKIPPED
    assert lab.is_location(image_id)


def test_empty_image_is_skipped(lab):
    assert verify(lab, lab.add(b"")).outcome is Outcome.SKIPPED


def test_replica_in_hand_is_skipped(lab):
    image_id = lab.add()
    lab.put_in_hand(image_id)
    assert verify(lab, image_id).outcome is Outcome.SKIPPED
    assert lab.target.asked == []


def test_fresh_replica_is_skipped_until_it_was_verified_once(lab):
    fresh, verified = lab.add(made_at=days(0)), lab.add(made_at=days(0), verified_at=days(0))
    assert verify(lab, fresh).outcome is Outcome.SKIPPED
    assert verify(lab, verified).outcome is Outcome.GOOD


def test_replica_that_is_not_active_is_skipped(lab):
    image_id = lab.add()
    lab.survey.change(lab.row(image_id), ReplicaStatus.ERROR)
    assert verify(lab, image_id).outcome is Outcome.SKIPPED


def test_target_that_is_not_configured_is_skipped(lab):
    image_id = lab.add()
    row = dataclasses.replace(lab.row(image_id), target="gone")
    verdict = Verifier(lab.tools).verify(row, lab.image(image_id), read_back=False)
    assert verdict.outcome is Outcome.SKIPPED


class SlowPace:
    """Grants one byte at a time, and calls back each time."""

    def __init__(self, on_take):
        self.taken = 0
        self._on_take = on_take

    def take(self, wanted):
        self.taken += 1
        self._on_take(self)
        return 1


def test_every_byte_is_paced(lab):
    image_id = lab.add()
    pace = SlowPace(lambda _: None)
    examine(lab.target, lab.row(image_id), lab.image(image_id), read_back=True, pace=pace)
    assert pace.taken == len(BODY)


def test_long_read_ends_when_the_writer_ends(lab):
    image_id = lab.add()
    stopping = threading.Event()
    pace = SlowPace(lambda pace: pace.taken == BLOCK + 1 and stopping.set())
    with pytest.raises(Stopping):
        examine(
            lab.target,
            lab.row(image_id),
            lab.image(image_id),
            read_back=True,
            pace=pace,
            stopping=stopping,
        )
    assert pace.taken == BLOCK + 1


def test_many_are_found_with_few_requests(lab):
    image_ids = [lab.add() for _ in range(51)]
    del lab.images.images[image_ids[1]]
    rows = [lab.row(image_id) for image_id in image_ids]
    outcomes = [
        verdict.outcome for _, verdict in Verifier(lab.tools).verify_all(rows, read_back=False)
    ]
    assert outcomes == [Outcome.GOOD, Outcome.SKIPPED] + [Outcome.GOOD] * 49
    assert [len(each) for each in lab.images.finds] == [50, 1]


def test_glance_is_not_asked_about_replicas_in_hand(lab):
    image_ids = [lab.add(), lab.add()]
    lab.put_in_hand(image_ids[0])
    rows = [lab.row(image_id) for image_id in image_ids]
    outcomes = [
        verdict.outcome for _, verdict in Verifier(lab.tools).verify_all(rows, read_back=False)
    ]
    assert outcomes == [Outcome.SKIPPED, Outcome.GOOD]
    assert lab.images.finds == [image_ids[1:]]


class Endless:
    """Blocks without an end; counts them."""

    def __init__(self):
        self.given = 0
        self.closed = False

    def __iter__(self):
        try:
            while True:
                self.given += 1
                yield bytes(1024)
        finally:
            self.closed = True


def test_object_without_an_end_is_bad_and_not_read_on(lab):
    image_id = lab.add()
    endless = Endless()
    lab.target.open = lambda name: iter(endless)
    verdict = verify(lab, image_id, read_back=True)
    assert_withdrawn(lab, image_id, verdict)
    assert f"is more than {len(BODY)}, not {len(BODY)}" in verdict.why
    assert endless.given <= len(BODY) // 1024 + 1
    assert endless.closed


def test_object_that_drips_is_not_waited_for(lab, monkeypatch):
    clock = types.SimpleNamespace(now=0.0)

    def drip():
        for _ in BODY:
            clock.now += 30.0
            yield b"x"

    monkeypatch.setitem(bounded_blocks.__kwdefaults__, "clock", lambda: clock.now)
    image_id = lab.add()
    lab.target.open = lambda name: drip()
    verdict = verify(lab, image_id, read_back=True)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "too slowly: 2 bytes within 60 s" in verdict.why
    assert lab.row(image_id).status is ReplicaStatus.ACTIVE


def test_hash_that_a_user_gave_forges_no_log_line(lab):
    image_id = lab.add()
    lab.images.change(image_id, os_hash_value="0\nforged \x1b[31mline")
    verdict = verify(lab, image_id, read_back=True)
    assert verdict.outcome is Outcome.BAD
    assert "\n" not in verdict.why
    assert "\x1b" not in verdict.why
