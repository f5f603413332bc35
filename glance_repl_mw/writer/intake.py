# SPDX-License-Identifier: Apache-2.0
"""Finds uploads in the spool and takes them in hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping

import oslo_db.exception
from oslo_config import cfg
from oslo_log import log

from glance_repl_mw.model import ENDED, Replica, Wish
from glance_repl_mw.spool.news import News
from glance_repl_mw.spool.upload import Origin, Upload, UploadState
from glance_repl_mw.writer.choosing import Choosing
from glance_repl_mw.writer.courtesy import Courtesy
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.job import Job

LOG = log.getLogger(__name__)

# While some wait, others come all the time, and each look takes from them.
_LOOK_SECONDS = 0.2
# What has just come may be followed by more that its time stamp does not tell.
_SETTLING_SECONDS = 0.05


class Intake:
    """Makes a job of each upload, and tells the job what its sidecar says; the main loop's.

    :param jobs: those in hand, by upload id; new ones are added
    :param on_active: what a job calls for each new location
    :ivar some_wait: uploads are left in the spool for now, as they give way to others
    """

    def __init__(
        self, crew: Crew, jobs: dict[str, Job], on_active: Callable[[Upload, str, str], None]
    ) -> None:
        self._crew = crew
        self._jobs = jobs
        self._on_active = on_active
        self._choosing = Choosing(crew)
        self._courtesy = Courtesy(_longest_wait_seconds(crew.conf), lambda: crew.request_seconds)
        self.some_wait = False
        self._some_are_left_to_others = self._some_are_unread = False
        self._look_at = 0.0
        self._news = News(crew.spool)

    @property
    def rest_seconds(self) -> float:
        """How long there is nothing to look for; infinite where only an event brings more."""
        if self.some_wait:
            return max(0.0, self._look_at - time.monotonic())
        return math.inf if self._news.is_over else _SETTLING_SECONDS

    def expect(self) -> None:
        """Look at the next occasion, whatever has come."""
        self._news.expect()

    def tick(self) -> None:
        """Ask Glance again what could not be answered, and look what others have done.

        What could not be read is read again: no event tells when it can be.
        """
        self._choosing.tick()
        if self._some_are_left_to_others or self._some_are_unread:
            self._some_are_left_to_others = self._some_are_unread = False
            self.expect()

    def has_news(self) -> bool:
        """Whether there may be something to take in hand.

        :raises OSError:
        """
        if self._choosing.take_news():
            self._news.expect()
        if self.some_wait:
            return self.rest_seconds == 0
        return self._news.have_come()

    def look(self, wishes: Mapping[str, Wish], *, all_at_once: bool = False) -> None:
        """Take in hand what has come.

        :param wishes: what operators want of targets, by their names
        :param all_at_once: also what should give way
        :raises OSError:
        """
        failed_reads = self._crew.spool.failed_reads
        uploads = [upload for upload in self._crew.spool.uploads() if upload.is_for_writer]
        self._some_are_unread = self._crew.spool.failed_reads != failed_reads
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self.some_wait = False
        for upload in uploads:
            job = self._jobs.get(upload.upload_id)
            if job is not None:
                job.observe(upload)
            elif all_at_once or self._courtesy.admits(upload):
                self._take_in_hand(upload, wishes)
            else:
                self.some_wait = True
        found = {upload.upload_id for upload in uploads}
        for upload_id, job in self._jobs.items():
            if upload_id not in found and not self._crew.spool.sidecar_path(upload_id).exists():
                job.lose()

    def _take_in_hand(self, upload: Upload, wishes: Mapping[str, Wish]) -> None:
        targets = self._choosing.targets_of(upload, wishes)
        if targets is None:
            return
        try:
            rows = self._crew.store.begin(upload, targets)
            if self._may_still_be_needed(upload, rows, targets):
                self._some_are_left_to_others = True
                return
        except oslo_db.exception.DBError as error:
            LOG.error("Image %s cannot be taken in hand: %s", upload.image_id, error)
            self._news.expect()
            return
        self._choosing.forget(upload.upload_id)
        job = Job(self._crew, upload, rows, self._on_active)
        self._jobs[upload.upload_id] = job
        job.start()

    def _may_still_be_needed(
        self, upload: Upload, rows: Mapping[str, Replica], targets: Collection[str]
    ) -> bool:
        """Whether other nodes make all that it lacks, as while this one was away, and may fail."""
        return (
            upload.state is UploadState.ACCEPTED
            and upload.origin in (Origin.UPLOAD, Origin.STAGE)
            and all(row.status in ENDED for row in rows.values())
            and self._crew.store.is_left_to_others(upload, targets)
        )


def _longest_wait_seconds(conf: cfg.ConfigOpts) -> float:
    """Zero where uploaders wait for the replicas, and would wait for longer."""
    options = conf.replication
    return options.give_way_seconds if options.write_concern == "none" else 0.0
