# SPDX-License-Identifier: Apache-2.0
"""Makes room in a spool that becomes full."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from oslo_log import log

from glance_repl_mw.reconciler.tools import Shortage
from glance_repl_mw.spool.upload import Upload
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.job import Job

LOG = log.getLogger(__name__)

# So long after it was staged, an image is hardly being imported.
_IMPORT_SECONDS = 600.0


class Relief:
    """Lets go of what the reconciler can read elsewhere later; every method is the main loop's.

    First go staged images that nobody imports, then uploads that only wait for a target, then
    other staged images; uploads of which pushes run only where the next upload needs the room.
    Of each kind, the oldest goes first.

    :param jobs: those in hand, by upload id
    """

    def __init__(self, crew: Crew, shortage: Shortage, jobs: Mapping[str, Job]) -> None:
        self._crew = crew
        self._shortage = shortage
        self._jobs = jobs

    def tick(self) -> None:
        """Where the room is scarce, for uploads or for a fetch that demands it, make some.

        :raises OSError:
        """
        if not self._lacks_room():
            return
        before = time.time() - _IMPORT_SECONDS
        uploads = self._crew.spool.uploads()
        staged = [upload for upload in uploads if self._crew.spool.awaits_import(upload)]
        accepted = sorted(
            (job for job in self._jobs.values() if job.is_accepted),
            key=lambda job: job.upload.created_at,
        )
        self._drop([upload for upload in staged if upload.created_at < before])
        if not self._hand_over([job for job in accepted if job.only_waits_for_retries]):
            return
        self._drop([upload for upload in staged if upload.created_at >= before])
        if self._is_crowded():
            self._hand_over([job for job in accepted if job.is_accepted][:1])

    def _is_crowded(self, more_bytes: int = 0) -> bool:
        percent = self._crew.conf.replication.spool_hand_over_percent
        return self._crew.spool.is_crowded(percent, more_bytes)

    def _lacks_room(self) -> bool:
        return self._is_crowded(self._shortage.lacking_bytes)

    def _drop(self, staged: Sequence[Upload]) -> None:
        for upload in staged:
            if not self._lacks_room():
                return
            LOG.warning("Image %s: the spool needs the room", upload.image_id)
            self._crew.spool.remove(upload.upload_id)

    def _hand_over(self, jobs: Sequence[Job]) -> bool:
        """Returns whether all the room that this gives is there already."""
        for job in jobs:
            if not self._lacks_room():
                break
            LOG.warning("Image %s: the spool needs the room", job.upload.image_id)
            job.hand_over()
            if not job.done:
                return False
        return True
