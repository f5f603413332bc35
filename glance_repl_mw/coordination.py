"""What the nodes that share a database know of each other, through tooz.

Only what has a ``coordination_url`` imports this: tooz brings much along, such as eventlet where
that is installed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
import time
import uuid
from collections.abc import Collection, Iterator

import tenacity
from oslo_log import log
from tooz import ToozError, coordination, hashring, locking

from glance_repl_mw import exceptions
from glance_repl_mw.locking import ImageLocks, name_of
from glance_repl_mw.model import SHARE_LETTERS
from glance_repl_mw.nodes import Nodes

LOG = log.getLogger(__name__)

_GROUP = b"glance-repl-mw"
_LOOK_SECONDS = 2.0
_LOCK_PREFIX = "glance-repl-mw-"
# Drivers may look once more, after a pause, for a lock that somebody holds.
_PATIENCE_SECONDS = 3.0
_PAUSE_SECONDS = 5.0
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
                LOG.warning("The other nodes are not known now: %s", error)
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

    Drivers of tooz may try for a minute to reach a coordinator that is gone, so each lock is asked
    for in a thread of its own; after a failure none is asked for during a pause.

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
        self._ask_again_at = 0.0

    @contextlib.contextmanager
    def _locked(self, image_id: str) -> Iterator[None]:
        lock = self._acquired(f"{_LOCK_PREFIX}{name_of(image_id)}".encode())
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                lock.release()

    def _acquired(self, name: bytes) -> locking.Lock:
        """The lock of this name, held.

        :raises TimeoutError: somebody else holds it for too long
        :raises OSError: there are no locks
        """
        if time.monotonic() < self._ask_again_at:
            raise OSError("the coordinator cannot be reached")
        asking: concurrent.futures.Future[locking.Lock | None] = concurrent.futures.Future()
        threading.Thread(target=self._ask, args=(name, asking), daemon=True).start()
        try:
            lock = asking.result(self._wait_seconds + _PATIENCE_SECONDS)
        except Exception as error:
            self._ask_again_at = time.monotonic() + _PAUSE_SECONDS
            asking.add_done_callback(_release)
            raise OSError(f"{type(error).__name__}: {error}") from error
        if lock is None:
            raise TimeoutError
        return lock

    def _ask(self, name: bytes, asking: concurrent.futures.Future[locking.Lock | None]) -> None:
        try:
            lock = self._connection().get_lock(name)
            # tooz takes seconds here as well, which its annotation does not say.
            is_acquired = lock.acquire(blocking=self._wait_seconds)  # type: ignore[arg-type]
            asking.set_result(lock if is_acquired else None)
        except tenacity.RetryError:
            # How the driver for etcd tells that the time is over.
            asking.set_result(None)
        except Exception as error:
            asking.set_exception(error)

    def _connection(self) -> coordination.CoordinationDriver:
        """One for each process: a server may fork after the filter was made."""
        with self._connecting:
            if self._coordinator is None or self._process != os.getpid():
                self._process = os.getpid()
                self._coordinator = connected(self._url, f"{self._node}-{self._process}")
            return self._coordinator


def _release(asked: concurrent.futures.Future[locking.Lock | None]) -> None:
    """Give back a lock that came too late."""
    with contextlib.suppress(Exception):
        lock = asked.result()
        if lock is not None:
            lock.release()


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
    try:
        coordination.get_coordinator(url, b"check")
    except (ToozError, ImportError, RuntimeError, ValueError) as error:
        # stevedore's error for an unknown driver is a RuntimeError; none of them holds the URL.
        raise exceptions.ConfigError(
            operation="read configuration", hint=f"[replication] coordination_url: {error}"
        ) from error


def look(url: str) -> frozenset[str]:
    """The nodes that live; blocks, for what checks the configuration.

    :raises Exception: of the driver's own kind, if the coordinator cannot be reached
    """
    coordinator = connected(url, f"check-{uuid.uuid4().hex}")
    try:
        return _members(coordinator)
    finally:
        coordinator.stop()
