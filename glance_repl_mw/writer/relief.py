"""Makes room in a spool that becomes full."""

from __future__ import annotations

from collections.abc import Mapping

from oslo_log import log

from glance_repl_mw.reconciler.tools import Shortage
from glance_repl_mw.spool.upload import UploadState
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.job import Job

LOG = log.getLogger(__name__)


class Relief:
    """Lets go of what the reconciler can read elsewhere later; every method is the main loop's.

    :param jobs: those in hand, by upload id
    """

    def __init__(self, crew: Crew, shortage: Shortage, jobs: Mapping[str, Job]) -> None:
        self._crew = crew
        self._shortage = shortage
        self._jobs = jobs

    def tick(self) -> None:
        """Where the room becomes scarce, let go of the oldest upload that waits for a target.

        :raises OSError:
        """
        percent = self._crew.conf.replication.spool_hand_over_percent
        spool = self._crew.spool
        if not spool.is_crowded(percent, self._shortage.lacking_bytes):
            return
        for_uploads = spool.is_crowded(percent)
        jobs = sorted(
            (
                job
                for job in self._jobs.values()
                if job.is_accepted and (for_uploads or job.only_waits_for_retries)
            ),
            key=lambda job: (not job.only_waits_for_retries, job.upload.created_at),
        )
        if jobs:
            LOG.warning("Image %s: the spool needs the room", jobs[0].upload.image_id)
            jobs[0].hand_over()
            return
        for upload in spool.uploads():
            if upload.state is UploadState.STAGED:
                LOG.warning("Image %s: the spool needs the room", upload.image_id)
                spool.remove(upload.upload_id)
                return
