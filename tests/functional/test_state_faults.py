# SPDX-License-Identifier: Apache-2.0
"""The spool, the database or the clock fails: each fault alone, and what comes of it."""

import contextlib
import datetime
import re
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from oslo_utils import timeutils

from tests.functional.cloud import MIB, WAIT_SECONDS, Cloud
from tests.functional.test_spool import fill, mounted
from tests.functional.test_target_faults import QUICK
from tests.functional.test_writer import Writer
from tests.lab.faults import DOWN, HANGING, HEALTHY, Fault, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

HALF_WAY = Fault(hang_after=MIB)
BODY_BYTES = 2 * MIB
LATE_SECONDS = 2
DATABASE = "replication.sqlite"
CLOCK = Path(__file__).parents[1] / "lab" / "clock"
LOCKED_SECONDS = 3
CHANGE_WAITS = re.compile(r"The state of \d+ changes waits: .*database is locked")
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """Its writer is started by each test, and its database has a disk of its own."""
    require(Nginx)
    directory = workdir("state-faults")
    targets = {
        "site-a": Nginx(directory / "site-a"),
        "held": FaultyTarget(Nginx(directory / "held")),
    }
    disk = directory / "database"
    disk.mkdir()
    (directory / DATABASE).symlink_to(disk / DATABASE)
    options = {"replication": {**QUICK, "writer": "external"}}
    with mounted(disk), Cloud(directory, keystone, targets=targets, options=options) as cloud:
        cloud.disk = disk
        yield cloud


@pytest.fixture
def held(cloud):
    yield cloud.targets["held"]
    cloud.targets["held"].switch(HEALTHY)


def database_of(cloud):
    return cloud.disk / DATABASE


def new_images(cloud, number):
    """Upload some images; returns their bodies by id."""
    bodies = [image_bytes(BODY_BYTES) for _ in range(number)]
    return {cloud.new_image(body): body for body in bodies}


def assert_all_complete(cloud, images):
    for image_id, body in images.items():
        cloud.assert_replicated(image_id, body)


def flip_a_bit(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


# The spool


def test_bit_that_flips_in_the_spool_before_the_proof(cloud):
    body = image_bytes(BODY_BYTES)
    image_id = cloud.new_image(body)
    (data,) = cloud.spool.glob("*.data")
    flip_a_bit(data, BODY_BYTES // 2)
    with Writer(cloud) as writer:
        cloud.assert_replicated(image_id, body)
    assert "the sha512 of the spooled bytes is " in writer.log.read_text()
    # What is wrong got no further than to where the last bytes of an object are held back.
    written = [status for name in cloud.targets for _, status in cloud.puts(image_id, name)]
    assert written.count(201) == len(cloud.targets)


def test_bit_that_flips_in_the_spool_after_the_proof(cloud, held):
    with Writer(cloud):
        held.switch(HALF_WAY)
        body = image_bytes(BODY_BYTES)
        image_id = cloud.new_image(body)
        cloud.wait_replicated(image_id, ["site-a"])
        (data,) = cloud.spool.glob("*.data")
        flip_a_bit(data, BODY_BYTES // 2)
        # What is read within a second of the proof counts as proven.
        proven_at = time.monotonic()
        wait_until(lambda: time.monotonic() - proven_at > LATE_SECONDS, 60, "it is late")
        held.switch(HEALTHY)
        cloud.assert_replicated(image_id, body)


# The database


def test_database_that_is_locked_for_seconds(cloud):
    with Writer(cloud) as writer, contextlib.closing(sqlite3.connect(database_of(cloud))) as lock:
        assert_all_complete(cloud, new_images(cloud, 1))
        lock.execute("BEGIN EXCLUSIVE")
        try:
            images = new_images(cloud, 2)
            time.sleep(LOCKED_SECONDS)
            assert not any(cloud.objects(image_id) for image_id in images)
        finally:
            lock.rollback()
        assert_all_complete(cloud, images)
        assert writer.running


def test_database_that_is_locked_for_longer_than_one_tries(cloud, held):
    """The result of a push that ends meanwhile is kept, and no upload notices."""
    with Writer(cloud) as writer, contextlib.closing(sqlite3.connect(database_of(cloud))) as lock:
        held.switch(HALF_WAY)
        images = new_images(cloud, 1)
        (image_id,) = images
        cloud.wait_replicated(image_id, ["site-a"])
        wait_until(lambda: held.received_bytes >= MIB, 60, "half is sent")
        lock.execute("BEGIN EXCLUSIVE")
        try:
            held.switch(HEALTHY)
            # Each transaction is given up after a minute, and another one may come first.
            wait_until(
                lambda: CHANGE_WAITS.search(writer.log.read_text()), WAIT_SECONDS, "a change waits"
            )
            images |= new_images(cloud, 2)
            for each, body in images.items():
                assert cloud.request("GET", f"v2/images/{each}/file").content == body
        finally:
            lock.rollback()
        assert_all_complete(cloud, images)
        assert writer.running
        assert [status for _, status in cloud.puts(image_id, "site-a")] == [201]


def test_database_that_is_deleted_while_the_writer_runs(cloud, held):
    with Writer(cloud) as writer:
        old = new_images(cloud, 2)
        assert_all_complete(cloud, old)
        urls = {image_id: cloud.replica_urls(image_id) for image_id in old}
        held.switch(HALF_WAY)
        fresh = new_images(cloud, 1)
        wait_until(lambda: held.received_bytes >= MIB, 60, "half is sent")
        database_of(cloud).unlink()
        fresh |= new_images(cloud, 1)
        held.switch(HEALTHY)
        assert_all_complete(cloud, fresh | old)
        assert "The database has lost its tables: they are made again" in writer.log.read_text()
        assert {image_id: cloud.replica_urls(image_id) for image_id in old} == urls


def test_database_that_is_deleted_while_no_writer_runs(cloud):
    with Writer(cloud):
        images = new_images(cloud, 2)
        assert_all_complete(cloud, images)
    urls = {image_id: cloud.replica_urls(image_id) for image_id in images}
    database_of(cloud).unlink()
    with Writer(cloud):
        assert_all_complete(cloud, images)
        assert {image_id: cloud.replica_urls(image_id) for image_id in images} == urls
        assert all(len(cloud.puts(image_id, "site-a")) == 1 for image_id in images)


def test_database_is_lost_while_a_target_hangs(cloud, held):
    """That target costs one of its timeouts, a minute, and not one for each image."""
    with Writer(cloud):
        images = new_images(cloud, 4)
        assert_all_complete(cloud, images)
    database_of(cloud).unlink()
    held.switch(HANGING)

    def are_taken_up():
        rows = [cloud.row(image_id, "site-a") for image_id in images]
        return all(row is not None and row.status == "active" for row in rows)

    with Writer(cloud):
        wait_until(are_taken_up, WAIT_SECONDS, "the replicas elsewhere are taken up")
        held.switch(HEALTHY)
        assert_all_complete(cloud, images)


def test_disk_of_the_database_is_full(cloud):
    ballast = cloud.disk / "ballast"
    with Writer(cloud) as writer:
        fill(ballast)
        try:
            images = new_images(cloud, 2)
            wait_until(
                lambda: "database or disk is full" in writer.log.read_text(), 60, "it is noticed"
            )
        finally:
            ballast.unlink()
        assert_all_complete(cloud, images)


def test_disk_of_the_database_is_read_only(cloud):
    """No file on it may be open for writing when it becomes so: the writer starts with it."""
    subprocess.run(["mount", "-o", "remount,ro", cloud.disk], check=True)
    try:
        images = new_images(cloud, 2)
        with Writer(cloud) as writer:
            wait_until(
                lambda: "cannot be taken in hand" in writer.log.read_text(), 60, "it is noticed"
            )
            print(writer.log.read_text()[-3000:])
            subprocess.run(["mount", "-o", "remount,rw", cloud.disk], check=True)
            assert_all_complete(cloud, images)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", cloud.disk], check=True)


# The clock


class ClockedWriter(Writer):
    """A writer whose clock the test sets, also while it runs: see tests/lab/clock."""

    @property
    def _clock(self):
        return self.directory / "clock"

    def environment(self):
        return {**super().environment(), "PYTHONPATH": str(CLOCK), "LAB_CLOCK": str(self._clock)}

    def set(self, ahead):
        """How far it is ahead of time."""
        self._clock.write_text(str(ahead.total_seconds()))


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_clock_that_was_a_day_ahead_is_set_right(restarted, cloud, held):
    writer = ClockedWriter(cloud)
    writer.set(DAY)
    with writer:
        images = new_images(cloud, 2)
        assert_all_complete(cloud, images)
        deleted, *_ = images
        del images[deleted]
        held.switch(DOWN)
        late = new_images(cloud, 1)
        assert cloud.request("DELETE", f"v2/images/{deleted}").status_code == 204
        wait_until(lambda: is_planned_for_tomorrow(cloud, deleted, "deleting"), 60, "removal")
        wait_until(lambda: is_planned_for_tomorrow(cloud, *late, "error"), 60, "push")
        if restarted:
            writer.end()
        writer.set(datetime.timedelta(0))
        held.switch(HEALTHY)
        if restarted:
            writer.start()
        assert_all_complete(cloud, images | late)
        cloud.assert_no_trace(deleted)


def is_planned_for_tomorrow(cloud, image_id, status):
    """Whether the next attempt at `held` is due tomorrow."""
    row = cloud.row(image_id, "held")
    at = row.next_attempt_at
    return row.status == status and at and at > timeutils.utcnow() + DAY / 2
