# SPDX-License-Identifier: Apache-2.0
"""Whether a replica still has the bytes of its image, and what happens where it has not."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.content import ImageDigest
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.pace import Pace
from glance_repl_mw.reconciler.leaving import cannot_leave
from glance_repl_mw.reconciler.tools import Stopping, Tools
from glance_repl_mw.targets.base import Target, unclear
from glance_repl_mw.targets.bounds import TooLong, bounded_blocks

LOG = log.getLogger(__name__)

_IMAGES_PER_REQUEST = 50
_SETTLED = datetime.timedelta(seconds=10)
_BAD = (exceptions.ReplicaMissing, exceptions.TargetCorrupt)


class Outcome(enum.StrEnum):
    """What a verification has found."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is known of a replica after it was verified.

    :ivar why: what is wrong or stands in the way; empty for a good one
    """

    outcome: Outcome
    why: str = ""


_CHANGED = Verdict(Outcome.SKIPPED, "it has changed meanwhile")


class Verifier:
    """Verifies replicas, one at a time, and withdraws those that are bad; used by one thread."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def verify(
        self,
        replica: Replica,
        image: Image,
        *,
        read_back: bool,
        pace: Pace | None = None,
        is_suspect: bool = False,
    ) -> Verdict:
        """Examine a replica and act on what is found; blocks.

        A bad one loses its location at once and is then to be repaired from a good source. Where
        Glance keeps the location, because the image has no other or for another reason, the
        replica stays and has the error. Where the target does not say, nothing changes.

        :param image: Glance's record of the replica's image
        :param pace: grants the bytes that are read back; None for no limit
        :param is_suspect: it has given wrong bytes, so that it is examined also when just made
        :raises Stopping: the writer ends
        :raises oslo_db.exception.DBError:
        """
        obstacle = self.obstacle(replica, is_suspect=is_suspect) or _obstacle_at(image)
        if obstacle:
            return Verdict(Outcome.SKIPPED, obstacle)
        target = self._tools.targets[replica.target]
        stopping = self._tools.stopping
        try:
            examine(target, replica, image, read_back=read_back, pace=pace, stopping=stopping)
        except _BAD as error:
            return self._withdraw(replica, error, read_back)
        except exceptions.TargetError as error:
            return Verdict(Outcome.UNKNOWN, str(error))
        now = timeutils.utcnow()
        changes: dict[str, Any] = {"verified_at": now}
        if not self._is_to_leave_and_cannot(replica):
            changes["error"] = None
        if read_back:
            changes |= {"read_back_at": now, **acquittal(replica)}
        self._tools.survey.change(replica, **changes)
        return Verdict(Outcome.GOOD)

    def verify_all(
        self, replicas: Sequence[Replica], *, read_back: bool, pace: Pace | None = None
    ) -> Iterator[tuple[Replica, Verdict]]:
        """Verify replicas one after the other; asks Glance for many images in one request.

        :raises Stopping: also between two replicas
        :raises GlanceUnavailable: Glance cannot be asked about the images
        :raises GlanceRefused: likewise
        :raises oslo_db.exception.DBError:
        """
        for begin in range(0, len(replicas), _IMAGES_PER_REQUEST):
            batch = replicas[begin : begin + _IMAGES_PER_REQUEST]
            obstacles = {each.id: self.obstacle(each) for each in batch}
            wanted = {each.image_id for each in batch if not obstacles[each.id]}
            found = self._tools.images.find(list(wanted))
            for replica in batch:
                self._tools.rest(0)
                image = found.get(replica.image_id)
                if obstacles[replica.id]:
                    yield replica, Verdict(Outcome.SKIPPED, obstacles[replica.id])
                elif image is None:
                    yield replica, Verdict(Outcome.SKIPPED, "Glance does not have the image")
                else:
                    yield replica, self.verify(replica, image, read_back=read_back, pace=pace)

    def obstacle(self, replica: Replica, *, is_suspect: bool = False) -> str:
        """Why the replica is not verified now, as its row says; empty where it can be."""
        if replica.status is not ReplicaStatus.ACTIVE:
            return f"the replica is {replica.status}"
        if replica.target not in self._tools.targets:
            return "the target is not configured"
        if self._tools.is_in_hand(replica):
            return "its upload is not finished"
        is_known = is_suspect or replica.is_bad
        return "it has just been made" if _is_fresh(replica) and not is_known else ""

    def _is_to_leave_and_cannot(self, replica: Replica) -> bool:
        """Whether its error tells an operator, who still wants the target empty, why it stays."""
        return cannot_leave(replica) and replica.target in self._tools.outlooks.now().wishes

    def _withdraw(
        self, replica: Replica, error: exceptions.TargetError, read_back: bool
    ) -> Verdict:
        """Take the location away and have the replica repaired.

        What was found is in the row before the location goes: if this process dies in between,
        nobody takes the location for lost and adds it again.
        """
        survey = self._tools.survey
        noted = survey.change(replica, **finding(replica, error))
        if noted is None:
            return _CHANGED
        obstacle = self._remove_location(noted)
        if obstacle:
            why = f"{error}; its location stays: {obstacle}"
            verified: dict[str, Any] = {"verified_at": replica.verified_at} if read_back else {}
            changed = survey.change(noted, error=why, **verified)
            if changed and replica.error != why:
                LOG.error("Image %s, target %s: %s", replica.image_id, replica.target, why)
            return Verdict(Outcome.BAD, why)
        now = timeutils.utcnow()
        if not survey.change(noted, ReplicaStatus.ERROR, attempts=0, next_attempt_at=now):
            return _CHANGED
        what = "Image %s, target %s: its location is removed, it is repaired: %s"
        LOG.warning(what, replica.image_id, replica.target, error)
        return Verdict(Outcome.BAD, str(error))

    def _remove_location(self, replica: Replica) -> str:
        """Returns why the location stays; empty where it is gone."""
        try:
            url = replica.location_url or ""
            stays = self._tools.images.remove_locations(replica.image_id, [url])
        except exceptions.ImageGone:
            return ""
        except (exceptions.GlanceUnavailable, exceptions.GlanceRefused) as error:
            return error.hint
        return "it is the only one of the image" if stays else ""


def finding(replica: Replica, error: exceptions.TargetError) -> dict[str, Any]:
    """What the row of a replica that was found to be bad says from then on."""
    return {
        "error": str(error),
        "former_objects": " ".join(replica.object_names) or None,
        "verified_at": None,
        "read_back_at": None,
    }


def acquittal(replica: Replica) -> dict[str, Any]:
    """What changes in the row of a replica whose bytes were read and are right."""
    return {"former_objects": " ".join(replica.object_names[1:]) or None}


def _is_fresh(replica: Replica) -> bool:
    """Whether its location may just have been added.

    Such a one is looked at once more by the writer, which would add it again after a withdrawal.
    """
    return replica.verified_at is None and replica.updated_at > timeutils.utcnow() - _SETTLED


def _obstacle_at(image: Image) -> str:
    """Why no replica of the image is verified now; empty where one can be."""
    if image.status != "active":
        return f"the image is {image.status}"
    if image.size is None:
        return "Glance does not tell the image's size"
    return "" if image.size else "the image is empty"


def examine(
    target: Target,
    replica: Replica,
    image: Image,
    *,
    read_back: bool,
    pace: Pace | None = None,
    stopping: threading.Event | None = None,
) -> None:
    """See that the replica's object is there and has the image's size; blocks.

    :param read_back: read all of it, and compare the hash with the image's own
    :param pace: grants the bytes that are read; None for no limit
    :param stopping: ends the reading once it is set
    :raises ReplicaMissing: the object is not there, and Glance cannot read it
    :raises TargetCorrupt: it has not the image's bytes
    :raises TargetUnavailable: nothing is known
    :raises TargetRefused: likewise
    :raises Stopping: ``stopping`` is set
    """
    name = replica.object_name or ""
    stored = target.stat(name)
    if stored is None:
        raise unclear(target, name) or exceptions.ReplicaMissing(
            replica.image_id, target.name, "verify", f"{name} is not there"
        )
    _compare(replica, "size", stored.size, image.size)
    if stored.checksum and image.checksum:
        _compare(replica, "md5", stored.checksum, image.checksum)
    if read_back:
        _read_back(target, replica, image, pace, stopping or threading.Event())


def _read_back(
    target: Target, replica: Replica, image: Image, pace: Pace | None, stopping: threading.Event
) -> None:
    digest = ImageDigest.of(image)
    hasher = digest.hasher()
    size = 0
    blocks = target.open(replica.object_name or "")
    try:
        for block in bounded_blocks(
            blocks, image.size or 0, target=target.name, operation="verify"
        ):
            _await_grant(len(block), pace, stopping)
            hasher.update(block)
            size += len(block)
    except TooLong:
        _compare(replica, "size, read back,", f"more than {image.size}", image.size)
    _compare(replica, "size, read back,", size, image.size)
    if not digest.matches(hasher.hexdigest()):
        _compare(replica, f"{digest.algorithm}, read back,", hasher.hexdigest(), digest.value)


def _await_grant(count: int, pace: Pace | None, stopping: threading.Event) -> None:
    """Wait until so many bytes may have been read.

    :raises Stopping:
    """
    granted = 0
    while granted < count and not stopping.is_set():
        granted += pace.take(count - granted) if pace else count
    if stopping.is_set():
        raise Stopping


def _compare(replica: Replica, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        told = f"{printable(str(found))}, not {printable(str(wanted))}"
        hint = f"the {what} of {replica.object_name} is {told}"
        raise exceptions.TargetCorrupt(replica.image_id, replica.target, "verify", hint)
