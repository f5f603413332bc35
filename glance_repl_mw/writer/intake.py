"""Finds uploads in the spool and takes them in hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import oslo_db.exception
from oslo_log import log

from glance_repl_mw.model import Wish
from glance_repl_mw.spool.news import News
from glance_repl_mw.spool.upload import Upload
from glance_repl_mw.writer.choosing import Choosing
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.job import Job

LOG = log.getLogger(__name__)


class Intake:
    """Makes a job of each upload, and tells the job what its sidecar says; the main loop's.

    :param jobs: those in hand, by upload id; new ones are added
    :param on_active: what a job calls for each new location
    """

    def __init__(
        self, crew: Crew, jobs: dict[str, Job], on_active: Callable[[Upload, str, str], None]
    ) -> None:
        self._crew = crew
        self._jobs = jobs
        self._on_active = on_active
        self._choosing = Choosing(crew)
        self._news = News(crew.spool)

    @property
    def is_over(self) -> bool:
        """Whether all that has come was seen; else it is time to look once more."""
        return self._news.is_over

    def expect(self) -> None:
        """Look at the next occasion, whatever has come."""
        self._news.expect()

    def tick(self) -> None:
        """Ask Glance again what could not be answered."""
        self._choosing.tick()

    def has_news(self) -> bool:
        """Whether there may be something to take in hand.

        :raises OSError:
        """
        if self._choosing.take_news():
            self._news.expect()
        return self._news.have_come()

    def look(self, wishes: Mapping[str, Wish]) -> None:
        """Take in hand what has come.

        :param wishes: what operators want of targets, by their names
        """
        for upload in self._crew.spool.uploads():
            if not upload.is_for_writer:
                continue
            job = self._jobs.get(upload.upload_id)
            if job is None:
                self._take_in_hand(upload, wishes)
            else:
                job.observe(upload)

    def _take_in_hand(self, upload: Upload, wishes: Mapping[str, Wish]) -> None:
        targets = self._choosing.targets_of(upload, wishes)
        if targets is None:
            return
        try:
            rows = self._crew.store.begin(upload, targets)
        except oslo_db.exception.DBError as error:
            LOG.error("Image %s cannot be taken in hand: %s", upload.image_id, error)
            self._news.expect()
            return
        self._choosing.forget(upload.upload_id)
        job = Job(self._crew, upload, rows, self._on_active)
        self._jobs[upload.upload_id] = job
        job.start()
