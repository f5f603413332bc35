"""Settles the uploads of processes that died before they recorded Glance's answer."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.spool.upload import Upload, UploadState
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.job import Job

LOG = log.getLogger(__name__)


class Recovery:
    """Asks Glance about abandoned uploads; every method is the main loop's.

    :param jobs: those in hand, by upload id
    """

    def __init__(self, crew: Crew, jobs: Mapping[str, Job]) -> None:
        self._crew = crew
        self._jobs = jobs
        self._asking: set[str] = set()
        self._is_ending = False

    def tick(self, *, is_ending: bool) -> None:
        """Look for uploads that nobody appends to any more.

        :param is_ending: the writer ends, and hands back what Glance cannot tell now
        """
        self._is_ending = is_ending
        for upload_id, job in self._jobs.items():
            if upload_id in self._asking or not self._crew.spool.is_abandoned(job.upload):
                continue
            upload = self._crew.spool.get(upload_id)
            if upload is None or not self._crew.spool.is_abandoned(upload):
                continue
            self._asking.add(upload_id)
            self._crew.at_glance(
                functools.partial(self._ask_glance, upload),
                functools.partial(self._answered, upload),
            )

    def tidy(self) -> None:
        """Remove what dead processes left and nobody waits for.

        :raises OSError:
        """
        self._crew.spool.remove_half_made()
        for upload in self._crew.spool.uploads():
            if upload.is_provisional and self._crew.spool.is_abandoned(upload):
                self._crew.spool.remove(upload.upload_id)

    def _ask_glance(self, upload: Upload) -> UploadState:
        """Runs in the pool: whether Glance has the image.

        Whether it has the bytes that were spooled is proven later, as for every upload; if not,
        the reconciler reads them elsewhere.
        """
        try:
            image = self._crew.images.get(upload.image_id)
        except exceptions.ImageGone:
            return UploadState.REJECTED
        return UploadState.ACCEPTED if image.has_data else UploadState.REJECTED

    def _answered(
        self, upload: Upload, state: UploadState | None, error: BaseException | None
    ) -> None:
        self._asking.discard(upload.upload_id)
        job = self._jobs.get(upload.upload_id)
        if state is None:
            LOG.warning("Image %s: its broken upload waits: %s", upload.image_id, error)
            if self._is_ending and job is not None:
                job.hand_back()
            return
        LOG.info("Image %s: the upload of a process that died is %s", upload.image_id, state)
        if state is UploadState.REJECTED and job is not None:
            # Needs no record, for which a full disk would have no room.
            job.break_off("the process that received it has died")
            return
        try:
            self._crew.spool.settle(upload, state)
        except OSError as problem:
            LOG.error("Image %s: its broken upload waits: %s", upload.image_id, problem)
