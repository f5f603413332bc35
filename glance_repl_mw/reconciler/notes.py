# SPDX-License-Identifier: Apache-2.0
"""Looks soon at images to which something was done: deletes, imports, changes of locations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

from oslo_utils import timeutils

from glance_repl_mw.answers import is_same_id
from glance_repl_mw.model import Image
from glance_repl_mw.reconciler import gone, staging
from glance_repl_mw.reconciler.look import Look, images_in_spool
from glance_repl_mw.reconciler.tasks import WokenTask, reporting
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.news import News

_INTERVAL_SECONDS = 0.5
_IDLE_SECONDS = 10.0
_PURGE_SECONDS = 2.0
_AT_ONCE = 50
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_PATIENCE_SECONDS = 3600.0
_LOOK_AGAIN_SECONDS = 2.5
# An import is under way, or may begin any time.
_ON_THE_WAY = ("uploading", "importing", "saving", "queued")


@dataclasses.dataclass
class _Noted:
    due_at: float
    give_up_at: float
    pause: float = _FIRST_PAUSE_SECONDS


class Notes(WokenTask):
    """Takes the notes that the API processes leave in the spool.

    An image whose import is under way is looked at until it has ended, for an hour; what was
    staged is dropped then, and the comparison of all images finds the image later.

    :param on_change: called with an image to which something was done
    :param on_gone: called with an image that was deleted and cannot be restored
    """

    name = "look at changed images"
    # Whoever rings may have left no note: the spool is busy then.
    lull_seconds = 0.2

    def __init__(
        self,
        tools: Tools,
        on_change: Callable[[str], None],
        on_gone: Callable[[str], None],
    ) -> None:
        super().__init__(tools)
        self._on_change = on_change
        self._on_gone = on_gone
        self._look = Look(tools)
        self._noted: dict[str, _Noted] = {}
        self._news = News(tools.spool)
        for upload in tools.spool.uploads():
            if upload.is_staged:
                self._note(upload.image_id)

    def run_once(self) -> float:
        if self._news.have_come():
            try:
                self._take_news()
            except Exception:
                self._news.expect()
                raise
        now = time.monotonic()
        due = [image_id for image_id, noted in self._noted.items() if noted.due_at <= now]
        if due:
            self._look_at(due[:_AT_ONCE])
        return self._rest_seconds()

    def _take_news(self) -> None:
        """Take the notes, and what is known of deletes.

        :raises OSError:
        :raises oslo_db.exception.DBError:
        """
        for image_id in self.tools.spool.take_notes():
            self._note(image_id)
        self._take_deletes()

    def _take_deletes(self) -> None:
        """Remember that Glance was seen to delete images, before that word is taken away.

        Also of images without a row: another node may have an upload in its spool that has none
        yet. Words that were of no use are forgotten after some hours.
        """
        for image_id in self.tools.spool.deleted_images():
            # Before Glance is asked whether it overlooks capitals.
            self.tools.guard.image_was_deleted(image_id)
            known = self._known_ids(image_id)
            for each in known - {image_id}:
                self.tools.guard.image_was_deleted(each)
            self.tools.spool.forget_deleted_image(image_id)
            for each in known | {image_id}:
                self._note(each)

    def _known_ids(self, image_id: str) -> set[str]:
        """The ids under which a deleted image has rows, or may have some soon.

        Those that differ in capitals are other images, unless Glance does not tell them apart.
        """
        # What has both is found when all images are compared.
        spellings = {image_id, image_id.lower(), image_id.upper()}
        in_spool = {each for each in images_in_spool(self.tools) if is_same_id(each, image_id)}
        known = {*self.tools.survey.of_images(spellings), *in_spool}
        if known <= {image_id} or self.tools.guard.glance.overlooks_capitals():
            return known
        return known & {image_id}

    def _rest_seconds(self) -> float:
        """Until the first image that is noted is due; who leaves a note wakes us."""
        if not self._news.is_over:
            return _INTERVAL_SECONDS
        now = time.monotonic()
        pauses = (noted.due_at - now for noted in self._noted.values())
        return max(_INTERVAL_SECONDS, min([_IDLE_SECONDS, *pauses]))

    def _note(self, image_id: str) -> None:
        now = time.monotonic()
        self._noted[image_id] = _Noted(now, now + _PATIENCE_SECONDS)

    def _look_at(self, image_ids: list[str]) -> None:
        found, missing = gone.find(self.tools, image_ids)
        images = self._under_their_own_ids(found)
        rows = self.tools.survey.of_images(images)
        in_spool = images_in_spool(self.tools)
        leaving = self.tools.wishes.all()
        for image_id in missing:
            self._on_change(image_id)
            self._purge(image_id)
        for image_id, image in images.items():
            self._on_change(image_id)
            if image.status in _ON_THE_WAY:
                self._wait_for_import(image)
                continue
            staging.settle(self.tools, image)
            again = False
            # One image that Glance does not let us change must not hold up the others.
            with reporting(image_id):
                mine = rows.get(image_id, ())
                again = self._look.at(image, mine, in_spool, leaving, now=True)
            self._later(image_id, self._pause(image_id) if again else None)

    def _under_their_own_ids(self, found: Mapping[str, Image]) -> dict[str, Image]:
        """The images by the ids that Glance has, by which they are noted from now on.

        The capitals of an id are those of the request where the database overlooks them.
        """
        for image_id, image in found.items():
            noted = self._noted.pop(image_id)
            self._noted.setdefault(image.image_id, noted)
        return {image.image_id: image for image in found.values()}

    def _pause(self, image_id: str) -> float:
        noted = self._noted[image_id]
        noted.pause = min(max(noted.pause * 1.5, _LOOK_AGAIN_SECONDS), _LONGEST_PAUSE_SECONDS)
        return noted.pause

    def _purge(self, image_id: str) -> None:
        """A job of the image may come to an end that does not know of the delete: look again."""
        # Nobody else looks after what was staged, and Glance has it as long as it has the image.
        staging.drop(self.tools, image_id)
        seconds = None
        with reporting(image_id):
            purge = gone.purge(self.tools, image_id)
            if purge.is_gone:
                self._on_gone(image_id)
            if purge.due_at is not None:
                until = (purge.due_at - timeutils.utcnow()).total_seconds()
                seconds = max(_PURGE_SECONDS, until)
            elif purge.is_gone and not purge.is_done:
                seconds = self._pause(image_id)
        is_over = time.monotonic() > self._noted[image_id].give_up_at
        self._later(image_id, None if is_over else seconds)

    def _wait_for_import(self, image: Image) -> None:
        if image.status == "queued":
            # The import has failed, or the staged bytes were taken back.
            staging.drop(self.tools, image.image_id)
        noted = self._noted[image.image_id]
        is_over = time.monotonic() > noted.give_up_at
        if is_over:
            staging.drop(self.tools, image.image_id)
        noted.pause = min(noted.pause * 1.5, _LONGEST_PAUSE_SECONDS)
        self._later(image.image_id, None if is_over else noted.pause)

    def _later(self, image_id: str, seconds: float | None) -> None:
        if seconds is None:
            del self._noted[image_id]
        else:
            self._noted[image_id].due_at = time.monotonic() + seconds
