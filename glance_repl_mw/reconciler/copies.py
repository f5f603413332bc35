# SPDX-License-Identifier: Apache-2.0
"""Proves that an image can be read without one of its objects, before that object goes for good.

That a target is up, or that a location is in the image's record, is no proof: the primary store
may be dead, and a replica may be lost. So a replica elsewhere is looked at; where there is none,
Glance is asked for the first bytes of the image. As Glance reads whichever location it likes, it
is asked only while the record does not name the object in question: the location is removed first,
and comes back where nothing can be read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Image
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.targets.base import Target

LOG = log.getLogger(__name__)

ONLY_LOCATION = "it is the only location of the image"
_UNPROVEN = "no other copy of the image is proven to be readable: {}"
_HIDDEN = "Glance does not show the locations of the image"
_COMPARE = "compare the object with the image"
_NONE = "no other replica of it is at a target that is up"


class _Proof(NamedTuple):
    """Of the copies that locations name, as far as targets show them.

    :ivar url: of a replica that is there and complete, None where there is none
    :ivar doubt: why there is none
    :ivar glance_can_tell: whether a location may be left that is not ours, and none is known to
        name wrong bytes, which Glance would read as well
    """

    url: str | None
    doubt: str = ""
    glance_can_tell: bool = False


class ReadableCopies:
    """Looks at the copies of an image; used by any thread. Calls block.

    :param targets: the configured ones by name
    :param health: likewise; a target that is down is not asked
    :param is_bad: of an image, a target and the name of an object: whether its bytes are known to
        be wrong, although it is there and has the image's size
    """

    def __init__(
        self,
        images: ImageService,
        targets: Mapping[str, Target],
        health: Mapping[str, TargetHealth],
        is_bad: Callable[[str, str, str], bool],
    ) -> None:
        self._images = images
        self._targets = targets
        self._health = health
        self._is_bad = is_bad

    def owner(self, url: str) -> tuple[str, str] | None:
        """The target and the name of the object that a location names, None for no target."""
        for target in self._targets.values():
            name = target.object_name(url)
            if name is not None:
                return target.name, name
        return None

    def possible(self, record: Image, target: str, name: str) -> int:
        """How many copies besides an object may be readable; asks nobody.

        Of an image without data nothing can be lost.
        """
        if not _can_be_lost(record):
            return 1
        owners = [self.owner(url) for url in record.locations]
        return sum(
            owner is None or (owner != (target, name) and self._health[owner[0]].is_up)
            for owner in owners
        )

    def doubt(self, record: Image, target: str, name: str) -> str:
        """Why no copy besides an object is proven to be readable; empty where one is.

        :param record: does not name the object
        """
        if not _can_be_lost(record):
            return ""
        proof = self._proof(record, record.locations, first=target)
        if proof.url is None and not proof.glance_can_tell:
            return proof.doubt
        return "" if proof.url is not None else self._unread(record.image_id)

    def remove_location(self, image_id: str, url: str, *, may_return: bool = True) -> str:
        """Take a location out of Glance once another copy is proven to be readable.

        May be done again, also where it was broken off half way.

        :param may_return: it is added again where nothing else can be read, also where Glance did
            not show it
        :returns: why it stays, or must not be taken for removed; empty where it is gone
        :raises GlanceUnavailable:
        :raises GlanceRefused:
        :raises ImageGone:
        """
        record = self._images.get(image_id)
        if record.has_data and not record.locations:
            return _HIDDEN
        others = [each for each in record.locations if each != url]
        proven: str | None = None
        if _can_be_lost(record):
            if not others:
                return ONLY_LOCATION
            proof = self._proof(record, others)
            proven = proof.url
            if proven is None and not proof.glance_can_tell:
                return _UNPROVEN.format(proof.doubt)
        if self._images.remove_locations(image_id, [url], proven):
            return ONLY_LOCATION
        if proven is not None or not _can_be_lost(record):
            return ""
        doubt = self._unread(image_id)
        if not doubt:
            return ""
        if may_return or url in record.locations:
            doubt += self._return(image_id, url, doubt)
        return _UNPROVEN.format(doubt)

    def _return(self, image_id: str, url: str, doubt: str) -> str:
        """Add a location again; says why Glance does not take it, empty where it does."""
        LOG.warning("Image %s: its location %s comes back: %s", image_id, url, doubt)
        try:
            self._images.add_locations(image_id, [url])
        except exceptions.GlanceRefused as error:
            return f"; its location does not come back yet: {error.hint}"
        return ""

    def _proof(self, record: Image, urls: Sequence[str], first: str = "") -> _Proof:
        """A replica among the locations that is there and complete; where none is, why not."""
        doubt, has_wrong_bytes = _NONE, False
        for url, target, name in self._candidates(urls, first):
            try:
                doubt = self._doubt_of_replica(record, target, name)
            except exceptions.TargetCorrupt as error:
                doubt, has_wrong_bytes = str(error), True
            except exceptions.TargetError as error:
                doubt = str(error)
            if not doubt:
                return _Proof(url)
        glance_can_tell = not has_wrong_bytes and not all(map(self.owner, urls))
        return _Proof(None, doubt, glance_can_tell)

    def _candidates(self, urls: Sequence[str], first: str) -> Iterator[tuple[str, str, str]]:
        """URL, target and name of each object of ours; who was seen to answer comes first."""
        found = [(url, *owner) for url in urls if (owner := self.owner(url)) is not None]
        up = [each for each in found if self._health[each[1]].is_up]
        return iter(
            sorted(up, key=lambda each: (each[1] != first, not self._health[each[1]].is_proven_up))
        )

    def _doubt_of_replica(self, record: Image, target: str, name: str) -> str:
        """Why a replica is none; raises ``TargetError``, ``TargetCorrupt`` of wrong bytes."""
        if self._is_bad(record.image_id, target, name):
            raise exceptions.TargetCorrupt(record.image_id, target, _COMPARE, "it was found bad")
        stored = self._targets[target].stat(name)
        if stored is None:
            return f"target {target} has not its object"
        if stored.size != record.size:
            hint = f"it has {stored.size} of {record.size} bytes"
            raise exceptions.TargetCorrupt(record.image_id, target, _COMPARE, hint)
        if not self._health[target].is_proven_up:
            # Glance reads it in another way than it is looked at.
            self._targets[target].probe(name)
        return ""

    def _unread(self, image_id: str) -> str:
        """Why Glance gives no byte of the image from any location; empty where it does."""
        try:
            with contextlib.closing(self._images.download(image_id, past_cache=True)) as blocks:
                has_come = bool(next(blocks, b""))
        except exceptions.ReplicationError as error:
            return f"Glance cannot read it: {error.hint}"
        return "" if has_come else "Glance reads nothing"


def _can_be_lost(record: Image) -> bool:
    return record.has_data and record.size != 0
