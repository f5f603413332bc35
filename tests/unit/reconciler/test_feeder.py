# SPDX-License-Identifier: Apache-2.0
"""Which replicas are fetched, how many at once, and what stands back for uploads."""

import collections
import datetime
import uuid

import pytest
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import Priority, ReplicaStatus
from glance_repl_mw.reconciler import candidates, feeder
from glance_repl_mw.reconciler.feeder import Feeder
from glance_repl_mw.reconciler.fetch import Fetched
from glance_repl_mw.spool.upload import Origin, Upload, UploadState
from tests.unit.reconciler.target_lab import BODY, PRIMARY, SITE, Lab, at, url_of

THREADS = 2
ANOTHER = "7f2f2b5e-0c7f-4f3b-9d4c-000000000001"


class Pool:
    """Runs what it was given when a test says so, in the order in which it came."""

    def __init__(self, *_arguments, **_keywords):
        self.waiting = collections.deque()

    def submit(self, work, *arguments):
        self.waiting.append((work, arguments))

    def run_next(self):
        work, arguments = self.waiting.popleft()
        work(*arguments)

    def run(self):
        while self.waiting:
            self.run_next()


class FeederLab(Lab):
    """With `fetched`, the images in their order; `meanwhile` is called during the next fetch."""

    def __init__(self, directory):
        super().__init__(directory)
        self.fetched = []
        self.held_back = []
        self.meanwhile = None
        self.set(repair_concurrency=THREADS)
        self.feeder = Feeder(self.tools)
        self.pool = self.feeder._pool

    def plan(self, number=1, priority=Priority.REPAIR):
        """So many images that wait for their bytes; returns their ids."""
        image_ids = [self.add_image() for _ in range(number)]
        for image_id in image_ids:
            self.survey.plan(image_id, [SITE], priority, len(BODY))
        return image_ids

    def fetch(self, tools, image, rows, waiting, reading, held_back=False):
        self.held_back.append(held_back)
        self.fetched.append(image.image_id)
        meanwhile, self.meanwhile = self.meanwhile, None
        found = meanwhile() if meanwhile else None
        assert tools.survey.assign(waiting, uuid.uuid4().hex)
        return found or Fetched()

    def spool(self, image_id=ANOTHER, state=UploadState.RECEIVING, **values):
        """The spool gets an upload, by default of another image; returns its id."""
        upload = Upload("e" * 32, image_id, None, state, 0.0, **values)
        self.tools.spool.write_sidecar(upload)
        return upload.upload_id

    def crowd(self, count):
        """So many bytes are in the spool, which holds 10,000 and is crowded from 8,000 on."""
        self.tools.spool.max_bytes = 10_000
        self.set(spool_hand_over_percent=80)
        self.tools.spool.data_path("e" * 32).write_bytes(bytes(count))

    def started(self):
        """How many fetches have been started and not ended when the feeder has looked."""
        self.feeder.run_once()
        return len(self.pool.waiting)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(feeder, "ThreadPoolExecutor", Pool)
    lab = FeederLab(tmp_path)
    monkeypatch.setattr(feeder, "fetch", lab.fetch)
    yield lab
    lab.close()


def test_few_are_started_and_the_most_urgent_first(lab):
    backfill = lab.plan(4, Priority.BACKFILL)
    repair = lab.plan(4, Priority.REPAIR)
    sync = lab.plan(2, Priority.SYNC)
    assert lab.started() == THREADS
    assert lab.started() == THREADS
    lab.pool.run()
    assert lab.fetched == [*sync, *repair, *backfill]
    assert lab.started() == 0


def test_only_one_is_started_while_an_upload_is_received(lab):
    image_ids = lab.plan(3)
    upload_id = lab.spool()
    assert [lab.started() for _ in range(3)] == [1, 1, 1]
    lab.pool.run_next()
    assert len(lab.pool.waiting) == 1
    lab.tools.spool.remove(upload_id)
    assert lab.started() == THREADS
    lab.pool.run()
    assert lab.fetched == image_ids


@pytest.mark.parametrize(
    "upload",
    [{"origin": origin} for origin in Origin if origin is not Origin.UPLOAD]
    + [{"state": state} for state in UploadState if state is not UploadState.RECEIVING],
)
def test_nothing_else_in_the_spool_is_an_upload_that_is_received(lab, upload):
    lab.plan(3)
    lab.spool(**upload)
    assert lab.started() == THREADS


def test_what_waits_for_a_place_goes_on_waiting_once_an_upload_is_received(lab):
    """What has begun goes on; no other begins beside it."""
    image_ids = lab.plan(4)
    assert lab.started() == THREADS
    lab.spool()
    assert lab.started() == THREADS
    lab.pool.run_next()
    assert len(lab.pool.waiting) == 1
    lab.pool.run()
    assert lab.fetched == image_ids


def test_none_is_started_while_the_spool_is_crowded(lab):
    image_ids = lab.plan(2)
    lab.crowd(8001)
    assert lab.started() == 0
    lab.crowd(8000 - len(BODY))
    assert lab.started() == 2
    lab.pool.run()
    assert lab.fetched == image_ids


def test_image_that_the_spool_has_no_room_for_waits_and_asks_for_room(lab):
    (image_id,) = lab.plan()
    lab.crowd(7000)
    assert lab.started() == 1
    lab.pool.run()
    assert not lab.fetched
    assert lab.tools.shortage.lacking_bytes == len(BODY)
    row = lab.row(image_id)
    assert (row.status, row.attempts) == ("error", 1)


def test_image_whose_bytes_are_coming_is_not_fetched(lab):
    (image_id,) = lab.plan()
    upload_id = lab.spool(image_id)
    assert lab.started() == 0
    lab.tools.spool.remove(upload_id)
    assert lab.started() == 1


@pytest.mark.parametrize("state", [UploadState.STAGED, UploadState.STAGING])
@pytest.mark.parametrize("has_data", [True, False], ids=["imported", "not yet imported"])
def test_staged_image_is_fetched_once_it_has_data(lab, state, has_data):
    """As where another node has imported what was staged here."""
    (image_id,) = lab.plan()
    lab.spool(image_id, state)
    if not has_data:
        lab.images.change(image_id, status="uploading", size=None)
    assert lab.started() == 1
    lab.pool.run()
    assert lab.fetched == ([image_id] if has_data else [])
    assert (lab.row(image_id).next_attempt_at is None) == has_data


def test_replica_at_a_target_that_is_down_waits(lab):
    lab.plan()
    for _ in range(3):
        lab.health.failed(OSError("down"))
    assert lab.started() == 0


def test_failure_puts_off_one_image_and_no_other(lab):
    first, second = lab.plan(2)

    def fail():
        raise exceptions.GlanceRefused(first, None, "fetch", "no luck")

    lab.meanwhile = fail
    assert lab.started() == 2
    lab.pool.run()
    row = lab.row(first)
    assert (row.status, row.attempts, "no luck" in row.error) == ("error", 1, True)
    assert row.next_attempt_at > row.updated_at
    assert lab.row(second).next_attempt_at is None
    assert lab.started() == 0


def test_what_is_a_location_is_taken_up_and_not_fetched(lab):
    """As after a database was brought back from a copy that is older than the replica."""
    image_id = lab.add()
    row = lab.survey.change(lab.row(image_id), ReplicaStatus.ERROR, location_url=None)
    lab.survey.change(row, next_attempt_at=row.created_at)
    before = lab.image(image_id).locations
    assert lab.started() == 1
    lab.pool.run()
    row = lab.row(image_id)
    assert (row.status, row.location_url, row.verified_at) == ("active", before[-1], None)
    assert lab.image(image_id).locations == before
    assert not lab.fetched


def test_own_location_is_taken_up_unless_its_object_was_found_to_be_bad(lab):
    image_ids = [lab.add(), lab.add()]
    for image_id in image_ids:
        row = lab.survey.change(lab.row(image_id), ReplicaStatus.ERROR)
        is_bad = image_id == image_ids[1]
        former = row.object_name if is_bad else None
        lab.survey.change(row, next_attempt_at=row.created_at, former_objects=former)
    assert lab.started() == 2
    lab.pool.run()
    assert [lab.row(image_id).status for image_id in image_ids] == ["active", "pending"]
    assert lab.is_location(image_ids[0])
    assert not lab.is_location(image_ids[1])
    assert lab.fetched == image_ids[1:]


def test_location_of_an_object_that_is_replaced_goes_first(lab):
    image_id = lab.add()
    lab.target.objects[lab.name(image_id)] = b"too short"
    row = lab.survey.change(lab.row(image_id), ReplicaStatus.ERROR)
    lab.survey.change(row, next_attempt_at=row.created_at)
    assert lab.started() == 1
    lab.pool.run()
    assert lab.fetched == [image_id]
    assert lab.image(image_id).locations == (PRIMARY,)


def test_only_location_stays_and_nothing_is_fetched(lab):
    image_id = lab.add()
    lab.target.objects[lab.name(image_id)] = b"too short"
    row = lab.survey.change(lab.row(image_id), ReplicaStatus.ERROR)
    lab.survey.change(row, next_attempt_at=row.created_at)
    lab.images.change(image_id, locations=(row.location_url,))
    assert lab.started() == 1
    lab.pool.run()
    assert not lab.fetched
    assert lab.image(image_id).locations == (url_of(row.object_name),)
    assert "only location" in lab.row(image_id).error


def test_row_of_a_replica_that_is_there_is_closed(lab):
    image_id = lab.add()
    lab.survey.plan(image_id, [SITE], Priority.BACKFILL, len(BODY))
    assert lab.started() == 1
    lab.pool.run()
    rows = lab.survey.of_images([image_id])[image_id]
    assert [row.status for row in rows] == ["active", "deleted"]
    assert not lab.fetched


@pytest.mark.parametrize(
    ("change", "comes_later"),
    [({"status": "queued", "size": None}, True), ({"size": 0}, False)],
    ids=["no bytes yet", "empty"],
)
def test_image_without_bytes(lab, change, comes_later):
    (image_id,) = lab.plan()
    lab.images.change(image_id, **change)
    assert lab.started() == 1
    lab.pool.run()
    row = lab.row(image_id)
    assert (row.status, row.next_attempt_at is not None) == ("error", comes_later)
    assert not lab.fetched


def test_looks_rarely_where_nothing_is_planned(lab):
    assert lab.feeder.run_once() == feeder._IDLE_SECONDS


@pytest.mark.parametrize(
    ("due_in", "rest"), [(5, 5), (0.1, feeder._OVERDUE_SECONDS), (300, feeder._IDLE_SECONDS)]
)
def test_rests_until_the_next_attempt(lab, due_in, rest):
    (image_id,) = lab.plan()
    (row,) = lab.survey.of_images([image_id])[image_id]
    due_at = timeutils.utcnow() + datetime.timedelta(seconds=due_in + 60)
    lab.survey.change(row, next_attempt_at=due_at)
    with at(timeutils.utcnow() + datetime.timedelta(seconds=60)):
        assert lab.feeder.run_once() == pytest.approx(rest, abs=0.5)


def test_what_waits_for_a_target_that_is_down_is_looked_at_each_second(lab):
    lab.plan()
    for _ in range(3):
        lab.health.failed(exceptions.TargetUnavailable(target=SITE))
    assert lab.feeder.run_once() == feeder._OVERDUE_SECONDS


# Who is slow keeps nobody waiting


class Reading:
    """Of which a test says that its source, Glance by default, is slow."""

    made = ()

    def __init__(self, _least):
        Reading.made = (*Reading.made, self)
        self.is_slow = self.is_broken_off = False
        self.source = None

    def break_off(self):
        self.is_broken_off = True


@pytest.fixture
def readings(lab, monkeypatch):
    """Those of the fetches, in the order in which they began."""
    monkeypatch.setattr(Reading, "made", ())
    monkeypatch.setattr(feeder, "Reading", Reading)
    return lambda: Reading.made


def owned(lab, owner, number):
    """So many images of a project that wait for their bytes."""
    image_ids = lab.plan(number)
    for image_id in image_ids:
        lab.images.change(image_id, owner=owner)
    return image_ids


def begun(lab):
    """The images whose fetch has begun and not ended, in the order in which they began."""
    lab.feeder.run_once()
    return [arguments[0].image_id for _, arguments in lab.pool.waiting]


def test_slow_source_gives_its_place_to_the_next_image(lab, readings):
    first, second, third, fourth, fifth = lab.plan(5)
    assert begun(lab) == [first, second]
    readings()[0].is_slow = readings()[1].is_slow = True
    readings()[1].source = SITE
    assert begun(lab) == [first, second, third, fourth]
    readings()[2].is_slow = True
    assert begun(lab) == [first, second, third, fourth, fifth]
    assert [each.is_broken_off for each in readings()] == [False, False, True, False, False]


def test_thousand_slow_images_of_one_owner_keep_no_other_waiting(lab, readings):
    slow = owned(lab, "mallory", 30)
    assert begun(lab) == slow[:2]
    others = owned(lab, "alice", 2)
    readings()[0].is_slow = readings()[1].is_slow = True
    assert begun(lab) == [*slow[:2], *others]
    lab.pool.waiting.rotate(-2)
    lab.pool.run_next()
    lab.pool.run_next()
    assert lab.fetched == others
    assert begun(lab) == slow[:2], "the next ones go to the one place for what comes slowly"


def test_owner_has_one_place_while_others_wait(lab, readings):
    mine = owned(lab, "alice", 3)
    theirs = owned(lab, "bob", 2)
    assert begun(lab) == [mine[0], theirs[0]]
    lab.pool.run_next()
    assert begun(lab) == [theirs[0], mine[1]]
    lab.pool.run()
    assert lab.fetched == [mine[0], theirs[0], mine[1], theirs[1], mine[2]]


def test_owner_has_all_places_while_nobody_else_waits(lab, readings):
    image_ids = owned(lab, "carol", 3)
    assert begun(lab) == image_ids[:2]


def test_image_that_was_slow_begins_at_the_place_for_such(lab, readings):
    """Nor does it hold connections to targets."""
    slow, *others = lab.plan(3)
    lab.tools.history.slow(lab.image(slow), None)
    assert begun(lab) == [slow, *others]
    lab.pool.run()
    assert lab.held_back == [True, False, False]


def test_slow_image_keeps_no_room_that_others_need(lab, readings):
    """Its size is what its server says."""
    (slow,) = lab.plan()
    lab.images.change(slow, size=7900)
    lab.crowd(0)
    (other,) = lab.plan()
    assert begun(lab) == [slow, other]

    def others_turn():
        lab.pool.run_next()
        assert lab.fetched == [slow]
        assert "no room" in lab.row(other).error
        assert begun(lab) == []
        readings()[0].is_slow = True
        assert begun(lab) == [other]
        lab.pool.run_next()

    lab.meanwhile = others_turn
    lab.pool.run_next()
    assert lab.fetched == [slow, other]


def test_large_image_that_was_slow_has_not_the_place_of_its_target(lab, readings):
    lab.crowd(0)
    slow, large = [lab.add_image(bytes(9000)) for _ in range(2)]
    for image_id in (slow, large):
        lab.survey.plan(image_id, [SITE], Priority.SYNC, 9000)
    lab.tools.history.slow(lab.image(slow), None)
    assert begun(lab) == [slow, large]


def test_what_waits_for_a_place_makes_way_for_what_is_due_after_it(lab, readings, monkeypatch):
    monkeypatch.setattr(feeder, "_ROWS_AT_ONCE", 10)
    slow = owned(lab, "mallory", 30)
    lab.tools.history.slow(lab.image(slow[0]), None)
    other = owned(lab, "alice", 1)[0]
    for _ in range(10):
        if other in begun(lab):
            break
    assert begun(lab) == [slow[0], other]


def test_urgent_images_begin_before_known_ones(lab, readings):
    backfill = lab.plan(4, Priority.BACKFILL)
    assert begun(lab) == backfill[:2]
    (sync,) = lab.plan(1, Priority.SYNC)
    lab.feeder.run_once()
    lab.pool.run_next()
    assert begun(lab) == [backfill[1], sync]


def test_large_image_has_the_place_of_its_target(lab, readings, monkeypatch):
    """And no other: it may be under way for hours."""
    relayed = []

    class Relay:
        suspects = ()

        def __init__(self, tools, image, rows, reading):
            self.image_id = image.image_id

        def run(self, waiting):
            relayed.append((self.image_id, [row.target for row in waiting]))
            for row in waiting:
                lab.survey.change(row, ReplicaStatus.UPLOADING, next_attempt_at=None)

    monkeypatch.setattr(feeder, "Relay", Relay)
    lab.crowd(0)
    large = [lab.add_image(bytes(9000)) for _ in range(3)]
    for image_id in large:
        lab.survey.plan(image_id, [SITE], Priority.SYNC, 9000)
    small = lab.plan(2)
    assert begun(lab) == [large[0], *small]
    lab.pool.run()
    assert relayed == [(image_id, [SITE]) for image_id in large]
    assert lab.fetched == small


def test_read_begins_again_at_once_when_the_writer_has_let_go_of_the_rows(lab, readings):
    (image_id,) = lab.plan()
    upload_id = lab.spool(image_id, UploadState.REJECTED, origin=Origin.REPLICA)
    lab.meanwhile = lambda: Fetched((), upload_id)
    lab.tools.spool.remove(upload_id)
    assert begun(lab) == [image_id]
    lab.spool(image_id, UploadState.REJECTED, origin=Origin.REPLICA)
    lab.pool.run()
    later = timeutils.utcnow() + datetime.timedelta(seconds=300)
    lab.survey.change(lab.row(image_id), ReplicaStatus.ERROR, next_attempt_at=later)
    assert begun(lab) == []
    lab.tools.spool.remove(upload_id)
    assert begun(lab) == [image_id]


# Room that is lacking


def without_room(lab):
    """An image that was due, and for which the spool has no room."""
    (image_id,) = lab.plan()
    lab.crowd(7000)
    assert lab.started() == 1
    lab.pool.run()
    assert not lab.fetched
    return image_id


def test_demand_for_room_stands_until_the_image_is_fetched(lab):
    image_id = without_room(lab)
    for _ in range(5):
        lab.feeder.run_once()
        assert lab.tools.shortage.lacking_bytes == len(BODY)
    lab.crowd(5000)
    assert begun(lab) == [image_id], "it waits no longer than for the room"
    lab.pool.run()
    assert lab.fetched == [image_id]
    assert lab.tools.shortage.lacking_bytes == 0


def test_demand_is_withdrawn_when_nobody_waits_for_the_image(lab):
    image_id = without_room(lab)
    lab.survey.change(lab.row(image_id), ReplicaStatus.DELETED, next_attempt_at=None)
    lab.crowd(0)
    assert begun(lab) == []
    assert lab.tools.shortage.lacking_bytes == 0


def test_image_for_which_no_room_is_made_goes_past_the_spool(lab, monkeypatch):
    image_id = without_room(lab)
    monkeypatch.setattr(candidates, "_NO_ROOM_SECONDS", 0.0)
    assert begun(lab) == [image_id]
    assert lab.pool.waiting[0][1][0].target == SITE
