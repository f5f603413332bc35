# SPDX-License-Identifier: Apache-2.0
"""The writer's main loop: keeps the jobs of all uploads in hand going.

The loop owns all state. Whatever blocks runs in the crew's pools and comes back as an event.
"""

from __future__ import annotations

import datetime
import functools
import queue
import time
from collections.abc import Callable, Mapping

import oslo_db.exception
from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import ReplicaStatus, Wish
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.upload import UploadState
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.intake import Intake
from glance_repl_mw.writer.job import Job
from glance_repl_mw.writer.locations import LocationKeeper
from glance_repl_mw.writer.recovery import Recovery
from glance_repl_mw.writer.relief import Relief
from glance_repl_mw.writer.removal import ObjectRemover

LOG = log.getLogger(__name__)

_LOOK_SECONDS = 0.05
_CHORES_SECONDS = 1.0
_IDLE_CHORES_SECONDS = 2.0
# REST promises that bytes_sent is hardly older than a second.
_PROGRESS_SECONDS = 0.5
_TIDY_SECONDS = 10.0
_HOUSEKEEPING_SECONDS = 3600.0
_KEEP_CLOSED = datetime.timedelta(days=7)
_DUE_AT_ONCE = 200


class WriterService:
    """One writer; ``run_forever`` returns when it was stopped or is not needed any more.

    :param tools: shared with the reconciler, whose tasks stop when the writer begins to end
    :param is_needed: asked every other second; when it says no, the writer finishes what is in
        hand and goes
    """

    def __init__(
        self, crew: Crew, tools: Tools, is_needed: Callable[[], bool] = lambda: True
    ) -> None:
        self._crew = crew
        self._tools = tools
        self._is_needed = is_needed
        self._jobs: dict[str, Job] = {}
        self._locations = LocationKeeper(crew)
        self._removal = ObjectRemover(crew)
        self._intake = Intake(crew, self._jobs, self._locations.watch)
        self._chores_at = self._tidy_at = self._housekeeping_at = self._progress_at = 0.0
        self._recovery = Recovery(crew, self._jobs)
        self._relief = Relief(crew, tools.shortage, self._jobs)
        self._reported: dict[tuple[str, str], int] = {}
        self._stop_by: float | None = None
        self._needed, self._knows_lost = True, False
        self._wishes: Mapping[str, Wish] = {}
        self._up_targets: set[str] = set(tools.targets)

    def stop(self) -> None:
        """Begin no new work and end within the grace time; may be called by a signal handler."""
        grace = self._crew.conf.replication.writer_grace_seconds
        self._crew.events.put(functools.partial(self._begin_stop, time.monotonic() + grace))

    def look_again(self, image_id: str) -> None:
        """Something was done to an image: try again what failed; may be called by any thread."""
        self._crew.events.put(functools.partial(self._retry_jobs_of, image_id))

    def forget(self, image_id: str) -> None:
        """An image was deleted for good: end its uploads; may be called by any thread."""
        self._crew.events.put(functools.partial(self._refuse_jobs_of, image_id))

    def wake(self) -> None:
        """Something has come into the spool; may be called by any thread."""
        self._crew.events.put(lambda: None)

    def run_forever(self) -> None:
        """Serve until stopped or not needed; what is not finished then stays in the spool."""
        while not self._is_finished():
            self.run_once()
        self._tools.stopping.set()
        for job in self._jobs.values():
            job.hand_back()
        self._crew.save_again()
        LOG.info("The writer ends; %s uploads stay in the spool", len(self._jobs))

    def run_once(self) -> None:
        """Handle the next event, if one comes soon, and whatever has become due."""
        self._handle_events()
        try:
            self._look_into_spool()
        except OSError as error:
            LOG.error("The spool cannot be read: %s", error)
            self._intake.expect()
            time.sleep(_CHORES_SECONDS)
        now = time.monotonic()
        if now >= self._chores_at:
            self._do_chores()
            is_idle = not self._jobs and not self._crew.at_work
            self._chores_at = now + (_IDLE_CHORES_SECONDS if is_idle else _CHORES_SECONDS)
        if self._jobs and now >= self._progress_at:
            self._progress_at = now + _PROGRESS_SECONDS
            self._record_progress()
        for job in list(self._jobs.values()):
            job.tick()
            if job.done and not (job.handed_back and self._is_ending):
                del self._jobs[job.upload.upload_id]
                # What it was handed back to may be this writer, which is needed again.
                self._intake.expect()

    def _pause_seconds(self) -> float:
        """How long to wait for an event; the bell brings one when something comes to do."""
        if self._jobs:
            return _LOOK_SECONDS
        return min(self._intake.rest_seconds, max(0.0, self._chores_at - time.monotonic()))

    def _handle_events(self) -> None:
        timeout: float | None = self._pause_seconds()
        while True:
            try:
                event = self._crew.events.get(block=timeout is not None, timeout=timeout)
            except queue.Empty:
                return
            timeout = None
            try:
                event()
            except Exception:
                LOG.exception("An event could not be handled; its upload is retried at a restart")

    # The spool

    def _look_into_spool(self) -> None:
        if self._intake.has_news() and not self._is_ending:
            self._intake.look(self._wishes)

    def _take_what_waits(self) -> None:
        """Nothing comes any more to which these uploads would have to give way."""
        try:
            if self._intake.some_wait:
                self._intake.look(self._wishes, all_at_once=True)
        except OSError as error:
            LOG.error("The spool cannot be read: %s", error)

    def _refuse_jobs_of(self, image_id: str) -> None:
        for job in self._jobs.values():
            if job.upload.image_id == image_id and job.is_accepted:
                job.refuse("Glance has deleted the image")

    def _retry_jobs_of(self, image_id: str) -> None:
        for job in self._jobs.values():
            if job.upload.image_id == image_id:
                job.retry()

    def _forget_lost_uploads(self) -> bool:
        """Leave rows whose spooled bytes are gone to the reconciler; returns whether it is done.

        :raises oslo_db.exception.DBError:
        """
        is_done = True
        for row in self._crew.store.unfinished():
            try:
                is_lost = self._crew.spool.get(row.upload_id) is None
            except exceptions.SidecarUnreadable:
                is_lost = is_done = False
            if is_lost:
                self._crew.save(
                    row.upload_id,
                    [row.target],
                    ReplicaStatus.ERROR,
                    error="the spooled bytes are gone",
                    next_attempt_at=timeutils.utcnow(),
                )
        return is_done

    # Whatever is done once a second or more rarely

    def _do_chores(self) -> None:
        self._crew.save_again()
        self._recovery.tick(is_ending=self._is_ending)
        self._locations.tick(self._wishes)
        self._intake.tick()
        self._needed, before = self._is_needed(), self._needed
        if self._needed and not before:
            self._intake.expect()
        elif before and not self._needed:
            self._take_what_waits()
        if self._is_ending:
            self._hand_back_unproven()
        self._retry_at_targets_that_are_back()
        try:
            if not self._knows_lost:
                self._knows_lost = self._forget_lost_uploads()
            self._retry_due()
            self._leave_targets()
            self._relief.tick()
            if time.monotonic() >= self._housekeeping_at:
                self._housekeeping_at = time.monotonic() + _HOUSEKEEPING_SECONDS
                self._crew.store.purge_closed(timeutils.utcnow() - _KEEP_CLOSED)
            if time.monotonic() >= self._tidy_at:
                self._tidy_at = time.monotonic() + _TIDY_SECONDS
                self._recovery.tidy()
        except oslo_db.exception.DBNonExistentTable:
            self._restore_tables()
        except (oslo_db.exception.DBError, OSError) as error:
            LOG.error("Chores are put off: %s", error)

    def _restore_tables(self) -> None:
        """The file was deleted; rows of what is active come back from Glance's locations."""
        LOG.error("The database has lost its tables: they are made again")
        try:
            self._crew.store.restore_tables()
        except (oslo_db.exception.DBError, exceptions.ConfigError) as error:
            LOG.error("Chores are put off: %s", error)

    def _retry_due(self) -> None:
        if self._stop_by is not None:
            return
        statuses = [ReplicaStatus.DELETING, ReplicaStatus.STORED]
        targets = [
            target
            for target in self._tools.up_targets()
            if self._wishes.get(target) is not Wish.REMOVE
        ]
        due = self._tools.due(statuses, limit=_DUE_AT_ONCE, targets=targets)
        self._removal.retry([row for row in due if row.status is ReplicaStatus.DELETING])
        for replica in due:
            if replica.status is ReplicaStatus.STORED and replica.upload_id not in self._jobs:
                self._locations.retry(replica)

    def _retry_at_targets_that_are_back(self) -> None:
        before, self._up_targets = self._up_targets, set(self._tools.up_targets())
        for target in self._up_targets - before:
            LOG.info("Target %s is up again", target)
            for job in self._jobs.values():
                job.retry(target)
        for target in before - self._up_targets:
            LOG.warning("Target %s is down: %s", target, self._tools.health[target].error)

    def _leave_targets(self) -> None:
        """Push no more to targets that an operator drains or removes."""
        self._wishes = self._tools.outlooks.now().wishes
        for target, wish in self._wishes.items():
            for job in self._jobs.values():
                job.leave(target, wish)

    def _record_progress(self) -> None:
        progress: dict[tuple[str, str], int] = {}
        for job in self._jobs.values():
            progress |= job.progress()
        changed = {key: sent for key, sent in progress.items() if self._reported.get(key) != sent}
        if changed:
            try:
                self._crew.store.record_progress(changed)
            except oslo_db.exception.DBError:
                # The chores meet the same, and say so.
                return
        self._reported = progress

    # The end

    @property
    def _is_ending(self) -> bool:
        return self._stop_by is not None or not self._needed

    def _begin_stop(self, stop_by: float) -> None:
        if self._stop_by is not None:
            return
        LOG.info("The writer was asked to stop")
        self._stop_by = stop_by
        self._crew.is_stopping = True
        self._tools.stopping.set()
        for job in self._jobs.values():
            if job.upload.state is UploadState.RECEIVING:
                job.hand_back()

    def _hand_back_unproven(self) -> None:
        """A proof that Glance cannot give any more must not keep the pushes waiting for it."""
        for job in self._jobs.values():
            if job.lacks_proof:
                job.hand_back()

    def _is_finished(self) -> bool:
        if self._stop_by is not None:
            return not self._crew.at_work or time.monotonic() >= self._stop_by
        if self._needed or self._crew.at_work:
            return False
        return all(job.is_waiting for job in self._jobs.values())
