"""Which replicas are fetched, how many at once, and what stands back for uploads."""

import collections
import datetime
import uuid

import pytest
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import Priority, ReplicaStatus
from glance_repl_mw.reconciler import feeder
from glance_repl_mw.reconciler.feeder import Feeder
from glance_repl_mw.spool.upload import Origin, Upload, UploadState
from tests.unit.reconciler.target_lab import BODY, PRIMARY, SITE, Lab, at, url_of

THREADS = 2
QUEUED = THREADS * 4
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

    def fetch(self, tools, image, rows, waiting):
        self.fetched.append(image.image_id)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        assert tools.survey.assign(waiting, uuid.uuid4().hex)

    def spool(self, image_id=ANOTHER, state=UploadState.RECEIVING, **values):
        """The spool gets an upload, by default of another image; returns its id."""
        upload = Upload("e" * 32, image_id, None, state, 0.0, **values)
        self.tools.spool.write_sidecar(upload)
        return upload.upload_id

    def crowd(self, count):
        """So many bytes are in the spool, which has room for 1000 and is crowded from 800 on."""
        self.tools.spool.max_bytes = 1000
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
    assert lab.started() == QUEUED
    assert lab.started() == QUEUED
    lab.pool.run()
    assert lab.fetched == [*sync, *repair, *backfill[:2]]
    assert lab.started() == 2
    lab.pool.run()
    assert lab.fetched == [*sync, *repair, *backfill]
    assert lab.started() == 0


def test_only_one_is_started_while_an_upload_is_received(lab):
    image_ids = lab.plan(3)
    upload_id = lab.spool()
    assert [lab.started() for _ in range(3)] == [1, 1, 1]
    lab.pool.run()
    assert lab.started() == 1
    lab.tools.spool.remove(upload_id)
    assert lab.started() == 2
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
    assert lab.started() == 3


def test_what_is_queued_waits_once_an_upload_is_received(lab):
    """At most one begins, and none beside another; nothing is forgotten."""
    image_ids = lab.plan(3)
    assert lab.started() == 3
    upload_id = lab.spool()

    def others_turn():
        assert lab.started() == 2
        lab.pool.run_next()
        lab.pool.run_next()
        assert lab.started() == 0

    lab.meanwhile = others_turn
    lab.pool.run_next()
    assert lab.fetched == image_ids[:1]
    assert lab.started() == 1
    lab.pool.run()
    lab.tools.spool.remove(upload_id)
    assert lab.started() == 1
    lab.pool.run()
    assert lab.fetched == image_ids


def test_none_is_started_while_the_spool_is_crowded(lab):
    image_ids = lab.plan(2)
    lab.crowd(801)
    assert lab.started() == 0
    lab.crowd(800)
    assert lab.started() == 2
    assert not lab.fetched
    lab.tools.spool.max_bytes = 0
    lab.pool.run()
    assert lab.fetched == image_ids


def test_image_that_the_spool_has_no_room_for_waits_and_asks_for_room(lab):
    (image_id,) = lab.plan()
    lab.crowd(800)
    lab.tools.spool.max_bytes = 2 * len(BODY)
    lab.tools.spool.data_path("e" * 32).write_bytes(bytes(len(BODY)))
    assert lab.started() == 1
    lab.pool.run()
    assert not lab.fetched
    assert lab.tools.shortage.lacking_bytes == len(BODY)
    row = lab.row(image_id)
    assert (row.status, row.attempts) == ("error", 1)


@pytest.mark.parametrize("state", [UploadState.RECEIVING, UploadState.STAGED])
def test_image_whose_bytes_are_coming_is_not_fetched(lab, state):
    (image_id,) = lab.plan()
    upload_id = lab.spool(image_id, state)
    assert lab.started() == 0
    lab.tools.spool.remove(upload_id)
    assert lab.started() == 1


def test_replica_at_a_target_that_is_down_waits(lab):
    lab.plan()
    for _ in range(3):
        lab.health.failed(OSError("down"))
    assert lab.started() == 0


def test_failure_puts_off_one_image_and_no_other(lab):
    first, second = lab.plan(2)

    def fail():
        raise exceptions.SpoolFull(first, None, "fetch", "no room")

    lab.meanwhile = fail
    assert lab.started() == 2
    lab.pool.run()
    row = lab.row(first)
    assert (row.status, row.attempts, "no room" in row.error) == ("error", 1, True)
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
