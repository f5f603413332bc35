# SPDX-License-Identifier: Apache-2.0
"""What a node knows of the others, and the locks that it shares with them.

Real coordinators are in tests/functional/test_nodes.py and test_coordinators.py.
"""

import socket
import threading
import traceback
import types
from concurrent import futures

import pytest

from glance_repl_mw import coordination, exceptions, locking
from glance_repl_mw.coordination import CoordinatedNodes, SharedImageLocks

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
SECONDS = 30


def test_node_that_does_not_know_the_others_looks_after_none():
    nodes = CoordinatedNodes("redis://127.0.0.1:1", "me")
    assert (nodes.alive, nodes.share()) == (None, frozenset())
    assert not nodes.looks_after("a0b1")


def test_nodes_share_all_images_and_each_has_some():
    members = frozenset({"one", "two", "three"})
    shares = []
    for name in sorted(members):
        nodes = CoordinatedNodes("redis://127.0.0.1:1", name)
        nodes._know(members)
        shares.append(set(nodes.share()))
    assert len(set().union(*shares)) == sum(len(share) for share in shares) == 256
    assert min(len(share) for share in shares) > 30


@pytest.mark.parametrize("url", ["nonsense://host", "host"])
def test_url_that_tooz_does_not_know(url):
    with pytest.raises(exceptions.ConfigError, match=r"\[replication\] coordination_url"):
        coordination.check_url(url)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("nonsense://user:hunter2@host", "no driver for nonsense://"),
        ("user:hunter2@host", "%XX"),
        ("etcd3+http://user:hunter2#@host", "%XX"),
        ("etcd3+http://user:hunter2/@host", "%XX"),
        ("redis://user:hunter2#@host", "%XX"),
        ("redis://user:12?hunter2@host", "%XX"),
        ("mysql://user:[hunter2]@host/tooz", "%XX"),
        ("redis://host?timeout=hunter2", "an option with a wrong value"),
    ],
)
def test_what_is_wrong_with_a_url_shows_no_secret(url, match):
    with pytest.raises(exceptions.ConfigError, match=match) as raised:
        coordination.check_url(url)
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))
    assert "user" not in raised.value.hint


def failure(kind, text, cause):
    try:
        try:
            raise cause
        except type(cause):
            raise kind(text)  # noqa: B904 - as drivers do
    except kind as error:
        return error


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (
            ConnectionRefusedError(111, "at user:hunter2"),
            "ToozConnectionError (Connection refused)",
        ),
        (socket.gaierror(-2, "hunter2"), "ToozConnectionError (the host name does not resolve)"),
        (PermissionError("user, hunter2"), "ToozConnectionError (PermissionError)"),
        (ValueError("hunter2"), "ToozConnectionError (ValueError)"),
    ],
)
def test_problem_of_a_coordinator_shows_no_secret(cause, told):
    error = failure(coordination.coordination.ToozConnectionError, "user:hunter2", cause)
    assert coordination.problem_of(error) == told
    assert coordination.problem_of(ValueError("hunter2")) == "ValueError"


def test_lock_that_cannot_be_had_shows_no_secret(locks, coordinator, caplog):
    coordinator.errors["connect"] = [ValueError("hunter2")]
    assert not is_had(locks)
    assert "ValueError" in caplog.text
    assert "hunter2" not in caplog.text


def test_nodes_that_are_not_known_show_no_secret(monkeypatch, caplog):
    def connected(url, member):
        raise ValueError("hunter2")

    monkeypatch.setattr(coordination, "connected", connected)
    CoordinatedNodes("redis://127.0.0.1:1", "me")._look()
    assert "ValueError" in caplog.text
    assert "hunter2" not in caplog.text


class Lock:
    """One of the coordinator; `released` is set at the end of a release that worked."""

    def __init__(self, coordinator):
        self._coordinator = coordinator
        self.released = threading.Event()

    def acquire(self, blocking):
        self._coordinator.do("acquire")
        return self._coordinator.is_free

    def release(self):
        self._coordinator.do("release")
        self.released.set()


class Coordinator:
    """Does what it is asked only when the test lets it where `hangs` says so.

    :ivar begun: by call, released whenever it begins
    :ivar errors: by call, what is raised by the next ones
    """

    def __init__(self):
        self.is_free = True
        self.locks = []
        self.calls = []
        self.hangs = set()
        self.let = threading.Event()
        self.begun = {call: threading.Semaphore(0) for call in ("connect", "acquire", "release")}
        self.errors = {call: [] for call in self.begun}

    def get_lock(self, name):
        self.locks.append(Lock(self))
        return self.locks[-1]

    def do(self, call):
        self.calls.append(call)
        self.begun[call].release()
        if call in self.hangs:
            assert self.let.wait(SECONDS)
        if self.errors[call]:
            raise self.errors[call].pop(0)

    def connected(self, url, member):
        self.do("connect")
        return self


@pytest.fixture
def coordinator(monkeypatch):
    coordinator = Coordinator()
    monkeypatch.setattr(coordination, "connected", coordinator.connected)
    monkeypatch.setattr(coordination, "_PATIENCE_SECONDS", SECONDS)
    monkeypatch.setattr(coordination, "_RELEASE_PAUSES_SECONDS", (0.0, 0.0, 0.0))
    yield coordinator
    coordinator.let.set()


@pytest.fixture
def locks(coordinator):
    return SharedImageLocks("redis://127.0.0.1:1", "me", 0.1)


@pytest.fixture
def patient(coordinator):
    return SharedImageLocks("redis://127.0.0.1:1", "me", SECONDS)


@pytest.fixture
def impatient(coordinator, monkeypatch):
    monkeypatch.setattr(coordination, "_PATIENCE_SECONDS", 0.1)


def is_had(locks, image=IMAGE):
    with locks.hold(image) as is_held:
        return is_held


def test_the_lock_is_given_back_before_the_answer(locks, coordinator, monkeypatch):
    monkeypatch.setattr(coordination, "_RELEASE_SECONDS", SECONDS)
    with locks.hold(IMAGE) as is_held:
        assert is_held
        assert coordinator.calls == ["connect", "acquire"]
    assert coordinator.locks[0].released.is_set()


@pytest.mark.parametrize("early", [True, False])
def test_coordinator_that_has_gone_holds_up_no_answer(locks, coordinator, monkeypatch, early):
    monkeypatch.setattr(coordination, "_RELEASE_SECONDS", 0.01)
    coordinator.hangs = {"release"}
    with locks.hold(IMAGE) as is_held:
        assert is_held
        if early:
            locking.let_go()
    assert coordinator.begun["release"].acquire(timeout=SECONDS)
    assert not coordinator.locks[0].released.is_set()
    coordinator.let.set()
    assert coordinator.locks[0].released.wait(SECONDS)


def test_next_change_waits_for_a_release_under_way(patient, coordinator, monkeypatch):
    """A driver may know locks by name and process only, and give back that of another."""
    monkeypatch.setattr(coordination, "_RELEASE_SECONDS", 0.01)
    coordinator.hangs = {"release"}
    assert is_had(patient)
    assert coordinator.begun["release"].acquire(timeout=SECONDS)
    with futures.ThreadPoolExecutor(1) as pool:
        second = pool.submit(is_had, patient)
        assert is_had(patient, "another image")
        assert len(coordinator.locks) == 2
        coordinator.let.set()
        assert second.result(SECONDS)
    assert coordinator.locks[0].released.is_set()
    assert len(coordinator.locks) == 3


def test_next_change_does_not_wait_for_long(locks, coordinator, monkeypatch):
    monkeypatch.setattr(coordination, "_RELEASE_SECONDS", 0.01)
    coordinator.hangs = {"release"}
    assert is_had(locks)
    assert not is_had(locks)
    assert len(coordinator.locks) == 1


def test_release_that_fails_is_tried_again(locks, coordinator):
    """Else the driver for etcd renews that lock as long as the process lives."""
    coordinator.errors["release"] = [OSError("away"), ValueError("still away")]
    assert is_had(locks)
    assert coordinator.locks[0].released.wait(SECONDS)
    assert is_had(locks)


def test_release_that_never_works_ends(locks, coordinator):
    coordinator.errors["release"] = [OSError("away")] * 3
    assert is_had(locks)
    assert is_had(locks)
    assert not coordinator.locks[0].released.is_set()


@pytest.mark.usefixtures("impatient")
def test_lock_that_comes_too_late_is_given_back(locks, coordinator):
    coordinator.hangs = {"acquire"}
    assert not is_had(locks)
    assert "release" not in coordinator.calls
    coordinator.let.set()
    assert coordinator.locks[0].released.wait(SECONDS)


def test_lock_of_somebody_else(locks, coordinator):
    coordinator.is_free = False
    for _ in range(2):
        assert not is_had(locks)
    assert coordinator.calls == ["connect", "acquire", "acquire"]


@pytest.mark.usefixtures("impatient")
def test_one_connection_is_made_and_nobody_queues_for_it_for_good(locks, coordinator):
    coordinator.hangs = {"connect"}
    with futures.ThreadPoolExecutor(4) as pool:
        holds = [pool.submit(is_had, locks, f"image {n}") for n in range(4)]
        assert [hold.result(SECONDS) for hold in holds] == [False] * 4
    coordinator.let.set()
    assert coordinator.begun["acquire"].acquire(timeout=SECONDS)
    assert coordinator.calls[:2] == ["connect", "acquire"]


def test_coordinator_that_is_away_is_not_asked_by_each(locks, coordinator):
    coordinator.errors["connect"] = [OSError("away")] * 2
    for _ in range(20):
        assert not is_had(locks)
    assert coordinator.calls == ["connect"]


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(coordination.time, "monotonic", lambda: clock.seconds)
    return clock


def test_pause_grows_while_the_coordinator_stays_away(clock):
    absence = coordination._Absence(13.0)
    pauses = []
    for _ in range(6):
        assert absence.may_ask()
        asked_at = clock.seconds
        clock.seconds += 12
        absence.failed(asked_at)
        begun = clock.seconds
        while not absence.may_ask():
            clock.seconds += 1
        pauses.append(clock.seconds - begun)
        # It was this one's trial, which gives up.
        clock.seconds += 13
    assert pauses == [5, 10, 20, 30, 30, 30]


def test_one_at_a_time_tries_and_those_who_asked_at_once_count_once(clock):
    absence = coordination._Absence(13.0)
    assert absence.may_ask()
    assert absence.may_ask()
    asked_at, clock.seconds = clock.seconds, clock.seconds + 13
    absence.failed(asked_at)
    clock.seconds += 1
    absence.failed(asked_at + 1)
    clock.seconds += 4
    assert absence.may_ask()
    assert not absence.may_ask()
    absence.answered()
    assert absence.may_ask()
    assert absence.may_ask()
    absence.failed(clock.seconds)
    clock.seconds += 5
    assert absence.may_ask()
