"""A target is used only while its collection is its own."""

import json
import types

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

    def read(self, name, most_bytes):
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
    memory.read = lambda name, most_bytes: None
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
    target._read_at = float("-inf")
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
