# SPDX-License-Identifier: Apache-2.0
"""Settles the uploads of processes that died before they recorded Glance's answer."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Mapping

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.spool.upload import Upload, UploadState
from glance_repl_mw.writer import work
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.job import Job

LOG = log.getLogger(__name__)


@dataclasses.dataclass
class _Question:
    """What Glance is asked about one abandoned upload.

    :ivar ask_at: when to ask, on the monotonic clock; infinite while it is asked
    """

    ask_at: float = 0.0
    failures: int = 0

    @property
    def is_asked(self) -> bool:
        return self.ask_at == math.inf


class Recovery:
    """Asks Glance about abandoned uploads; every method is the main loop's.

    :param jobs: those in hand, by upload id
    """

    def __init__(self, crew: Crew, jobs: Mapping[str, Job]) -> None:
        self._crew = crew
        self._jobs = jobs
        self._questions: dict[str, _Question] = {}
        self._is_ending = False

    def tick(self, *, is_ending: bool) -> None:
        """Look for uploads that nobody appends to any more, and ask again what is due.

        :param is_ending: the writer ends, and hands back what Glance cannot tell now
        """
        self._is_ending = is_ending
        self._forget_ended()
        for upload_id, job in self._jobs.items():
            if not self._is_due(upload_id):
                continue
            try:
                upload = self._abandoned(job.upload)
            except (exceptions.SidecarUnreadable, OSError) as error:
                LOG.error(
                    "Image %s: its upload is looked at later: %s", job.upload.image_id, error
                )
                continue
            if upload is not None:
                self._ask_about(upload)

    def tidy(self) -> None:
        """Remove what dead processes left and nobody waits for.

        :raises OSError:
        """
        self._crew.spool.remove_half_made()
        for upload in self._crew.spool.uploads():
            if upload.is_provisional and self._crew.spool.is_abandoned(upload):
                self._crew.spool.remove(upload.upload_id)

    def _abandoned(self, upload: Upload) -> Upload | None:
        """The upload as its sidecar tells it now, None where it is not abandoned.

        :raises SidecarUnreadable:
        :raises OSError:
        """
        spool = self._crew.spool
        now = spool.get(upload.upload_id) if spool.is_abandoned(upload) else None
        return now if now is not None and spool.is_abandoned(now) else None

    def _ask_about(self, upload: Upload) -> None:
        question = self._questions.setdefault(upload.upload_id, _Question())
        question.ask_at = math.inf
        self._crew.at_glance(
            functools.partial(self._ask_glance, upload),
            functools.partial(self._answered, upload, question),
        )

    def _forget_ended(self) -> None:
        for upload_id, question in list(self._questions.items()):
            if upload_id not in self._jobs and not question.is_asked:
                del self._questions[upload_id]

    def _is_due(self, upload_id: str) -> bool:
        """A writer that ends waits for no pause."""
        question = self._questions.get(upload_id, _Question())
        return not question.is_asked and (self._is_ending or question.ask_at <= time.monotonic())

    def _ask_glance(self, upload: Upload) -> UploadState:
        """Runs in the pool: whether Glance has the image.

        Whether it has the bytes that were spooled is proven later, as for every upload; if not,
        the reconciler reads them elsewhere.
        """
        image = work.look_up(self._crew.images, self._crew.guard, upload.image_id)
        has_data = image is not None and image.has_data
        return UploadState.ACCEPTED if has_data else UploadState.REJECTED

    def _answered(
        self,
        upload: Upload,
        question: _Question,
        state: UploadState | None,
        error: BaseException | None,
    ) -> None:
        question.failures += 1
        question.ask_at = time.monotonic() + self._crew.pause_seconds(question.failures)
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
