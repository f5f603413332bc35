# SPDX-License-Identifier: Apache-2.0
"""A target whose collection is known to be its own.

Each collection has a marker object that names its target and the deployment, written when the
target is first used. Before the collection is used the marker is read, where it is written and
with the same credentials. So a URL that leads to the collection of another target, of another
deployment, or to one server under two names, does no harm. What such a place lacks says nothing of
the replicas either, so that it is not looked at; nor is one that has no marker any more, such as
the empty directory where a disk is to be mounted.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Stored
from glance_repl_mw.replicas.name import RESERVED
from glance_repl_mw.targets.base import Reader, Remark, Target

LOG = log.getLogger(__name__)

MARKER = f"{RESERVED}marker"
# For so long the marker is read, and another thread that reads it is waited for.
READ_SECONDS = 10.0
_MOST_BYTES = 4096
# For so long a marker that was read is believed: before a delete, and before anything else.
_DELETE_SECONDS = 30.0
_USE_SECONDS = 300.0
_SETTLE_SECONDS = 1.0
# A thread that needs the marker raises the error of the last reading if that is no older.
_FAILED_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class _Failure:
    """Why the marker was not seen to be right, and when."""

    error: exceptions.TargetError
    at: float


class Marking:
    """What is remembered of a target's marker; here, nothing."""

    def objection(self) -> str:
        """Why a collection without a marker must not be marked; empty where it may be."""
        return ""

    def remember(self) -> None:
        """The collection has the target's marker."""


class GuardedTarget(Target):
    """Another target, which is used only while its marker is right; used by any thread.

    :param deployment: the id of the deployment, the same on all of its nodes
    :param obstacle: tells why the target must not be used at all; empty where it may be
    :param marking: what is remembered of its marker; its errors are passed on
    """

    def __init__(
        self,
        target: Target,
        deployment: str,
        obstacle: Callable[[], str] = lambda: "",
        marking: Marking | None = None,
    ) -> None:
        super().__init__(target.name, target.conf)
        self.renewal_seconds = target.renewal_seconds
        self.options = target.options
        self._target = target
        self._deployment = deployment
        self._obstacle = obstacle
        self._marking = marking or Marking()
        # Held by the thread that reads the marker, or writes it.
        self._reading = threading.Lock()
        self._seen_at = float("-inf")
        self._failure: _Failure | None = None

    @property
    def places(self) -> Sequence[str]:
        return self._target.places

    def put(self, name: str, reader: Reader, size: int | None) -> Stored:
        self.confirm("put", _USE_SECONDS)
        return self._target.put(name, reader, size)

    def stat(self, name: str) -> Stored | None:
        self.confirm("stat", _USE_SECONDS)
        found = self._target.stat(name)
        if found is None:
            # It may have been asked of a place that is not the target's own since then.
            self.confirm("stat", 0)
        return found

    def open(self, name: str, offset: int = 0) -> Iterator[bytes]:
        self.confirm("open", _USE_SECONDS)
        return self._target.open(name, offset)

    def read(self, name: str, most_bytes: int, seconds: float) -> bytes | None:
        return self._target.read(name, most_bytes, seconds)

    def delete(self, name: str) -> None:
        self.confirm("delete", _DELETE_SECONDS)
        self._target.delete(name)

    def object_name(self, location_url: str) -> str | None:
        return self._target.object_name(location_url)

    def location(self, url: str) -> str:
        return self._target.location(url)

    def list(self) -> Iterator[str]:
        self.confirm("list", _USE_SECONDS)
        return self._target.list()

    def probe(self, name: str | None) -> None:
        self.confirm("probe", _USE_SECONDS)
        try:
            self._target.probe(name)
        except exceptions.ReplicaMissing:
            self.confirm("probe", 0)
            raise

    def check(self) -> Sequence[Remark]:
        self.confirm("check", 0)
        return self._target.check()

    def confirm(self, operation: str, believed_seconds: float) -> None:
        """See that the collection is the target's own; mark it where it has no marker yet.

        One thread at a time reads the marker. Others wait for it only where the marker was not
        seen lately enough for what they do, for some seconds at most, and share its error.

        :param believed_seconds: how long ago that may have been seen
        :raises TargetMisplaced: it is another one's, or had a marker and has none any more
        :raises TargetUnavailable: also where another thread has not read it in time
        :raises TargetRefused:
        """
        obstacle = self._obstacle()
        if obstacle:
            raise exceptions.TargetMoved(None, self.name, operation, obstacle)
        come_at = time.monotonic()
        if come_at - self._seen_at < believed_seconds:
            return
        if not self._reading.acquire(timeout=READ_SECONDS):
            hint = f"another thread has not read {MARKER} within {READ_SECONDS:g} s"
            raise exceptions.TargetUnavailable(None, self.name, operation, hint)
        try:
            self._look(operation, believed_seconds, come_at)
        finally:
            self._reading.release()

    def _look(self, operation: str, believed_seconds: float, come_at: float) -> None:
        """Read the marker, unless another thread has done so since ``come_at``."""
        now = time.monotonic()
        if self._seen_at > come_at or now - self._seen_at < believed_seconds:
            return
        failure = self._failure
        if failure and failure.at > min(come_at, now - _FAILED_SECONDS):
            # One error that several threads raise would have the traces of all of them.
            error = copy.copy(failure.error)
            error.operation = operation
            raise error
        try:
            self._compare(operation, self._marker(operation))
        except exceptions.TargetError as error:
            self._seen_at, self._failure = float("-inf"), _Failure(error, time.monotonic())
            raise
        self._seen_at, self._failure = now, None

    def claim(self) -> None:
        """Mark the collection as the target's own, whatever its marker says now.

        :raises TargetUnavailable:
        :raises TargetRefused:
        """
        with self._reading:
            self._target.delete(MARKER)
            self._write()
            self._compare("claim", self._read() or b"")
            self._failure = None

    def _marker(self, operation: str) -> bytes:
        found = self._read()
        if found is None:
            objection = self._marking.objection()
            if objection:
                raise exceptions.TargetMisplaced(None, self.name, operation, objection)
            LOG.info("Target %s: its collection gets a marker", self.name)
            self._write()
            # Another target that has found none either writes its own meanwhile.
            time.sleep(_SETTLE_SECONDS)
            found = self._read()
        if found is None:
            hint = f"{MARKER} cannot be read after it was written"
            raise exceptions.TargetUnavailable(None, self.name, operation, hint)
        return found

    def _read(self) -> bytes | None:
        return self._target.read(MARKER, _MOST_BYTES, READ_SECONDS)

    def _write(self) -> None:
        body = json.dumps(self._wanted).encode()
        self._target.put(MARKER, _Bytes(body), len(body))

    @property
    def _wanted(self) -> dict[str, str]:
        return {"target": self.name, "deployment": self._deployment}

    def _compare(self, operation: str, marker: bytes) -> None:
        try:
            found = json.loads(marker)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            found = {}
        if {key: found.get(key) for key in self._wanted} == self._wanted:
            self._marking.remember()
            return
        whose = f"target {found.get('target')!r:.80} of deployment {found.get('deployment')!r:.80}"
        hint = (
            f"its collection is marked as that of {whose if found else 'something else'}: correct "
            f"[replication:{self.name}] url, or, if it is this target's own, run "
            f"glance-repl-manage target claim {self.name}"
        )
        raise exceptions.TargetMisplaced(None, self.name, operation, hint)


class _Bytes:
    """A few bytes as a driver reads them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def wait(self) -> int:
        return len(self._data) - self.offset

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self.offset + size
        piece = self._data[self.offset : end]
        self.offset += len(piece)
        return piece

    def skip(self, count: int) -> None:
        self.offset += count

    def fileno(self) -> int | None:
        return None
