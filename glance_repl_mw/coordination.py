"""What the nodes that share a database know of each other, through tooz.

Without ``coordination_url`` a node is alone: it looks after all images, and its locks are files
beside the spool.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import threading
import uuid
from collections.abc import Collection, Iterator

from oslo_log import log
from tooz import ToozError, coordination, hashring

from glance_repl_mw import exceptions
from glance_repl_mw.locking import ImageLocks, NodeImageLocks, number_of
from glance_repl_mw.model import SHARE_LETTERS

LOG = log.getLogger(__name__)

NODE_FILE = "node"
_GROUP = b"glance-repl-mw"
_LOOK_SECONDS = 2.0
_SHARES = [f"{number:0{SHARE_LETTERS}x}" for number in range(16**SHARE_LETTERS)]


def node_name(spool: pathlib.Path) -> str:
    """The name of the node that this spool belongs to, made when it is first asked for.

    It outlives restarts and another host name, so that a node knows its rows again.

    :raises OSError: the spool cannot be written
    """
    path = spool / NODE_FILE
    with contextlib.suppress(FileNotFoundError):
        if name := path.read_text().strip():
            return name
    host = socket.gethostname().partition(".")[0][:40]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f"{host}-{uuid.uuid4().hex[:12]}")
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
    return path.read_text()


class Nodes:
    """The nodes whose writers live, and which images are this one's to look after.

    May be used from any thread; nothing blocks.

    :param url: of the coordinator as tooz wants it, empty where the node is alone
    """

    def __init__(self, url: str = "", name: str = "") -> None:
        self.name = name
        self.is_alone = not url
        self._url = url
        self._members: frozenset[str] | None = frozenset((name,)) if self.is_alone else None
        self._share: frozenset[str] = frozenset()
        self._coordinator: coordination.CoordinationDriver | None = None

    @property
    def alive(self) -> Collection[str] | None:
        """The names of the nodes whose writers live, None while that is not known."""
        return self._members

    def share(self) -> Collection[str] | None:
        """How the ids of the images begin that are this node's; None for all.

        Empty while the coordinator cannot be asked: the other nodes look after them.
        """
        return None if self.is_alone else self._share

    def looks_after(self, key: str) -> bool:
        """Whether what has this id, as an image, is this node's to look after."""
        return self.is_alone or key[:SHARE_LETTERS].lower() in self._share

    def start(self, stopping: threading.Event) -> None:
        """Join the other nodes, and keep looking who they are until ``stopping`` is set."""
        if not self.is_alone:
            threading.Thread(
                target=self._look_forever, args=(stopping,), name="coordination", daemon=True
            ).start()

    def _look_forever(self, stopping: threading.Event) -> None:
        self._look()
        while not stopping.wait(_LOOK_SECONDS):
            self._look()
        if self._coordinator is not None:
            with contextlib.suppress(ToozError):
                self._coordinator.leave_group(_GROUP).get()
                self._coordinator.stop()

    def _look(self) -> None:
        try:
            if self._coordinator is None:
                self._coordinator = connected(self._url, self.name)
            self._know(self._listed(self._coordinator))
        except ToozError as error:
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


def image_locks(url: str, spool: pathlib.Path) -> ImageLocks:
    """The locks that all nodes share, or those of a node that is alone.

    :raises OSError: the spool cannot be written
    """
    return SharedImageLocks(url, node_name(spool)) if url else NodeImageLocks(spool)


class SharedImageLocks(ImageLocks):
    """Shared by all nodes.

    :param node: the name of this one
    """

    def __init__(self, url: str, node: str, wait_seconds: float = 10.0) -> None:
        super().__init__(wait_seconds)
        self._url = url
        self._node = node
        self._coordinator: coordination.CoordinationDriver | None = None
        self._process = 0
        self._connecting = threading.Lock()

    @contextlib.contextmanager
    def _locked(self, image_id: str) -> Iterator[None]:
        try:
            lock = self._connection().get_lock(f"{number_of(image_id):03x}".encode())
            # tooz takes seconds here as well, which its annotation does not say.
            if not lock.acquire(blocking=self._wait_seconds):  # type: ignore[arg-type]
                raise TimeoutError
        except ToozError as error:
            raise OSError(str(error)) from error
        try:
            yield
        finally:
            with contextlib.suppress(ToozError):
                lock.release()

    def _connection(self) -> coordination.CoordinationDriver:
        """One for each process: a server may fork after the filter was made."""
        with self._connecting:
            if self._coordinator is None or self._process != os.getpid():
                self._process = os.getpid()
                self._coordinator = connected(self._url, f"{self._node}-{self._process}")
            return self._coordinator


def connected(url: str, member: str) -> coordination.CoordinationDriver:
    """A connection to the coordinator, kept alive by a thread of its own.

    :raises ToozError: it cannot be reached
    """
    coordinator = coordination.get_coordinator(url, member.encode())
    coordinator.start(start_heart=True)
    return coordinator


def check_url(url: str) -> None:
    """See that tooz has a driver for the URL; opens no connection.

    :raises ConfigError:
    """
    if not url:
        return
    try:
        coordination.get_coordinator(url, b"check")
    except (ToozError, ImportError, RuntimeError, ValueError) as error:
        # stevedore's error for an unknown driver is a RuntimeError; none of them holds the URL.
        raise exceptions.ConfigError(
            operation="read configuration", hint=f"[replication] coordination_url: {error}"
        ) from error


def look(url: str) -> frozenset[str]:
    """The nodes that live; blocks, for what checks the configuration.

    :raises ToozError: the coordinator cannot be reached
    """
    coordinator = connected(url, f"check-{uuid.uuid4().hex}")
    try:
        return _members(coordinator)
    finally:
        coordinator.stop()
