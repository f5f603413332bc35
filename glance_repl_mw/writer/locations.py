# SPDX-License-Identifier: Apache-2.0
"""Looks after locations whose upload is no longer in hand.

Glance can lose a location when another request changes the image at the same moment, also one
that began before the location was added and ends after it was read back. So each is looked at
once more, some seconds later, many images in one request.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping

import oslo_db.exception
from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import Replica, ReplicaStatus, Stored
from glance_repl_mw.spool.upload import Upload
from glance_repl_mw.writer import work
from glance_repl_mw.writer.crew import Crew

LOG = log.getLogger(__name__)

_SECOND_LOOK_SECONDS = 5.0
_IMAGES_PER_REQUEST = 50


@dataclasses.dataclass(frozen=True)
class _Watched:
    due_at: float
    image_id: str
    upload_id: str
    target: str
    url: str
    attempts: int
    known_lost: bool
    has_former_objects: bool = False


class LocationKeeper:
    """Watches locations and adds those again that were lost; owned by the main loop."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._watched: deque[_Watched] = deque()
        self._looking = False
        self._doubted: set[str] = set()

    def watch(self, upload: Upload, target: str, url: str) -> None:
        """Look at a location that was just added once more, later."""
        due_at = time.monotonic() + _SECOND_LOOK_SECONDS
        self._watched.append(
            _Watched(due_at, upload.image_id, upload.upload_id, target, url, 0, known_lost=False)
        )

    def retry(self, replica: Replica) -> None:
        """Add the location of a stored replica whose upload is no longer in hand."""
        entry = _Watched(
            time.monotonic(),
            replica.image_id,
            replica.upload_id,
            replica.target,
            replica.location_url or "",
            replica.attempts,
            known_lost=True,
            has_former_objects=bool(replica.object_names[1:]),
        )
        known = {other.url for other in self._watched} | self._doubted
        if not self._looking and entry.url not in known:
            self._watched.appendleft(entry)

    def tick(self, leaving: Collection[str] = ()) -> None:
        """Look at what is due.

        :param leaving: targets that shall have no locations any more
        """
        if self._looking:
            return
        batch: list[_Watched] = []
        image_ids: set[str] = set()
        while (
            self._watched
            and self._watched[0].due_at <= time.monotonic()
            and len(image_ids) < _IMAGES_PER_REQUEST
        ):
            entry = self._watched.popleft()
            if entry.target not in leaving:
                batch.append(entry)
                image_ids.add(entry.image_id)
        batch = self._still_wanted(batch)
        images: dict[str, list[str]] = {}
        for entry in batch:
            images.setdefault(entry.image_id, []).append(entry.url)
        if batch:
            self._looking = True
            self._crew.at_glance(
                functools.partial(work.heal, self._crew.images, images),
                functools.partial(self._looked, batch),
            )

    def _still_wanted(self, batch: list[_Watched]) -> list[_Watched]:
        """Without what was withdrawn meanwhile, as a replica that was found to be bad."""
        added = [entry for entry in batch if not entry.known_lost]
        if not added:
            return batch
        try:
            active = self._crew.store.active_locations({entry.upload_id for entry in added})
        except oslo_db.exception.DBError as error:
            LOG.error("New locations are looked at later: %s", error)
            self._later(added)
            active = set()
        return [entry for entry in batch if entry.known_lost or entry.url in active]

    def _later(self, entries: Iterable[_Watched]) -> None:
        due_at = time.monotonic() + _SECOND_LOOK_SECONDS
        self._watched.extend(dataclasses.replace(entry, due_at=due_at) for entry in entries)

    def _looked(
        self,
        batch: list[_Watched],
        outcomes: Mapping[str, exceptions.ReplicationError | None] | None,
        error: BaseException | None,
    ) -> None:
        self._looking = False
        for entry in batch:
            if outcomes is not None:
                self._settle(entry, outcomes[entry.url])
            elif entry.known_lost:
                self._settle(entry, error)
            else:
                self._later([entry])

    def _settle(self, entry: _Watched, problem: BaseException | None) -> None:
        if isinstance(problem, exceptions.ImageGone) and not entry.known_lost:
            # The reconciler decides when its replicas go.
            return
        if isinstance(problem, exceptions.GlanceRefused):
            self._look_at_object(entry, problem)
        elif problem is not None:
            self._failed(entry, problem)
        elif entry.known_lost:
            self._active(entry)

    def _look_at_object(self, entry: _Watched, problem: exceptions.GlanceRefused) -> None:
        """Glance refuses locations also where it does not find the object."""
        self._doubted.add(entry.url)
        target = self._crew.targets[entry.target]
        name = target.object_name(entry.url) or ""
        self._crew.at_target(
            entry.target,
            functools.partial(target.stat, name),
            functools.partial(self._looked_at_object, entry, problem),
        )

    def _looked_at_object(
        self,
        entry: _Watched,
        problem: exceptions.GlanceRefused,
        stored: Stored | None,
        error: BaseException | None,
    ) -> None:
        self._doubted.discard(entry.url)
        if stored is not None or error is not None:
            self._failed(entry, problem)
            return
        what = "Image %s, target %s: the object of %s is gone, the replica is repaired"
        LOG.warning(what, entry.image_id, entry.target, entry.url)
        self._save(
            entry,
            ReplicaStatus.ERROR,
            error=f"{entry.url} is not there any more",
            bytes_sent=0,
            next_attempt_at=timeutils.utcnow(),
        )

    def _active(self, entry: _Watched) -> None:
        LOG.info("Image %s, target %s: active", entry.image_id, entry.target)
        self._save(entry, ReplicaStatus.ACTIVE, attempts=0, error=None, next_attempt_at=None)
        if entry.has_former_objects:
            self._have_image_looked_at(entry.image_id)

    def _have_image_looked_at(self, image_id: str) -> None:
        """The look at an image deletes what earlier attempts have left; it comes soon."""
        try:
            self._crew.spool.note(image_id)
        except OSError as error:
            LOG.warning("Image %s is looked at later: %s", image_id, error)

    def _failed(self, entry: _Watched, problem: BaseException) -> None:
        LOG.warning("Image %s, target %s: %s", entry.image_id, entry.target, problem)
        attempts = entry.attempts + 1
        self._save(
            entry,
            ReplicaStatus.STORED,
            attempts=attempts,
            error=str(problem),
            next_attempt_at=self._crew.next_attempt(attempts, problem),
        )

    def _save(self, entry: _Watched, status: ReplicaStatus, **values: object) -> None:
        self._crew.save(entry.upload_id, [entry.target], status, **values)
