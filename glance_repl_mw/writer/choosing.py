# SPDX-License-Identifier: Apache-2.0
"""Which targets an upload goes to, where that depends on the image that Glance knows."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Collection

from oslo_log import log

from glance_repl_mw.choice import Choice
from glance_repl_mw.model import Image
from glance_repl_mw.spool.upload import Upload, UploadState
from glance_repl_mw.writer import work
from glance_repl_mw.writer.crew import Crew

LOG = log.getLogger(__name__)


@dataclasses.dataclass
class _Question:
    """What Glance was asked about the image of one upload.

    :ivar ask_at: when to ask, on the monotonic clock; None where it is asked or was answered
    :ivar is_gone: nobody doubts that there is no such image any more
    """

    ask_at: float | None = 0.0
    failures: int = 0
    image: Image | None = None
    is_gone: bool = False


class Choosing:
    """Asks Glance once for each upload, in the crew's pool; every method is the main loop's.

    Where nothing depends on the image, Glance is not asked.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._choice = Choice(crew.conf, crew.targets)
        self._questions: dict[str, _Question] = {}
        self._has_news = False

    def targets_of(self, upload: Upload, leaving: Collection[str]) -> list[str] | None:
        """The targets that are to have the upload, None where that is not known yet.

        :param leaving: targets that shall hold no replicas any more
        """
        chosen = self._chosen(upload)
        if chosen is None:
            return None
        return [name for name in chosen if name in self._crew.targets and name not in leaving]

    def take_news(self) -> bool:
        """Whether an upload may be decided now that could not be decided before."""
        had_news, self._has_news = self._has_news, False
        return had_news

    def forget(self, upload_id: str) -> None:
        """The upload has been taken in hand."""
        self._questions.pop(upload_id, None)

    def tick(self) -> None:
        """Look again at what is open, once a second or so: its process may have died."""
        for upload_id in list(self._questions):
            if not self._crew.spool.sidecar_path(upload_id).exists():
                self.forget(upload_id)
        self._has_news |= bool(self._questions)

    def _chosen(self, upload: Upload) -> Collection[str] | None:
        if not self._choice.depends_on_image or upload.is_fetched:
            return self._choice.eager if upload.targets is None else upload.targets
        if upload.state is UploadState.REJECTED:
            return ()
        question = self._questions.setdefault(upload.upload_id, _Question())
        if question.is_gone:
            return ()
        if question.image is not None:
            return self._decide(upload, question.image)
        if question.ask_at is not None and question.ask_at <= time.monotonic():
            question.ask_at = None
            self._crew.at_glance(
                functools.partial(
                    work.look_up, self._crew.images, self._crew.guard, upload.image_id
                ),
                functools.partial(self._answered, upload, question),
            )
        return None

    def _answered(
        self,
        upload: Upload,
        question: _Question,
        image: Image | None,
        error: BaseException | None,
    ) -> None:
        self._has_news = True
        question.image = image
        question.is_gone = image is None and error is None
        if image is not None:
            for remark in self._choice.remarks(image):
                LOG.warning("Image %s: %s", upload.image_id, remark)
        elif not question.is_gone:
            question.failures += 1
            question.ask_at = time.monotonic() + self._crew.pause_seconds(question.failures)
            LOG.warning("Image %s: its targets are not known: %s", upload.image_id, error)

    def _decide(self, upload: Upload, image: Image) -> list[str] | None:
        image = dataclasses.replace(image, size=_size_of(upload, image))
        # A download fills the local target on demand, yet only with what its rule allows.
        on_demand = upload.targets is not None
        verdicts = {
            target: self._choice.verdict(image, target, on_demand=on_demand).wanted
            for target in self._crew.targets
            if upload.targets is None or target in upload.targets
        }
        may_become_known = (
            upload.state is UploadState.RECEIVING and not self._crew.spool.is_abandoned(upload)
        )
        if None in verdicts.values() and may_become_known:
            return None
        # What is still open is for the comparison of all images to decide.
        return [target for target, wanted in verdicts.items() if wanted]


def _size_of(upload: Upload, image: Image) -> int | None:
    """As far as it is known: Glance knows it only when it has the data."""
    sizes = (upload.received, upload.size, image.size)
    return next((size for size in sizes if size is not None), None)
