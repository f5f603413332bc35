# SPDX-License-Identifier: Apache-2.0
"""Which reads may begin, and at which place each of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from glance_repl_mw.model import Image
from glance_repl_mw.reconciler import gone
from glance_repl_mw.reconciler.lanes import Place, Shared
from glance_repl_mw.reconciler.reading import Reading
from glance_repl_mw.reconciler.room import Room
from glance_repl_mw.reconciler.tools import Demand, Tools

_IMAGES_AT_ONCE = 50
# An image for which no room was made in this time goes past the spool.
_NO_ROOM_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A read that may begin.

    :ivar image: None where Glance does not list it
    :ivar place: that it takes
    :ivar target: the only one that it is for, where the bytes go straight to it
    """

    image_id: str
    image: Image | None
    place: Place
    target: str | None = None

    @property
    def key(self) -> tuple[str, str | None]:
        return self.image_id, self.target

    @property
    def owner(self) -> str | None:
        return self.image.owner if self.image else None


@dataclasses.dataclass(frozen=True)
class Begun(Candidate):
    """A read that has its place.

    :ivar reading: how fast the bytes come
    """

    reading: Reading = dataclasses.field(kw_only=True)


def has_waited_long(demand: Demand) -> bool:
    """Whether the image shall wait no longer for room in the spool."""
    return demand.standing_seconds > _NO_ROOM_SECONDS


class Candidates:
    """What Glance says of the images that wait, and what follows for them; used by one thread.

    :param fits: whether a candidate could begin now
    """

    def __init__(self, tools: Tools, room: Room, fits: Callable[[Candidate], bool]) -> None:
        self._tools = tools
        self._room = room
        self._fits = fits
        self._images: dict[str, Image | None] = {}

    def of(self, wanted: Mapping[str, Sequence[str]]) -> list[Candidate]:
        """Those of the next images, in their order.

        Glance is asked about many in one request, and only if none that is known could begin
        before them.

        :param wanted: the targets that lack an image, by the image's id
        :raises GlanceUnavailable:
        :raises GlanceRefused:
        """
        images = {each: self._images[each] for each in wanted if each in self._images}
        found = list(self._candidates(images, wanted))
        first = next((each.image_id for each in found if self._fits(each)), None)
        unknown = [each for each in wanted if each not in images]
        before = itertools.takewhile(lambda each: each != first, wanted)
        if any(each not in images for each in before):
            asked = unknown[:_IMAGES_AT_ONCE]
            images |= dict.fromkeys(asked) | gone.find(self._tools, asked)[0]
            images = {each: images[each] for each in wanted if each in images}
            found = list(self._candidates(images, wanted))
        self._images = images
        return found

    def _candidates(
        self, images: Mapping[str, Image | None], targets: Mapping[str, Sequence[str]]
    ) -> Iterator[Candidate]:
        demands = self._tools.shortage.standing()
        for image_id, image in images.items():
            demand = demands.get(image_id)
            if image is None or not image.has_data or not image.size:
                yield Candidate(image_id, image, Shared.PLACE)
                continue
            is_slow = self._tools.history.is_slow(image)
            if not self._room.could_hold(image.size) or (demand and has_waited_long(demand)):
                for target in targets[image_id]:
                    yield Candidate(image_id, image, None if is_slow else target, target)
            else:
                yield Candidate(image_id, image, None if is_slow else Shared.PLACE)
