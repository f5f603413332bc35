# SPDX-License-Identifier: Apache-2.0
"""Whether the Glance that answers is the one of this deployment, and what it shows us.

An answer that an image is not there says little: the service user may have lost its role, or the
endpoint may lead to another Glance. So a few images are remembered as witnesses. A Glance that
shows them as they were is the one that is known; one that shows other projects' private images,
too, would show all images.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Mapping, Sequence

from oslo_config import cfg
from oslo_log import log

from glance_repl_mw import deployment, exceptions
from glance_repl_mw.db.deletions import DeletionRecords, Witness
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Image

LOG = log.getLogger(__name__)

_ANSWERS = "glance_tells_deployment"
_IS_RIGHT = "if it is the right one, run glance-repl-manage deletions release --this-glance"
_EACH_KIND = 4
_FEW_IMAGES = 10
_BELIEVED_SECONDS = 20.0
_ASK_AGAIN_SECONDS = 2.0
_UNKNOWN = "no image is known yet by which this Glance could be told from another"
_ANOTHER = (
    "the Glance that answers is another one, or shows none of the images that are known; "
    f"{_IS_RIGHT}"
)
_OTHERS = "the Glance that answers belongs to another deployment: {}"
_SILENT = (
    f"the Glance that answers does not serve replication any more: is it another one? {_IS_RIGHT}"
)
_IS_LISTED = "Glance lists the image, although it did not show it a moment before"
_NO_RIGHT = (
    "Glance is not seen to show other projects' private images to the service user: has it lost "
    "its role?"
)


class WitnessChoice:
    """Keeps some of all images: the oldest, the newest, and the newest of other projects' own.

    :param project: that of the service user
    """

    def __init__(self, project: str | None) -> None:
        self._project = project
        self._oldest: list[Image] = []
        self._newest: dict[str, collections.deque[Image]] = {}
        self._of_owners: dict[str, Image] = {}

    def add(self, image: Image) -> None:
        """Take the next image, in the order in which they were made."""
        if not image.has_data or image.created_at is None:
            return
        if len(self._oldest) < _EACH_KIND:
            self._oldest.append(image)
        self._keep("any", image)
        if image.owner not in (None, self._project) and image.visibility in ("private", "shared"):
            self._keep(image.visibility, image)
            self._of_owners.pop(image.owner, None)
            self._of_owners[image.owner] = image
            if len(self._of_owners) > _EACH_KIND:
                del self._of_owners[next(iter(self._of_owners))]

    def witnesses(self) -> list[Witness]:
        """Those that were kept."""
        kept = [*self._oldest, *self._of_owners.values()]
        for few in self._newest.values():
            kept += few
        return [
            Witness(image.image_id, image.owner, image.created_at)
            for image in {each.image_id: each for each in kept}.values()
            if image.created_at is not None
        ]

    def _keep(self, kind: str, image: Image) -> None:
        self._newest.setdefault(kind, collections.deque(maxlen=_EACH_KIND)).append(image)


def trust_another(records: DeletionRecords) -> None:
    """Forget the Glance that is known: the one that answers at the next comparison becomes it.

    :raises oslo_db.exception.DBError:
    """
    records.forget_fact(_ANSWERS)
    records.set_witnesses(())


class KnownGlance:
    """Asks Glance for the witnesses; used by any thread.

    That it is the one that is known is believed for some seconds.
    """

    def __init__(
        self, conf: cfg.ConfigOpts, images: ImageService, records: DeletionRecords
    ) -> None:
        self._conf = conf
        self._images = images
        self._records = records
        self._lock = threading.Lock()
        self._identity = _Answer()
        self._lack_of_right = _Answer()

    def identity_doubt(self) -> str:
        """Why this may be another Glance; empty where it is the one that is known. Blocks.

        :raises GlanceUnavailable:
        :raises GlanceRefused:
        :raises oslo_db.exception.DBError:
        """
        with self._lock:
            if not self._identity.is_fresh:
                self._identity = _Answer(self._doubt_identity())
            return self._identity.doubt

    def absence_doubt(self, image_id: str) -> str:
        """Why an image that Glance does not show may be there; empty where it is gone. Blocks.

        It is looked for in one list with the witnesses: a right that was lost a moment ago, or
        came back, shows both or neither. Raises likewise. That the right is lacking, which keeps
        everything, is believed for some seconds; that it is there is never.
        """
        with self._lock:
            if self._lack_of_right.is_fresh:
                return self._lack_of_right.doubt
        witnesses = self._records.witnesses()
        found = self._images.find([image_id, *(each.image_id for each in witnesses)])
        if image_id in found:
            return _IS_LISTED
        doubt = self._right_doubt(_as_they_were(witnesses, found))
        if doubt:
            with self._lock:
                self._lack_of_right = _Answer(doubt)
        return doubt

    def knows_foreign_images(self) -> bool:
        """Whether Glance has ever shown another project's image."""
        project = self._images.project_id()
        return any(each.owner not in (None, project) for each in self._records.witnesses())

    def overlooks_capitals(self) -> bool:
        """Whether Glance finds an image whatever capitals its id is given in. Blocks.

        That depends on its database; no image says nothing, and passes for "no".

        :raises GlanceUnavailable:
        :raises GlanceRefused:
        """
        for image in self._images.page(None, _FEW_IMAGES):
            other = image.image_id.swapcase()
            if other != image.image_id:
                found = self._images.find([other]).get(other)
                return found is not None and found.image_id == image.image_id
        return False

    def choice(self) -> WitnessChoice:
        """What chooses witnesses among images of which it is told."""
        return WitnessChoice(self._images.project_id())

    def learn(self, choice: WitnessChoice) -> None:
        """Let Glance be known by what was chosen among all the images that it shows now.

        Nothing is learnt of a Glance that may be another one. Raises as ``identity_doubt``.
        """
        chosen = choice.witnesses()
        if not chosen:
            return
        self.forget_answers()
        doubt = self.identity_doubt()
        if doubt in ("", _UNKNOWN):
            self._records.set_witnesses(chosen)
        else:
            LOG.error("The images by which Glance is known are not changed: %s", doubt)
        self.forget_answers()

    def forget(self, image_id: str) -> None:
        """The image was deleted: it is no witness any more.

        :raises oslo_db.exception.DBError:
        """
        if any(each.image_id == image_id for each in self._records.witnesses()):
            self._records.forget_witness(image_id)

    def forget_answers(self) -> None:
        """Ask Glance at the next occasion."""
        with self._lock:
            self._identity = self._lack_of_right = _Answer()

    def _doubt_identity(self) -> str:
        own, told = self._own_id(), self._images.deployment()
        if told is not None and told == own:
            self._records.set_fact(_ANSWERS, "yes", unless_known=True)
            return ""
        if told is not None:
            return _OTHERS.format(told)
        if self._records.fact(_ANSWERS):
            return _SILENT
        witnesses = self._records.witnesses()
        if not witnesses:
            return _UNKNOWN
        found = self._images.find([each.image_id for each in witnesses])
        return "" if _as_they_were(witnesses, found) else _ANOTHER

    def _own_id(self) -> str:
        """The id of this deployment, which the spool has where the database was lost."""
        known = self._records.fact(deployment.FACT)
        return known or deployment.deployment_id(self._conf, self._records)

    def _right_doubt(self, shown: Sequence[Image]) -> str:
        """Why Glance may not show us all images, if it shows these witnesses; empty: it does."""
        owners = set()
        project = self._images.project_id()
        for image in shown:
            if image.owner is None or image.owner == project:
                continue
            if image.visibility == "private":
                return ""
            if image.visibility == "shared":
                members = self._members(image)
                if members is None:
                    owners.add(image.owner)
                elif project not in members:
                    return ""
        # Where the members are hidden, one project may have shared its image with ours.
        return "" if len(owners) > 1 else _NO_RIGHT

    def _members(self, image: Image) -> list[str] | None:
        """The projects that the image is shared with, None where Glance hides them."""
        try:
            return self._images.members(image.image_id)
        except (exceptions.GlanceRefused, exceptions.ImageGone):
            return None


def _as_they_were(witnesses: Sequence[Witness], found: Mapping[str, Image]) -> list[Image]:
    """The witnesses among the images that Glance shows, but those that were made again."""
    return [
        found[each.image_id]
        for each in witnesses
        if each.image_id in found and found[each.image_id].created_at == each.created_at
    ]


class _Answer:
    """What was found, and until when it is believed."""

    def __init__(self, doubt: str | None = None) -> None:
        self.doubt = doubt or ""
        seconds = _ASK_AGAIN_SECONDS if doubt else _BELIEVED_SECONDS
        self._until = float("-inf") if doubt is None else time.monotonic() + seconds

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() < self._until
