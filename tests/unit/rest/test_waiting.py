# SPDX-License-Identifier: Apache-2.0
"""Threads that wait for replicas to change."""

import datetime
import threading

import oslo_db.exception
import pytest

from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.rest import waiting
from glance_repl_mw.rest.waiting import WaitingRoom
from glance_repl_mw.spare_threads import SpareThreads
from tests.lab.process import wait_until

NOW = datetime.datetime(2026, 5, 4, 3, 2, 1)
LONG = 60.0


def replica(status, image_id="image", target="a"):
    values = dict.fromkeys(
        ("object_name", "size", "location_url", "checksum", "error", "next_attempt_at")
    )
    return Replica(
        image_id=image_id,
        target=target,
        upload_id="upload",
        status=ReplicaStatus(status),
        bytes_sent=0,
        attempts=0,
        created_at=NOW,
        updated_at=NOW,
        **values,
    )


class Rows:
    """What is now; `looks` holds the images of each look."""

    def __init__(self, *replicas):
        self.replicas = list(replicas)
        self.looks = []
        self.error = None

    def __call__(self, image_ids):
        self.looks.append(set(image_ids))
        if self.error:
            raise self.error
        return [each for each in self.replicas if each.image_id in image_ids]


class Waiter(threading.Thread):
    """Waits in a thread of its own; `pause` is what it was told."""

    def __init__(self, room, replica, seconds=LONG):
        super().__init__(daemon=True)
        self.pause = "waits"
        self._wait = lambda: room.wait(replica, seconds)
        self.start()

    def run(self):
        self.pause = self._wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "_LOOK_SECONDS", 0.01)


def end(waiters):
    for waiter in waiters:
        waiter.join(10)
        assert not waiter.is_alive()


def test_all_are_told_of_a_change_by_the_same_looks():
    rows = Rows(replica("pending"), replica("pending", "other"))
    room = WaitingRoom(rows, 8, LONG, SpareThreads())
    waiters = [Waiter(room, each) for each in rows.replicas * 2]
    wait_until(lambda: rows.looks and rows.looks[-1] == {"image", "other"}, 60, "all are seen")
    rows.replicas = [replica("active"), replica("error", "other")]
    end(waiters)
    assert [waiter.pause for waiter in waiters] == [None] * 4
    number = len(rows.looks)
    wait_until(lambda: not room._watches, 60, "nobody looks any more")
    assert len(rows.looks) <= number + 1


@pytest.mark.parametrize("status", ["active", "deleted"])
def test_what_is_settled_is_not_waited_for(status):
    rows = Rows()
    assert WaitingRoom(rows, 1, LONG, SpareThreads()).wait(replica(status), LONG) is None
    assert rows.looks == []


def test_no_wait_is_longer_than_allowed():
    rows = Rows(replica("pending"))
    end([Waiter(WaitingRoom(rows, 1, 0.05, SpareThreads()), rows.replicas[0])])


def test_who_finds_no_place_comes_again_later():
    rows = Rows(replica("pending"))
    room = WaitingRoom(rows, 1, LONG, SpareThreads())
    waiter = Waiter(room, rows.replicas[0])
    wait_until(lambda: rows.looks, 60, "it waits")
    pauses = [room.wait(rows.replicas[0], LONG) for _ in range(50)]
    assert pauses[0] == 2
    assert pauses == sorted(pauses)
    assert pauses[-1] == 6
    rows.replicas = [replica("active")]
    end([waiter])
    assert room.wait(replica("uploading"), LONG) is None


@pytest.mark.parametrize(
    ("first", "on_the_way", "last"),
    [
        ("pending", ["uploading", "stored"], "active"),
        ("error", ["pending", "uploading"], "active"),
        ("uploading", ["pending"], "error"),
        ("deleting", [], "deleted"),
    ],
)
def test_steps_on_the_way_end_no_wait(first, on_the_way, last):
    rows = Rows(replica(first))
    waiter = Waiter(WaitingRoom(rows, 1, LONG, SpareThreads()), rows.replicas[0])
    for status in on_the_way:
        rows.replicas = [replica(status)]
        number = len(rows.looks)
        wait_until(lambda number=number: len(rows.looks) > number + 1, 60, "it is seen")
        assert waiter.is_alive()
    rows.replicas = [replica(last)]
    end([waiter])


def new(room, image_id="image", target="a", seconds=LONG):
    """Waits for a replica that is not there."""
    waiter = Waiter.__new__(Waiter)
    threading.Thread.__init__(waiter, daemon=True)
    waiter.pause = "waits"
    waiter._wait = lambda: room.wait_for_new(image_id, target, seconds)
    waiter.start()
    return waiter


@pytest.mark.parametrize("before", [[], ["deleted"]])
def test_replica_that_is_not_there_is_waited_for_until_it_is_active(before):
    rows = Rows(*map(replica, before))
    waiter = new(WaitingRoom(rows, 1, LONG, SpareThreads()))
    for status in ("pending", "uploading"):
        number = len(rows.looks)
        wait_until(lambda number=number: len(rows.looks) > number + 1, 60, "it is looked for")
        assert waiter.is_alive()
        rows.replicas = [replica(status)]
    rows.replicas = [replica("active")]
    end([waiter])
    assert waiter.pause is None


def test_last_free_thread_of_a_process_never_waits():
    rows = Rows(replica("pending"))
    threads = SpareThreads()
    threads.learn({"wsgi.multithread": False})
    room = WaitingRoom(rows, 8, LONG, threads)
    assert room.wait(rows.replicas[0], LONG) == 2
    assert room.wait_for_new("image", "b", LONG) == 2
    assert rows.looks == []


def test_replica_that_is_gone_has_changed():
    rows = Rows()
    end([Waiter(WaitingRoom(rows, 1, LONG, SpareThreads()), replica("pending"))])


def test_nobody_waits_for_a_database_that_is_away():
    rows = Rows(replica("pending"))
    rows.error = oslo_db.exception.DBConnectionError()
    room = WaitingRoom(rows, 1, LONG, SpareThreads())
    end([Waiter(room, rows.replicas[0])])
    rows.error = None
    waiter = Waiter(room, rows.replicas[0])
    rows.replicas = [replica("active")]
    end([waiter])
