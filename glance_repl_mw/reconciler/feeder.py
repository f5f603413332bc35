"""Finds replicas that wait for bytes which the spool does not hold, and has them fetched."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import oslo_db.exception
from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import WAITING_FOR_BYTES, Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler import gone
from glance_repl_mw.reconciler.fetch import fetch
from glance_repl_mw.reconciler.look import close
from glance_repl_mw.reconciler.relay import Relay
from glance_repl_mw.reconciler.tasks import WokenTask
from glance_repl_mw.reconciler.tools import Stopping, Tools
from glance_repl_mw.spool.upload import Origin, UploadState

LOG = log.getLogger(__name__)

_INTERVAL_SECONDS = 0.25
_OVERDUE_SECONDS = 1.0
_IDLE_SECONDS = 10.0
_ROWS_AT_ONCE = 200
_IMAGES_AT_ONCE = 50
# So many images wait for each thread of the pool, which thereby need not wait for the next turn.
_QUEUED = 4
_POSTPONED_SECONDS = 10.0


class Feeder(WokenTask):
    """Starts fetches, the most urgent first, one for each image and few at once.

    While an upload is being received none begins beside another, and while the spool is crowded
    none is started: uploads come first.
    """

    name = "search for replicas that wait for bytes"
    lull_seconds = _INTERVAL_SECONDS

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._most = self._at_once = tools.conf.replication.repair_concurrency
        self._fetching = 0
        self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="fetch")
        self._running: set[str] = set()
        self._lock = threading.Lock()
        self._images: dict[str, Image | None] = {}

    def run_once(self) -> float:
        due = self.tools.waiting_for_bytes(_ROWS_AT_ONCE)
        if not due:
            self.tools.shortage.lacking_bytes = 0
            return self._idle_seconds()
        free = self._free_places()
        if free <= 0:
            return _INTERVAL_SECONDS
        coming = {
            upload.image_id
            for upload in self.tools.spool.uploads()
            if upload.state is not UploadState.ACCEPTED and not upload.is_provisional
        }
        wanted = [
            image_id
            for image_id in dict.fromkeys(row.image_id for row in due)
            if image_id not in coming and image_id not in self._running
        ]
        self._learn(wanted)
        for image_id in wanted[:free]:
            self._start(image_id)
        return _INTERVAL_SECONDS

    def _idle_seconds(self) -> float:
        """Until the next attempt; what is due, but not now, waits for its target."""
        now = timeutils.utcnow()
        planned = self.tools.outlooks.now().planned(WAITING_FOR_BYTES)
        waits = [(first - now).total_seconds() for first, _ in planned]
        return min(_IDLE_SECONDS, max(_OVERDUE_SECONDS, min(waits, default=_IDLE_SECONDS)))

    def _learn(self, image_ids: Sequence[str]) -> None:
        """Ask Glance about the next images, many in one request; what is known stays known."""
        self._images = {each: self._images[each] for each in image_ids if each in self._images}
        if image_ids and image_ids[0] not in self._images:
            found, missing = gone.find(self.tools, image_ids[:_IMAGES_AT_ONCE])
            self._images = found | dict.fromkeys(missing)

    def _free_places(self) -> int:
        percent = self.tools.conf.replication.spool_hand_over_percent
        if self.tools.spool.is_crowded(percent):
            return 0
        receiving = any(
            upload.state is UploadState.RECEIVING and upload.origin is Origin.UPLOAD
            for upload in self.tools.spool.uploads()
        )
        self._at_once = 1 if receiving else self._most
        return (1 if receiving else _QUEUED * self._most) - len(self._running)

    def _start(self, image_id: str) -> None:
        if image_id not in self._images:
            return
        with self._lock:
            self._running.add(image_id)
        self._pool.submit(self._feed, image_id, self._images.pop(image_id))

    def _feed(self, image_id: str, image: Image | None) -> None:
        """Runs in the pool."""
        if not self._may_begin(image_id):
            return
        try:
            self._fetch(image_id, image)
        except Stopping:
            pass
        except (exceptions.ReplicationError, oslo_db.exception.DBError, OSError) as error:
            LOG.warning("Image %s is not fetched now: %s", image_id, error)
            self._postpone(image_id, str(error))
        except Exception:
            LOG.exception("Image %s cannot be fetched", image_id)
            self._postpone(image_id, "internal error, see the log")
        finally:
            with self._lock:
                self._fetching -= 1
                self._running.discard(image_id)

    def _may_begin(self, image_id: str) -> bool:
        """Whether it is still one of few; one that is not is due yet, and is started later."""
        with self._lock:
            is_one_of_few = self._fetching < self._at_once
            if is_one_of_few:
                self._fetching += 1
            else:
                self._running.discard(image_id)
        return is_one_of_few

    def _fetch(self, image_id: str, image: Image | None) -> None:
        if image is None:
            # Whether it is gone for good is for the comparison of all images to say.
            raise exceptions.ImageGone(image_id, None, "fetch", "Glance does not list the image")
        rows = self.tools.survey.of_images([image_id]).get(image_id, [])
        waiting = self._waiting(rows)
        if image.has_data and image.size:
            if waiting:
                self._remove_former_locations(image, waiting)
                self._copy(image, rows, waiting)
        else:
            self._end_or_wait(image, waiting)

    def _remove_former_locations(self, image: Image, waiting: Sequence[Replica]) -> None:
        """No location may name an object that is about to be replaced.

        :raises GlanceUnavailable: also where one of them is the only location
        """
        former = [row.location_url for row in waiting if row.location_url in image.locations]
        if former and self.tools.images.remove_locations(image.image_id, former):
            raise exceptions.GlanceUnavailable(
                image.image_id, None, "repair", "its only location is the replica to be repaired"
            )

    def _copy(self, image: Image, rows: Sequence[Replica], waiting: Sequence[Replica]) -> None:
        spool, size = self.tools.spool, image.size or 0
        percent = self.tools.conf.replication.spool_hand_over_percent
        if size * 100 > spool.capacity_bytes() * percent:
            Relay(self.tools, image, rows).run(waiting)
        elif spool.is_crowded(percent, size):
            self.tools.shortage.lacking_bytes = size
            raise exceptions.SpoolFull(image.image_id, None, "fetch", "the spool has no room now")
        else:
            self.tools.shortage.lacking_bytes = 0
            fetch(self.tools, image, rows, waiting)

    def _waiting(self, rows: Sequence[Replica]) -> list[Replica]:
        """The replicas that one read can serve, also those whose next attempt is not due yet."""
        targets = self.tools.usable_targets()
        waiting: dict[str, Replica] = {}
        for row in rows:
            is_waiting = row.status in WAITING_FOR_BYTES and row.next_attempt_at is not None
            if row.target not in targets or not is_waiting or self.tools.is_in_hand(row):
                continue
            others = [other for other in rows if other.target == row.target]
            if row.target in waiting or any(_is_there(other) for other in others):
                close(self.tools, row, "another replica took its place")
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

    def _postpone(self, image_id: str, why: str) -> None:
        try:
            rows = self.tools.survey.of_images([image_id]).get(image_id, [])
            for row in self._waiting(rows):
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
