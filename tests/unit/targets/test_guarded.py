# SPDX-License-Identifier: Apache-2.0
"""A target is used only while its collection is its own."""

import json
import threading
import types
from concurrent import futures

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.model import Stored
from glance_repl_mw.targets import guarded
from glance_repl_mw.targets.base import Target
from glance_repl_mw.targets.guarded import MARKER, GuardedTarget, Marking

OURS = json.dumps({"target": "site-a", "deployment": "d1"}).encode()


class Memory(Target):
    """Objects in a dict that several targets may share."""

    def __init__(self, name, objects):
        super().__init__(name, types.SimpleNamespace())
        self.objects = objects
        self.reads = 0

    def put(self, name, reader, size):
        self.objects[name] = reader.read()
        return self.stat(name)

    def stat(self, name):
        return Stored(name, len(self.objects[name])) if name in self.objects else None

    def read(self, name, most_bytes, seconds):
        self.reads += 1
        found = self.objects.get(name)
        return None if found is None else found[:most_bytes]

    def open(self, name, offset=0):
        yield self.objects[name][offset:]

    def delete(self, name):
        self.objects.pop(name, None)

    def object_name(self, location_url):
        return location_url

    def list(self):
        return iter(self.objects)

    def probe(self, name):
        pass

    def check(self):
        return []


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr(guarded, "_SETTLE_SECONDS", 0.0)


@pytest.fixture
def memory():
    return Memory("site-a", {"replica": b"bytes"})


def test_first_use_marks_the_collection(memory):
    GuardedTarget(memory, "d1").delete("replica")
    assert memory.objects == {MARKER: OURS}


@pytest.mark.parametrize(
    "marker",
    [
        json.dumps({"target": "site-b", "deployment": "d1"}).encode(),
        json.dumps({"target": "site-a", "deployment": "another"}).encode(),
        json.dumps({"target": "site-a"}).encode(),
        b"<html>not found</html>",
        b"[]",
        b"",
        b"[" * 4096,
        b"\xff\xfe",
        b'{"target": "site-a", "deployment": "d1"' + b" " * 5000,
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda target: target.delete("replica"),
        lambda target: target.put("new", guarded._Bytes(b"x"), 1),
        lambda target: target.probe(None),
        lambda target: target.check(),
        lambda target: target.stat("replica"),
        lambda target: target.open("replica"),
        lambda target: target.list(),
    ],
)
def test_collection_of_somebody_else_is_left_alone(memory, marker, use):
    memory.objects[MARKER] = marker
    with pytest.raises(exceptions.TargetMisplaced, match=r"replication:site-a\] url"):
        use(GuardedTarget(memory, "d1"))
    assert memory.objects == {MARKER: marker, "replica": b"bytes"}


def test_two_targets_at_one_place_are_one_too_many(memory):
    first = GuardedTarget(memory, "d1")
    second = GuardedTarget(Memory("site-b", memory.objects), "d1")
    first.probe(None)
    with pytest.raises(exceptions.TargetMisplaced, match="'site-a'"):
        second.delete("replica")
    assert "replica" in memory.objects


def test_server_that_forgets_the_marker_is_not_used(memory):
    memory.read = lambda *_: None
    with pytest.raises(exceptions.TargetUnavailable, match="after it was written"):
        GuardedTarget(memory, "d1").delete("replica")
    assert "replica" in memory.objects


def test_marker_is_believed_for_a_while_and_not_after_it_was_wrong(memory, monkeypatch):
    clock = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(guarded.time, "monotonic", lambda: clock.seconds)
    target = GuardedTarget(memory, "d1")
    for _ in range(3):
        target.delete("nothing")
    reads = memory.reads
    clock.seconds += 10
    target.delete("nothing")
    assert memory.reads == reads
    clock.seconds += 60
    memory.objects[MARKER] = b"another's"
    for _ in range(2):
        with pytest.raises(exceptions.TargetMisplaced):
            target.delete("replica")
        clock.seconds += 5
    memory.objects[MARKER] = OURS
    target.delete("replica")
    assert "replica" not in memory.objects


def test_operator_claims_a_collection(memory):
    memory.objects[MARKER] = b"of a deployment that is no more"
    target = GuardedTarget(memory, "d1")
    target.claim()
    target.delete("replica")
    assert memory.objects == {MARKER: OURS}


def test_changed_place_stops_every_use_until_it_is_right(memory):
    obstacle = ["[replication:site-a] url was changed"]
    target = GuardedTarget(memory, "d1", lambda: obstacle[0])
    with pytest.raises(exceptions.TargetMoved, match="was changed"):
        target.delete("replica")
    assert memory.objects == {"replica": b"bytes"}
    obstacle[0] = ""
    target.delete("replica")


def test_what_another_place_lacks_says_nothing_of_the_replicas(memory):
    target = GuardedTarget(memory, "d1", lambda: "[replication:site-a] url was changed")
    for use in (target.stat, target.open):
        with pytest.raises(exceptions.TargetMoved, match="was changed"):
            use("replica that was not moved along")


def test_targets_that_mark_one_place_at_the_same_time_are_one_too_many(memory, monkeypatch):
    second = GuardedTarget(Memory("site-b", memory.objects), "d1")
    # Both have found no marker, and the other one writes last.
    monkeypatch.setattr(guarded.time, "sleep", lambda seconds: second._write())
    with pytest.raises(exceptions.TargetMisplaced, match="'site-b'"):
        GuardedTarget(memory, "d1").delete("replica")
    second.delete("nothing")
    assert "replica" in memory.objects


class Objecting(Marking):
    """Knows a marker that is to be there."""

    def __init__(self):
        self.known = False

    def objection(self):
        return "the marker is lost: run target claim" if self.known else ""

    def remember(self):
        self.known = True


def test_collection_that_has_lost_its_marker_is_left_alone_until_it_is_claimed(memory):
    target = GuardedTarget(memory, "d1", marking=Objecting())
    target.probe(None)
    memory.objects.clear()  # the disk is not mounted
    target._seen_at = float("-inf")
    for _ in range(2):
        with pytest.raises(exceptions.TargetMisplaced, match="target claim"):
            target.list()
    assert memory.objects == {}
    target.claim()
    target.list()
    assert memory.objects == {MARKER: OURS}


@pytest.mark.parametrize("use", ["stat", "probe"])
def test_object_is_missing_only_where_the_marker_is_still_there(memory, use):
    """The marker is believed for minutes, and the disk has gone since it was read."""

    def probe(name):
        if name not in memory.objects:
            raise exceptions.ReplicaMissing(target="site-a", hint="404")

    memory.probe = probe
    target = GuardedTarget(memory, "d1", marking=Objecting())
    getattr(target, use)("replica")
    memory.objects.clear()
    with pytest.raises(exceptions.TargetMisplaced, match="target claim"):
        getattr(target, use)("replica")


def test_what_is_missing_from_its_own_collection_is_missing(memory):
    target = GuardedTarget(memory, "d1", marking=Objecting())
    assert target.stat("another") is None


class Door:
    """A lock; `waiting` is released by each thread that is about to wait for it."""

    def __init__(self):
        self._lock = threading.Lock()
        self.waiting = threading.Semaphore(0)

    def acquire(self, timeout):
        if self._lock.acquire(blocking=False):
            return True
        self.waiting.release()
        return self._lock.acquire(timeout=timeout)

    def release(self):
        self._lock.release()


class Hanging(Memory):
    """Its marker is read, or written, only when the test says so; `outcome` is raised then."""

    def __init__(self):
        super().__init__("site-a", {"replica": b"bytes", MARKER: OURS})
        self.asked = threading.Semaphore(0)
        self.answered = threading.Semaphore(0)
        self.outcome = None
        self.bounds = []

    def read(self, name, most_bytes, seconds):
        self.bounds.append(seconds)
        found = super().read(name, most_bytes, seconds)
        self._hang()
        return found

    def _hang(self):
        self.asked.release()
        assert self.answered.acquire(timeout=30)
        if self.outcome:
            raise self.outcome


@pytest.fixture
def hanging():
    return Hanging()


@pytest.fixture
def target(hanging):
    target = GuardedTarget(hanging, "d1")
    target._reading = Door()
    return target


@pytest.fixture
def threads(hanging):
    with futures.ThreadPoolExecutor(8) as pool:
        yield pool
        hanging.answered.release(100)


DOWN = exceptions.TargetUnavailable(target="site-a", operation="read", hint="no answer for 10 s")
DOWN.retry_after_seconds = 7.0


def test_who_waited_for_a_marker_in_vain_is_told_at_once(hanging, target, threads, monkeypatch):
    monkeypatch.setattr(guarded, "_FAILED_SECONDS", 0.0)
    hanging.outcome = DOWN
    pushes = [threads.submit(target.put, "new", guarded._Bytes(b"x"), 1)]
    assert hanging.asked.acquire(timeout=30)
    pushes += [threads.submit(target.stat, "replica") for _ in range(4)]
    for _ in range(4):
        assert target._reading.waiting.acquire(timeout=30)
    hanging.answered.release()
    errors = [push.exception(timeout=30) for push in pushes]
    assert hanging.reads == 1
    assert {(type(error), error.hint, error.retry_after_seconds) for error in errors} == {
        (exceptions.TargetUnavailable, "no answer for 10 s", 7.0)
    }
    assert [error.operation for error in errors] == ["read", *["stat"] * 4]
    assert len(set(map(id, errors))) == 5
    # Who comes later looks itself.
    hanging.outcome = None
    hanging.answered.release()
    assert target.stat("replica")
    assert hanging.reads == 2


def test_failure_is_told_for_some_seconds_and_then_forgotten(memory, monkeypatch):
    clock = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(guarded.time, "monotonic", lambda: clock.seconds)
    target = GuardedTarget(memory, "d1")
    memory.objects[MARKER] = b"another's"
    for _ in range(3):
        with pytest.raises(exceptions.TargetMisplaced):
            target.stat("replica")
        clock.seconds += 1
    assert memory.reads == 1
    clock.seconds += 1
    memory.objects[MARKER] = OURS
    assert target.stat("replica")
    # What was seen since counts, also for who believes nothing.
    target.check()
    assert memory.reads == 3


def test_nobody_waits_for_longer_than_the_marker_may_take(hanging, target, threads, monkeypatch):
    """A probe, say, while the server does not take the marker that a push writes."""
    monkeypatch.setattr(guarded, "READ_SECONDS", 0.05)
    push = threads.submit(target.put, "new", guarded._Bytes(b"x"), 1)
    assert hanging.asked.acquire(timeout=30)
    with pytest.raises(exceptions.TargetUnavailable, match=r"within 0\.05 s") as caught:
        target.probe(None)
    assert caught.value.operation == "probe"
    assert not push.done()
    assert hanging.bounds == [0.05]


def test_only_who_must_know_better_waits(hanging, target, threads, monkeypatch):
    """A delete that looks again holds up nothing for which the marker was seen lately enough."""
    clock = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(guarded.time, "monotonic", lambda: clock.seconds)
    hanging.answered.release()
    target.probe(None)
    assert hanging.asked.acquire(timeout=30)
    clock.seconds += 100
    hanging.outcome = DOWN
    deletion = threads.submit(target.delete, "replica")
    assert hanging.asked.acquire(timeout=30)
    target.probe(None)
    assert target.stat("replica")
    hanging.answered.release()
    assert deletion.exception(timeout=30).hint == DOWN.hint
    # Then nobody believes it any more.
    with pytest.raises(exceptions.TargetUnavailable):
        target.stat("replica")
    assert "replica" in hanging.objects


def test_who_waited_for_a_marker_that_was_right_does_not_read_it_again(hanging, target, threads):
    uses = [threads.submit(target.stat, "replica")]
    assert hanging.asked.acquire(timeout=30)
    uses += [threads.submit(target.delete, "nothing") for _ in range(4)]
    for _ in range(4):
        assert target._reading.waiting.acquire(timeout=30)
    hanging.answered.release()
    for use in uses:
        use.result(timeout=30)
    assert hanging.reads == 1
