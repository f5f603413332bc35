# SPDX-License-Identifier: Apache-2.0
"""The ways of one upload to all of its targets."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw.model import Replica, ReplicaStatus, Stored, Wish
from glance_repl_mw.reconciler.deletion_guard import SeenImage, delete_objects
from glance_repl_mw.replicas.deletion import Cause
from glance_repl_mw.replicas.name import upload_of
from glance_repl_mw.spool.reader import Gate
from glance_repl_mw.spool.upload import Upload
from glance_repl_mw.targets.base import Target
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.push import Push

LOG = log.getLogger(__name__)


class Pushes:
    """Starts and repeats the pushes of one upload; every method is the main loop's.

    :param rows: the upload's rows by target
    :param on_outcome: called with a push that has ended, and what it stored or why it failed
    :ivar upload: as its sidecar tells it now
    """

    def __init__(
        self,
        crew: Crew,
        upload: Upload,
        rows: Mapping[str, Replica],
        gate: Gate,
        on_outcome: Callable[[Push, Stored | None, BaseException | None], None],
    ) -> None:
        self.upload = upload
        self._crew = crew
        self._gate = gate
        self._on_outcome = on_outcome
        self._path = crew.spool.data_path(upload.upload_id)
        self._by_target = {
            name: Push(target, rows[name], crew.paces[name], is_shared=not crew.is_alone)
            for name, target in crew.targets.items()
            if name in rows
        }

    def __iter__(self) -> Iterator[Push]:
        return iter(self._by_target.values())

    def __bool__(self) -> bool:
        return bool(self._by_target)

    @property
    def targets(self) -> list[str]:
        return list(self._by_target)

    @property
    def unended(self) -> list[str]:
        """The targets at which something is left to do."""
        return [push.target.name for push in self if not push.has_ended]

    @property
    def any_runs(self) -> bool:
        return any(push.running for push in self)

    @property
    def any_is_ready(self) -> bool:
        """Whether a location may be asked for."""
        return any(push.is_ready_for_location for push in self)

    @property
    def all_have_ended(self) -> bool:
        return all(push.has_ended for push in self)

    @property
    def any_is_yielded(self) -> bool:
        """Whether another node makes a replica of the image now, and may fail."""
        return any(push.is_yielded for push in self)

    @property
    def only_retries_are_left(self) -> bool:
        """Whether every replica is done or has failed and waits."""
        return all(push.has_ended or push.retry_at is not None for push in self)

    def adopt(self, locations: Sequence[str]) -> None:
        """Take up what is a location already, as where the rows were lost or are older.

        It is never written again; the target is asked whether it is complete.
        """
        for push in self:
            if push.has_ended or push.running:
                continue
            for url in locations:
                name = push.target.object_name(url)
                if name and upload_of(self.upload.image_id, push.target.name, name):
                    push.adopt(name, url)
                    break

    def start(self) -> None:
        """Begin what has not begun, and confirm what an earlier writer stored."""
        for push in self:
            if push.status is ReplicaStatus.STORED:
                self._confirm(push)
            elif push.status is ReplicaStatus.PENDING:
                self.put(push)

    def put(self, push: Push) -> None:
        """Write the upload to the target."""
        push.status = ReplicaStatus.UPLOADING
        upload = self.upload
        LOG.debug("Image %s, target %s: transfer waits", upload.image_id, push.target.name)
        self._run(push, lambda: push.put(self._crew.store, self._path, self._gate, upload))

    def _confirm(self, push: Push) -> None:
        push.is_doubted = True
        self._run(push, functools.partial(push.confirm, self.upload))

    def _run(self, push: Push, attempt: Callable[[], Stored]) -> None:
        push.running = True
        self._crew.at_target(push.target.name, attempt, functools.partial(self._ended, push))

    def _ended(self, push: Push, stored: Stored | None, error: BaseException | None) -> None:
        push.running = False
        self._on_outcome(push, stored, error)

    def retry(self, target: str | None = None) -> None:
        """Try again at once what has failed, at one target or at all."""
        for push in self:
            if target in (None, push.target.name) and push.retry_at is not None:
                self._retry(push)

    def retry_due(self) -> None:
        """Try again what has waited long enough."""
        now = time.monotonic()
        for push in self:
            if push.retry_at is not None and now >= push.retry_at:
                self._retry(push)

    def _retry(self, push: Push) -> None:
        push.retry_at = None
        if push.status is ReplicaStatus.STORED and push.is_doubted:
            self._confirm(push)
        elif push.status is ReplicaStatus.STORED:
            push.may_register = True
        elif push.status is ReplicaStatus.ERROR:
            self.put(push)

    def keep(self, push: Push, stored: Stored, checksum: str | None) -> None:
        """The target has it all: it may become a location, unless another node was first.

        :param checksum: the image's md5, None where that is not known
        """
        what = "Image %s, target %s: stored as %s"
        LOG.debug(what, self.upload.image_id, push.target.name, push.object_name)
        push.location_url = stored.location_url
        push.may_register, push.is_doubted = True, False
        saved = self.save(
            push,
            ReplicaStatus.STORED,
            object_name=push.object_name,
            location_url=stored.location_url,
            checksum=checksum,
            size=stored.size,
            bytes_sent=stored.size,
            error=None,
            next_attempt_at=None,
        )
        if saved == 0 and not self._crew.is_alone:
            self.yield_to_other(push)
        elif saved is None:
            # A location is in the row before it is in Glance.
            push.may_register, push.is_doubted = False, True
            push.retry_at = time.monotonic() + self._crew.pause_seconds(1)

    def activate(self, pushes: Sequence[Push]) -> None:
        """They are locations now."""
        for push in pushes:
            push.status, push.attempts = ReplicaStatus.ACTIVE, 0
        if pushes:
            self._crew.save(
                self.upload.upload_id,
                [push.target.name for push in pushes],
                ReplicaStatus.ACTIVE,
                attempts=0,
                error=None,
                next_attempt_at=None,
                verified_at=timeutils.utcnow(),
            )

    def leave(self, target: str, wish: Wish) -> None:
        """The target shall hold no replicas any more; what is active there is not ours to end."""
        push = self._by_target.get(target)
        if push is None or push.running or push.has_ended:
            return
        drained = wish is Wish.DRAIN and push.object_name is not None
        status = ReplicaStatus.DELETING if drained else ReplicaStatus.DELETED
        values: dict[str, Any] = {"error": f"target {target}: {wish}", "next_attempt_at": None}
        if drained:
            values |= {"next_attempt_at": timeutils.utcnow(), "cause": Cause.DEMANDED}
        self.save(push, status, **values)

    def save(self, push: Push, status: ReplicaStatus, **values: Any) -> int | None:
        """Let a row, and what is known here, become ``status``.

        Returns how many rows have, None while the database fails.
        """
        push.status = status
        return self._crew.save(self.upload.upload_id, [push.target.name], status, **values)

    def yield_to_other(self, push: Push) -> None:
        """Another node has taken the replica over: what was made here goes, the row stays."""
        LOG.warning("Image %s, target %s: taken over", self.upload.image_id, push.target.name)
        push.status, push.is_yielded = ReplicaStatus.DELETED, True
        if push.object_name is not None:
            self._crew.at_glance(
                functools.partial(self._crew.guard.look, self.upload.image_id),
                functools.partial(self._drop, push.target, push.object_name),
            )

    def _drop(
        self, target: Target, name: str, seen: SeenImage | None, error: BaseException | None
    ) -> None:
        if seen is None:
            _log_failure(None, error)
            return
        guard = self._crew.guard
        self._crew.at_target(
            target.name,
            functools.partial(delete_objects, guard, seen, target, [name], Cause.SUPERSEDED),
            _log_failure,
        )

    def forget_former_objects(self, target: str, left: Sequence[str]) -> None:
        """Those at the target are gone, but for those that are left."""
        push = self._by_target[target]
        push.former_objects = list(left)
        self._crew.save(self.upload.upload_id, [target], former_objects=" ".join(left) or None)

    def progress(self) -> dict[tuple[str, str], int]:
        """Bytes handed to each target to which a push runs, by (upload id, target)."""
        sent = {push.target.name: push.bytes_sent for push in self}
        return {(self.upload.upload_id, name): n for name, n in sent.items() if n is not None}


def _log_failure(_: object, error: BaseException | None) -> None:
    if error is not None:
        LOG.warning("An object that is no replica stays until orphans are looked for: %s", error)
