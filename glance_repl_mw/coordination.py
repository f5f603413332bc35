# SPDX-License-Identifier: Apache-2.0
"""What the nodes that share a database know of each other, through tooz.

Only what has a ``coordination_url`` imports this: tooz brings much along, such as eventlet where
that is installed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from concurrent import futures

import tenacity
from oslo_log import log
from tooz import ToozError, coordination, hashring, locking

from glance_repl_mw import exceptions
from glance_repl_mw.background import in_background
from glance_repl_mw.causes import causes
from glance_repl_mw.locking import ImageLocks, name_of
from glance_repl_mw.model import SHARE_LETTERS
from glance_repl_mw.nodes import Nodes
from glance_repl_mw.urls import NOT_A_URL, is_cut_by_password, is_url

LOG = log.getLogger(__name__)

_GROUP = b"glance-repl-mw"
_LOOK_SECONDS = 2.0
_LOCK_PREFIX = "glance-repl-mw-"
# Drivers may look once more, after a pause, for a lock that somebody holds.
_PATIENCE_SECONDS = 3.0
_SHORTEST_WAIT_SECONDS = 0.1
# So long an answer waits for the lock to be given back, so that the next change finds it free.
_RELEASE_SECONDS = 0.5
# A driver may renew a lock whose release has failed for as long as the process lives.
_RELEASE_PAUSES_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 30.0
_SHARES = [f"{number:0{SHARE_LETTERS}x}" for number in range(16**SHARE_LETTERS)]


class CoordinatedNodes(Nodes):
    """The nodes that a coordinator knows.

    :param url: of the coordinator as tooz wants it
    """

    is_alone = False

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name)
        self._url = url
        self._members: frozenset[str] | None = None
        self._share: frozenset[str] = frozenset()
        self._coordinator: coordination.CoordinationDriver | None = None

    @property
    def alive(self) -> Collection[str] | None:
        return self._members

    def share(self) -> Collection[str]:
        return self._share

    def start(self, stopping: threading.Event) -> None:
        threading.Thread(
            target=self._look_forever, args=(stopping,), name="coordination", daemon=True
        ).start()

    def _look_forever(self, stopping: threading.Event) -> None:
        self._look()
        while not stopping.wait(_LOOK_SECONDS):
            self._look()
        if self._coordinator is not None:
            with contextlib.suppress(Exception):
                self._coordinator.leave_group(_GROUP).get()
                self._coordinator.stop()

    def _look(self) -> None:
        try:
            if self._coordinator is None:
                self._coordinator = connected(self._url, self.name)
            self._know(self._listed(self._coordinator))
        # Drivers of tooz let errors of their libraries out, each another kind.
        except Exception as error:
            if self._members is not None or self._coordinator is None:
                LOG.warning("The other nodes are not known now: %s", problem_of(error))
            self._members, self._share = None, frozenset()

    def _listed(self, coordinator: coordination.CoordinationDriver) -> frozenset[str]:
        """All members, and this one, which may have been taken for dead."""
        members = _members(coordinator)
        if self.name not in members:
            with contextlib.suppress(coordination.GroupAlreadyExist):
                coordinator.create_group(_GROUP).get()
            with contextlib.suppress(coordination.MemberAlreadyExist):
                coordinator.join_group(_GROUP).get()
            members = _members(coordinator)
        return members | {self.name}

    def _know(self, members: frozenset[str]) -> None:
        if members == self._members:
            return
        LOG.info("The nodes are %s", ", ".join(sorted(members)))
        ring = hashring.HashRing(sorted(members))
        self._share = frozenset(
            share for share in _SHARES if self.name in ring.get_nodes(share.encode())
        )
        self._members = members


def _members(coordinator: coordination.CoordinationDriver) -> frozenset[str]:
    try:
        members = coordinator.get_members(_GROUP).get()
    except coordination.GroupNotCreated:
        return frozenset()
    return frozenset(member.decode() for member in members)


class SharedImageLocks(ImageLocks):
    """Shared by all nodes.

    Drivers of tooz may try for minutes to reach a coordinator that is gone, so each lock is asked
    for, held and given back by a thread of its own. While it stays away it is asked ever more
    rarely.

    :param node: the name of this one
    """

    is_shared = True

    def __init__(self, url: str, node: str, wait_seconds: float = 10.0) -> None:
        super().__init__(wait_seconds)
        self._url = url
        self._node = node
        self._coordinator: coordination.CoordinationDriver | None = None
        self._process = 0
        self._connecting = threading.Lock()
        self._absence = _Absence(wait_seconds + _PATIENCE_SECONDS)
        self._turns = _Turns()

    @contextlib.contextmanager
    def _locked(self, image_id: str) -> Iterator[None]:
        if not self._absence.may_ask():
            raise OSError("the coordinator cannot be reached")
        name = f"{_LOCK_PREFIX}{name_of(image_id)}".encode()
        asked: futures.Future[bool] = futures.Future()
        over = threading.Event()
        holding = in_background(functools.partial(self._hold, name, asked, over))
        try:
            self._wait_for(asked)
            yield
        finally:
            over.set()
            if asked.done():
                futures.wait([holding], _RELEASE_SECONDS)

    def _wait_for(self, asked: futures.Future[bool]) -> None:
        """Return when the lock is held.

        :raises TimeoutError: somebody else holds it for too long
        :raises OSError: there are no locks
        """
        asked_at = time.monotonic()
        try:
            is_held = asked.result(self._wait_seconds + _PATIENCE_SECONDS)
        except Exception as error:
            self._absence.failed(asked_at)
            raise OSError(problem_of(error)) from error
        if not is_held:
            raise TimeoutError

    def _hold(self, name: bytes, asked: futures.Future[bool], over: threading.Event) -> None:
        """For a thread of its own: ask for the lock, hold it while that is wanted, give it back.

        :param asked: gets whether the lock is held, or why that is not known
        :param over: set when nobody needs the lock any more, which may come too late
        """
        end = time.monotonic() + self._wait_seconds
        if not self._turns.take(name, self._wait_seconds):
            asked.set_result(False)
            return
        try:
            lock = self._ask(name, end)
            self._absence.answered()
            asked.set_result(lock is not None)
            if lock is not None:
                over.wait()
                _release(lock)
        except Exception as error:
            asked.set_exception(error)
        finally:
            self._turns.end(name)

    def _ask(self, name: bytes, end: float) -> locking.Lock | None:
        """The lock, held; None where somebody else holds it until ``end``."""
        lock = self._connection(end).get_lock(name)
        seconds = max(_SHORTEST_WAIT_SECONDS, end - time.monotonic())
        try:
            # tooz takes seconds here as well, which its annotation does not say.
            is_acquired = lock.acquire(blocking=seconds)  # type: ignore[arg-type]
        except tenacity.RetryError:
            # How the driver for etcd tells that the time is over.
            return None
        return lock if is_acquired else None

    def _connection(self, end: float) -> coordination.CoordinationDriver:
        """One for each process: a server may fork after the filter was made."""
        if not self._connecting.acquire(timeout=max(0.0, end - time.monotonic())):
            raise coordination.ToozConnectionError("another request has no connection yet")
        try:
            if self._coordinator is None or self._process != os.getpid():
                self._process = os.getpid()
                self._coordinator = connected(self._url, f"{self._node}-{self._process}")
            return self._coordinator
        finally:
            self._connecting.release()


def _release(lock: locking.Lock) -> None:
    """Give the lock back, or try to for longer than it lasts by itself; raises nothing."""
    for pause in _RELEASE_PAUSES_SECONDS:
        time.sleep(pause)
        with contextlib.suppress(Exception):
            lock.release()
            return


class _Turns:
    """Lets one thread of the process at a time have to do with a lock, until it is given back.

    Some drivers tell locks of one name and process apart by nothing.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[tuple[int, bytes]] = set()

    def take(self, name: bytes, seconds: float) -> bool:
        """Whether our turn came in time, which has to be ended then; blocks."""
        turn = _in_this_process(name)
        with self._changed:
            if not self._changed.wait_for(lambda: turn not in self._taken, seconds):
                return False
            self._taken.add(turn)
            return True

    def end(self, name: bytes) -> None:
        with self._changed:
            self._taken.discard(_in_this_process(name))
            self._changed.notify_all()


def _in_this_process(name: bytes) -> tuple[int, bytes]:
    """A server may fork while another thread has its turn."""
    return os.getpid(), name


class _Absence:
    """For how long a coordinator is left alone that has not answered; used by any thread.

    The pause doubles while it stays away; at its end one thread at a time tries.

    :param trial_seconds: how long a trial takes at most
    """

    def __init__(self, trial_seconds: float) -> None:
        self._trial_seconds = trial_seconds
        self._lock = threading.Lock()
        self._pause_seconds = 0.0
        self._failed_at = float("-inf")
        self._ask_again_at = float("-inf")

    def may_ask(self) -> bool:
        now = time.monotonic()
        with self._lock:
            if now < self._ask_again_at:
                return False
            if self._pause_seconds:
                self._ask_again_at = now + self._trial_seconds
            return True

    def answered(self) -> None:
        with self._lock:
            self._pause_seconds, self._ask_again_at = 0.0, float("-inf")

    def failed(self, asked_at: float) -> None:
        now = time.monotonic()
        with self._lock:
            # Of those who asked at the same time, the first one counts.
            if asked_at < self._failed_at:
                return
            self._failed_at = now
            longer = max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds)
            self._pause_seconds = min(longer, _LONGEST_PAUSE_SECONDS)
            self._ask_again_at = now + self._pause_seconds


def connected(url: str, member: str) -> coordination.CoordinationDriver:
    """A connection to the coordinator, kept alive by a thread of its own.

    :raises Exception: of the driver's own kind, if it cannot be reached
    """
    coordinator = coordination.get_coordinator(url, member.encode())
    coordinator.start(start_heart=True)
    return coordinator


def check_url(url: str) -> None:
    """See that tooz has a driver for the URL; opens no connection.

    :raises ConfigError:
    """
    if "://" not in url or is_cut_by_password(url):
        raise _unusable(NOT_A_URL)
    try:
        coordination.get_coordinator(url, b"check")
    except ValueError:
        # Its text quotes what cannot be parsed: a part of the password, say.
        why = "has an option with a wrong value" if is_url(url) else NOT_A_URL
        raise _unusable(why) from None
    except ImportError as error:
        raise _unusable(f"{error} (is the driver installed?)") from None
    except RuntimeError:
        # Of stevedore.
        raise _unusable(f"tooz has no driver for {url.partition('://')[0]}://") from None
    except ToozError as error:
        raise _unusable(problem_of(error)) from None


def _unusable(hint: str) -> exceptions.ConfigError:
    return exceptions.ConfigError(
        operation="read configuration", hint=f"[replication] coordination_url: {hint}"
    )


def problem_of(error: BaseException) -> str:
    """What is wrong with a coordinator: kinds of errors, since their texts may quote its URL."""
    chain = list(causes(error))
    root = chain[-1]
    number = next((each.errno for each in chain if isinstance(each, OSError) and each.errno), 0)
    if isinstance(root, socket.gaierror):
        inner = "the host name does not resolve"
    else:
        inner = os.strerror(number) if number else type(root).__name__
    outer = type(error).__name__
    return outer if outer == inner else f"{outer} ({inner})"


def look(url: str) -> frozenset[str]:
    """The nodes that live; blocks, for what checks the configuration.

    :raises Exception: of the driver's own kind, if the coordinator cannot be reached
    """
    coordinator = connected(url, f"check-{uuid.uuid4().hex}")
    try:
        return _members(coordinator)
    finally:
        coordinator.stop()
