# SPDX-License-Identifier: Apache-2.0
"""The way of an upload's proven replicas into the image's locations."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Mapping

from glance_repl_mw import exceptions
from glance_repl_mw.writer import work
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.push import Push


class Registration:
    """Adds the locations of one image, those that are ready together in one request.

    There is never more than one request under way for the image. Every method is the main loop's.

    :param on_outcome: called with the replicas that were asked for and, for each, what stands in
        its way, None where it is a location now
    """

    def __init__(
        self,
        crew: Crew,
        image_id: str,
        on_outcome: Callable[[Mapping[Push, BaseException | None]], None],
    ) -> None:
        self.running = False
        self._crew = crew
        self._image_id = image_id
        self._on_outcome = on_outcome
        self._first_ready_at: float | None = None

    def consider(self, pushes: Collection[Push]) -> None:
        """Ask for the locations that are ready, unless others will be ready in a moment."""
        ready = [push for push in pushes if push.is_ready_for_location]
        if self.running or not ready:
            return
        now = time.monotonic()
        self._first_ready_at = self._first_ready_at or now
        others_come = any(push.running for push in pushes)
        patience = self._crew.conf.replication.location_batch_seconds
        if others_come and now - self._first_ready_at < patience:
            return
        self.running, self._first_ready_at = True, None
        urls = [push.location_url for push in ready]
        self._crew.at_glance(
            functools.partial(work.register, self._crew.images, self._image_id, urls),
            functools.partial(self._answered, ready),
        )

    def _answered(
        self,
        pushes: Collection[Push],
        outcomes: Mapping[str, exceptions.ReplicationError | None] | None,
        error: BaseException | None,
    ) -> None:
        self.running = False
        self._on_outcome(
            {push: error if outcomes is None else outcomes[push.location_url] for push in pushes}
        )
