# SPDX-License-Identifier: Apache-2.0
"""Compares all images of Glance with all replicas, a page at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence

from glance_repl_mw.model import Image
from glance_repl_mw.reconciler import gone
from glance_repl_mw.reconciler.look import Look, images_in_spool
from glance_repl_mw.reconciler.pages import pages
from glance_repl_mw.reconciler.staging import ForgottenStaging
from glance_repl_mw.reconciler.tasks import Task, reporting
from glance_repl_mw.reconciler.tools import Tools

_PAGE = 100
_REST_SECONDS = 0.05
# That so many are missing says enough; the others are looked at when these are gone.
_MOST_MISSING = 1000


class Sweep(Task):
    """One pass over Glance for what is missing here, one over the rows for what is gone there."""

    name = "comparison of Glance with the replicas"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._look = Look(tools)

    def run_once(self) -> float:
        look_again = False
        choice = self.tools.guard.glance.choice()
        staging = ForgottenStaging(self.tools)
        for page in pages(self.tools.images):
            for image in page:
                choice.add(image)
                staging.see(image)
            mine = [image for image in page if self.tools.nodes.looks_after(image.image_id)]
            look_again |= self._compare(mine)
            self.tools.rest(_REST_SECONDS)
        staging.end()
        self.tools.guard.glance.learn(choice)
        self._look_at_missing()
        interval: float = min(
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

    def _look_at_missing(self) -> None:
        """Remember which replicated images are missing, and purge those that are gone."""
        records = self.tools.guard.records
        known = {absence.image_id: absence for absence in records.absences()}
        missing: list[str] = []
        after = ""
        while image_ids := self.tools.survey.image_ids(after, _PAGE):
            after = image_ids[-1]
            found, not_listed = gone.find(self.tools, image_ids)
            if shown := known.keys() & found.keys():
                records.forget_absences([known[image_id] for image_id in shown])
            missing += not_listed[: _MOST_MISSING - len(missing)]
            self.tools.rest(_REST_SECONDS)
        for image_id in missing:
            with reporting(image_id):
                self.tools.guard.look(image_id)
            self.tools.rest(_REST_SECONDS)
        # Before the first of them goes.
        self.tools.guard.breaker.look_at(records.missing_images())
        for image_id in missing:
            with reporting(image_id):
                gone.purge(self.tools, image_id)
            self.tools.rest(_REST_SECONDS)
        records.forget_old_absences()
