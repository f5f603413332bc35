# SPDX-License-Identifier: Apache-2.0
"""Finds replicas that wait for bytes which the spool does not hold, and has them fetched."""

from __future__ import annotations

import collections
import datetime
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import oslo_db.exception
from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import WAITING_FOR_BYTES, Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler import sources
from glance_repl_mw.reconciler.adoption import Adoption
from glance_repl_mw.reconciler.candidates import Begun, Candidate, Candidates, has_waited_long
from glance_repl_mw.reconciler.fetch import fetch
from glance_repl_mw.reconciler.lanes import Lanes, Place, Shared
from glance_repl_mw.reconciler.look import REPLACED, close
from glance_repl_mw.reconciler.reading import Reading
from glance_repl_mw.reconciler.relay import Relay
from glance_repl_mw.reconciler.room import Room
from glance_repl_mw.reconciler.tasks import WokenTask
from glance_repl_mw.reconciler.tools import Demand, Stopping, Tools
from glance_repl_mw.replicas.deletion import Cause
from glance_repl_mw.spool.upload import Origin, UploadState

LOG = log.getLogger(__name__)

_INTERVAL_SECONDS = 0.25
_OVERDUE_SECONDS = 1.0
_IDLE_SECONDS = 10.0
_ROWS_AT_ONCE = 200
_POSTPONED_SECONDS = 10.0
# Of those that wait for one place, so many stay in the first rows; others make way there.
_WAITING_FOR_A_PLACE = 4
_MAKE_WAY_SECONDS = 60.0


class Feeder(WokenTask):
    """Starts fetches, the most urgent first, one for each image and few at once.

    While an upload is being received none begins beside another, and while the spool is crowded
    none is started: uploads come first. Nor does a source that is slow keep others waiting, or an
    owner with many images the images of others; see ``Lanes``.
    """

    name = "search for replicas that wait for bytes"
    lull_seconds = _INTERVAL_SECONDS

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        options = tools.conf.replication
        self._most = self._at_once = options.repair_concurrency
        self._least_bytes_per_second = options.repair_least_bytes_per_second
        self._lock = threading.RLock()
        self._lanes = Lanes(self._most, [*tools.targets, None])
        self._pool = ThreadPoolExecutor(self._lanes.most_threads, thread_name_prefix="fetch")
        self._running: dict[tuple[str, str | None], Begun] = {}
        self._ready: list[Candidate] = []
        self._again: dict[str, str] = {}
        self._adoption = Adoption(tools)
        self._room = Room(tools.spool, options.spool_hand_over_percent)
        self._candidates = Candidates(tools, self._room, self._fits)

    def run_once(self) -> float:
        self._move_aside()
        due = self.tools.waiting_for_bytes(_ROWS_AT_ONCE)
        at_once = self._to_begin_at_once()
        self._at_once = self._most_at_once() if due or at_once else 0
        wanted = self._wanted(due, at_once) if self._at_once else {}
        ready = self._candidates.of(wanted)
        with self._lock:
            self._ready = ready
        self._begin_ready()
        if len(due) == _ROWS_AT_ONCE:
            self._make_way(due)
        is_awaited = self._again or self.tools.shortage.standing()
        return _INTERVAL_SECONDS if due or is_awaited else self._idle_seconds()

    def _idle_seconds(self) -> float:
        """Until the next attempt; what is due, but not now, waits for its target."""
        now = timeutils.utcnow()
        planned = self.tools.outlooks.now().planned(WAITING_FOR_BYTES)
        waits = [(first - now).total_seconds() for first, _ in planned]
        return min(_IDLE_SECONDS, max(_OVERDUE_SECONDS, min(waits, default=_IDLE_SECONDS)))

    # What may begin

    def _to_begin_at_once(self) -> dict[str, list[str]]:
        """The targets of images that need not wait until they are due, by image.

        That is: there is room now for which they have waited, or for too long; or their last read
        was wrong, and other sources are left.
        """
        standing = self.tools.shortage.standing()
        ready = [image_id for image_id, each in standing.items() if self._need_not_wait(each)]
        with self._lock:
            # The writer has let go of their rows.
            free = [each for each, it in self._again.items() if not self.tools.is_spooled(it)]
            for image_id in free:
                del self._again[image_id]
        rows = self.tools.survey.of_images({*ready, *free}) if ready or free else {}
        found = {each: [row.target for row in self._waiting(rows[each])] for each in rows}
        for image_id in ready:
            if not found.get(image_id):
                self.tools.shortage.withdraw(image_id)
        return {image_id: targets for image_id, targets in found.items() if targets}

    def _need_not_wait(self, demand: Demand) -> bool:
        return self._room.is_there(demand.lacking_bytes) or has_waited_long(demand)

    def _wanted(
        self, due: Sequence[Replica], at_once: Mapping[str, Sequence[str]]
    ) -> dict[str, list[str]]:
        """The targets that lack an image by the image, the most urgent one first."""
        targets: dict[str, list[str]] = {each: list(at_once[each]) for each in at_once}
        for row in due:
            targets.setdefault(row.image_id, []).append(row.target)
        # What is staged comes only with an import: that has ended where the image has data, and
        # an image without data is not read.
        coming = {
            upload.image_id
            for upload in self.tools.spool.uploads()
            if upload.state is UploadState.RECEIVING and not upload.is_provisional
        }
        return {
            image_id: list(dict.fromkeys(names))
            for image_id, names in targets.items()
            if image_id not in coming and (image_id, None) not in self._running
        }

    def _most_at_once(self) -> int:
        """How many may be read at the shared places now."""
        if self._room.is_crowded:
            return 0
        receiving = any(
            upload.state is UploadState.RECEIVING and upload.origin is Origin.UPLOAD
            for upload in self.tools.spool.uploads()
        )
        return 1 if receiving else self._most

    # Their places

    def _fits(self, candidate: Candidate) -> bool:
        """Whether it is not read already, and its place is free."""
        is_new = candidate.key not in self._running
        return is_new and self._lanes.is_free(candidate.place, self._at_once)

    def _next(self) -> Candidate | None:
        """The most urgent that has a place; of an owner with one already, only if it is alone."""
        fitting = [each for each in self._ready if self._fits(each)]
        owners = set(self._lanes.owners) - {None}
        others = (each for each in fitting if each.owner not in owners)
        return next(others, fitting[0] if fitting else None)

    def _begin_ready(self) -> None:
        """Begin what may begin; may be called by any thread."""
        with self._lock:
            while (candidate := self._next()) is not None:
                self._ready.remove(candidate)
                reading = Reading(self._least_bytes_per_second)
                begun = Begun(**vars(candidate), reading=reading)
                self._lanes.take(candidate.place, reading, candidate.owner)
                self._running[candidate.key] = begun
                self._pool.submit(self._feed, begun)

    def _move_aside(self) -> None:
        """See that no source that has become slow keeps others waiting."""
        with self._lock:
            for begun in list(self._running.values()):
                reading = begun.reading
                if begun.image is not None and reading.is_slow:
                    self.tools.history.slow(begun.image, reading.source)
                    self._room.give_up(begun.image_id)
                    self._lanes.move_aside(reading)

    def _make_way(self, due: Sequence[Replica]) -> None:
        """Put off for a while what waits for a place that is taken, so that others are seen.

        :raises oslo_db.exception.DBError:
        """
        waiting: collections.Counter[Place] = collections.Counter()
        put_off: set[tuple[str, str | None]] = set()
        for candidate in self._ready:
            waiting[candidate.place] += candidate.place is not Shared.PLACE
            if waiting[candidate.place] > _WAITING_FOR_A_PLACE:
                put_off.add(candidate.key)
        later = timeutils.utcnow() + datetime.timedelta(seconds=_MAKE_WAY_SECONDS)
        for row in due:
            if not put_off.isdisjoint({(row.image_id, None), (row.image_id, row.target)}):
                self.tools.survey.change(row, next_attempt_at=later)

    # In the pool

    def _feed(self, begun: Begun) -> None:
        try:
            suspects = self._try(begun)
            with self._lock:
                # The verification may take long, and nobody needs to wait for it.
                del self._running[begun.key]
            if suspects and begun.image:
                sources.verify(self.tools, begun.image, suspects, begun.reading)
        except Stopping:
            pass
        except Exception:
            LOG.exception("Image %s: its replicas cannot be verified", begun.image_id)
        finally:
            with self._lock:
                self._lanes.give_back(begun.reading)
            self._begin_ready()

    def _try(self, begun: Begun) -> Sequence[Replica]:
        """As ``_fetch``; whatever goes wrong puts the image off."""
        image_id, shortage = begun.image_id, self.tools.shortage
        try:
            suspects = self._fetch(begun)
        except Stopping:
            return ()
        except exceptions.SpoolFull as error:
            LOG.warning("Image %s is not fetched now: %s", image_id, error)
            shortage.demand(image_id, (begun.image and begun.image.size) or 0)
            self._postpone(begun, str(error))
            return ()
        except (exceptions.ReplicationError, oslo_db.exception.DBError, OSError) as error:
            LOG.warning("Image %s is not fetched now: %s", image_id, error)
            self._postpone(begun, str(error))
            suspects = ()
        except Exception:
            LOG.exception("Image %s cannot be fetched", image_id)
            self._postpone(begun, "internal error, see the log")
            suspects = ()
        shortage.withdraw(image_id)
        return suspects

    def _fetch(self, begun: Begun) -> Sequence[Replica]:
        image_id, image = begun.image_id, begun.image
        if image is None:
            # Whether it is gone for good is for the comparison of all images to say.
            raise exceptions.ImageGone(image_id, None, "fetch", "Glance does not list the image")
        rows = self.tools.survey.of_images([image_id]).get(image_id, [])
        waiting = [row for row in self._waiting(rows) if begun.target in (None, row.target)]
        if not image.has_data or not image.size:
            self._end_or_wait(image, waiting)
        elif waiting := self._without_locations(image, rows, waiting):
            self._remove_former_locations(image, waiting)
            return self._copy(begun, image, rows, waiting)
        return ()

    def _without_locations(
        self, image: Image, rows: Sequence[Replica], waiting: Sequence[Replica]
    ) -> list[Replica]:
        """Those that are no location yet: what is one is taken up, and never written again."""
        lacking = []
        for row in waiting:
            here = [each for each in rows if each.target == row.target]
            if not self._adoption.adopt_into(image, row, here):
                lacking.append(row)
        return lacking

    def _remove_former_locations(self, image: Image, waiting: Sequence[Replica]) -> None:
        """No location may name an object that is about to be replaced.

        :raises GlanceUnavailable: also where one of them is the only location
        """
        former = [row.location_url for row in waiting if row.location_url in image.locations]
        if former and self.tools.images.remove_locations(image.image_id, former):
            raise exceptions.GlanceUnavailable(
                image.image_id, None, "repair", "its only location is the replica to be repaired"
            )

    def _copy(
        self, begun: Begun, image: Image, rows: Sequence[Replica], waiting: Sequence[Replica]
    ) -> Sequence[Replica]:
        """Returns the replicas that did not give the image's bytes."""
        if begun.target is not None:
            relay = Relay(self.tools, image, rows, begun.reading)
            relay.run(waiting)
            return relay.suspects
        if begun.place is Shared.PLACE:
            with self._room.kept_for(image):
                fetched = fetch(self.tools, image, rows, waiting, begun.reading)
        else:
            # It may come slowly, and holds neither room nor connections that others need.
            self._room.require(image)
            fetched = fetch(self.tools, image, rows, waiting, begun.reading, held_back=True)
        if fetched.begin_again_after:
            with self._lock:
                self._again[image.image_id] = fetched.begin_again_after
        return fetched.suspects

    def _waiting(self, rows: Sequence[Replica]) -> list[Replica]:
        """The replicas that one read can serve, also those whose next attempt is not due yet."""
        targets = self.tools.usable_targets()
        waiting: dict[str, Replica] = {}
        for row in rows:
            is_waiting = row.status in WAITING_FOR_BYTES and row.next_attempt_at is not None
            if row.target not in targets or not is_waiting or self.tools.is_in_hand(row):
                continue
            others = (other for other in rows if other.target == row.target)
            heir = waiting.get(row.target) or next(filter(_is_there, others), None)
            if heir is not None:
                close(self.tools, row, REPLACED, Cause.SUPERSEDED, heir=heir)
            else:
                waiting[row.target] = row
        return list(waiting.values())

    def _end_or_wait(self, image: Image, waiting: Sequence[Replica]) -> None:
        """The image has no bytes: none yet, or none at all."""
        later = timeutils.utcnow() + datetime.timedelta(seconds=_POSTPONED_SECONDS)
        for row in waiting:
            self.tools.survey.change(
                row,
                ReplicaStatus.ERROR,
                error=_nothing_to_copy(image),
                next_attempt_at=None if image.has_data else later,
            )

    def _postpone(self, begun: Begun, why: str) -> None:
        image_id = begun.image_id
        try:
            rows = self.tools.survey.of_images([image_id]).get(image_id, [])
            for row in self._waiting(rows):
                if begun.target not in (None, row.target):
                    continue
                pause = self.tools.pause_seconds(row.attempts + 1)
                self.tools.survey.change(
                    row,
                    ReplicaStatus.ERROR,
                    error=why,
                    attempts=row.attempts + 1,
                    next_attempt_at=timeutils.utcnow() + datetime.timedelta(seconds=pause),
                )
        except (oslo_db.exception.DBError, OSError) as error:
            LOG.warning("Image %s: %s", image_id, error)


def _nothing_to_copy(image: Image) -> str:
    if image.has_data and image.size is None:
        return f"the image is {image.status}, but Glance does not tell its size"
    return f"the image is {image.status} and has {image.size or 0} bytes"


def _is_there(row: Replica) -> bool:
    return row.status in (ReplicaStatus.ACTIVE, ReplicaStatus.STORED, ReplicaStatus.UPLOADING)
