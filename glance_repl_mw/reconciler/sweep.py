"""Compares all images of Glance with all replicas, a page at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence

from oslo_log import log

from glance_repl_mw.model import Image
from glance_repl_mw.reconciler import gone
from glance_repl_mw.reconciler.look import Look, images_in_spool
from glance_repl_mw.reconciler.pages import pages
from glance_repl_mw.reconciler.tasks import Task, reporting
from glance_repl_mw.reconciler.tools import Tools

LOG = log.getLogger(__name__)

_PAGE = 100
_REST_SECONDS = 0.05
_FEW_MISSING = 20
_SUSPICIOUS = (
    "%s of %s replicated images are missing in Glance, more than missing_images_percent: nothing "
    "is deleted. Has the service user lost the right to see them?"
)


class Sweep(Task):
    """One pass over Glance for what is missing here, one over the rows for what is gone there."""

    name = "comparison of Glance with the replicas"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._look = Look(tools)

    def run_once(self) -> float:
        look_again = False
        for page in pages(self.tools.images):
            mine = [image for image in page if self.tools.nodes.looks_after(image.image_id)]
            look_again |= self._compare(mine)
            self.tools.rest(_REST_SECONDS)
        self._bury_missing()
        interval = min(
            self.tools.conf.replication.reconcile_interval_seconds,
            *(target.renewal_seconds for target in self.tools.targets.values()),
        )
        return min(interval, 5.0) if look_again else interval * random.uniform(0.9, 1.1)

    def _compare(self, page: Sequence[Image]) -> bool:
        in_spool = images_in_spool(self.tools)
        rows = self.tools.survey.of_images([image.image_id for image in page])
        leaving = self.tools.wishes.all()
        look_again = False
        for image in page:
            mine = rows.get(image.image_id, ())
            # One image that Glance does not let us change must not hold up those after it.
            with reporting(image.image_id):
                look_again |= self._look.at(image, mine, in_spool, leaving, now=False)
        return look_again

    def _bury_missing(self) -> None:
        replicated, missing = 0, []
        after = ""
        while image_ids := self.tools.survey.image_ids(after, _PAGE):
            after = image_ids[-1]
            replicated += len(image_ids)
            missing += gone.find(self.tools, image_ids)[1]
            self.tools.rest(_REST_SECONDS)
        limit = self.tools.conf.replication.missing_images_percent
        if len(missing) > _FEW_MISSING and len(missing) * 100 > replicated * limit:
            LOG.error(_SUSPICIOUS, len(missing), replicated)
            return
        for image_id in missing:
            with reporting(image_id):
                gone.bury(self.tools, image_id, seen=False)
            self.tools.rest(_REST_SECONDS)
