# SPDX-License-Identifier: Apache-2.0
"""The replicas of one image: read, made now, deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import webob
import webob.exc
from oslo_log import log

from glance_repl_mw import policies
from glance_repl_mw.choice import Choice
from glance_repl_mw.db.demands import ReplicaDemands
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.model import CLOSED, Replica, ReplicaStatus
from glance_repl_mw.rest.answers import json, refused
from glance_repl_mw.rest.beginning import or_nothing
from glance_repl_mw.rest.questions import parameters, seconds
from glance_repl_mw.rest.rights import Rights
from glance_repl_mw.rest.visibility import SeenImage, seen_image
from glance_repl_mw.rest.waiting import WaitingRoom
from glance_repl_mw.spool.directory import Spool

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LOG = log.getLogger(__name__)

ADMINISTRATORS_ONLY = ("location_url", "error")
_IN_HAND_SECONDS = 10
_DATA_COMES_SECONDS = 5
_BEFORE_DATA = ("queued", "saving", "uploading", "importing")
_EMPTY = "an empty image can have no replica"


class ImageReplicas:
    """Answers requests for ``/v2/images/{image_id}/replicas`` and what is below.

    :param application: the rest of the pipeline, which knows who may see which image
    :param spool: where the writer of this node finds what happened
    :param targets: the names of the configured targets
    :param choice: what they may have
    :param room: where requests wait
    """

    def __init__(
        self,
        demands: ReplicaDemands,
        rights: Rights,
        application: WSGIApplication,
        spool: Spool,
        targets: Collection[str],
        choice: Choice,
        room: WaitingRoom,
    ) -> None:
        self._demands = demands
        self._rights = rights
        self._application = application
        self._spool = spool
        self._targets = targets
        self._choice = choice
        self._room = room

    def list(self, request: webob.Request, image_id: str) -> webob.Response:
        """All replicas of the image."""
        image = self._readable(request, image_id)
        parameters(request, ())
        replicas = self._replicas(image)
        return json({"replicas": self._views(request, image, replicas)})

    def show(self, request: webob.Request, image_id: str, target: str) -> webob.Response:
        """The replica at the target; with ``wait``, when that has come to something."""
        image = self._readable(request, image_id)
        wait = _wait(request)
        replica = self._found(image, target)
        is_gone = replica is None or replica.status is ReplicaStatus.DELETED
        if replica is None or (is_gone and wait > 0 and not image.image.has_data):
            return self._when_there(request, image, target, wait)
        return self._when_changed(request, image, replica, wait)

    def _when_there(
        self, request: webob.Request, image: SeenImage, target: str, wait: float
    ) -> webob.Response:
        """The replica that is not there yet, as it is after the wait.

        :raises Answered: 404, at once where it never will be there
        """
        never = self._why_never(image, target)
        if never is not None:
            raise _no_replica(target, never)
        pause = self._room.wait_for_new(image.image_id, target, wait)
        replica = self._found(image, target)
        if replica is None or replica.status is ReplicaStatus.DELETED:
            now = self._readable(request, image.image_id) if wait > 0 and pause is None else image
            yet = "there is none yet"
            if not now.image.has_data:
                yet = f"the image has no data yet, it is {now.status}"
            raise _no_replica(target, yet, pause or _DATA_COMES_SECONDS)
        return json(self._view(request, image, replica))

    def _why_never(self, image: SeenImage, target: str) -> str | None:
        """What keeps the target from having the image without being asked for it."""
        if target not in self._targets:
            return "there is no such target"
        if or_nothing(lambda: self._demands.is_leaving(target), False):
            return "the target is being emptied"
        if image.status not in (*_BEFORE_DATA, "active"):
            return f"the image is {image.status}"
        if image.status == "active" and not image.image.size:
            return _EMPTY
        verdict = self._choice.verdict(image.image, target)
        return printable(verdict.why) if verdict.wanted is False else None

    def synchronise(self, request: webob.Request, image_id: str, target: str) -> webob.Response:
        """200 where the replica is active; 202 where it is made, before everything else."""
        image = seen_image(request, self._application, image_id)
        self._rights.demand(request, policies.SYNCHRONISE, image.policy_target)
        wait = _wait(request)
        if target not in self._targets:
            raise refused(webob.exc.HTTPNotFound, f"There is no target {target}.")
        size = _size_of(image)
        if self._demands.is_leaving(target):
            raise refused(webob.exc.HTTPConflict, f"Target {target} is being emptied.")
        self._see_that_rules_allow(image, target)
        replica = self._demands.synchronise(image.image_id, target, size)
        if replica.status is not ReplicaStatus.ACTIVE:
            self._note(image)
        return self._when_changed(request, image, replica, wait, 202)

    def remove(self, request: webob.Request, image_id: str, target: str) -> webob.Response:
        """202: the location is removed, then the object."""
        image = seen_image(request, self._application, image_id)
        self._rights.demand(request, policies.DELETE, image.policy_target)
        if image.status == "deactivated":
            raise refused(
                webob.exc.HTTPConflict, "A deactivated image keeps its locations; reactivate it."
            )
        parameters(request, ())
        rows = or_nothing(lambda: self._demands.rows(image.image_id, target), [])
        live = [row for row in rows if row.status not in CLOSED]
        _see_that_none_is_in_hand(live)
        _see_that_none_is_the_only_location(image, live)
        if live and not self._demands.remove(live):
            raise refused(webob.exc.HTTPConflict, "The replica has just changed.", 1)
        replica = self._replica(image, target)
        if not live and replica.status is ReplicaStatus.DELETED:
            raise _no_replica(target)
        self._note(image)
        return json(self._view(request, image, replica), 202)

    def _when_changed(
        self,
        request: webob.Request,
        image: SeenImage,
        replica: Replica,
        wait: float,
        unless_active: int = 200,
    ) -> webob.Response:
        """The replica as it is after the wait.

        :param unless_active: the status of the answer while the replica is not active
        """
        pause = self._room.wait(replica, wait)
        if wait > 0 and pause is None:
            replica = self._replica(image, replica.target)
        is_active = replica.status is ReplicaStatus.ACTIVE
        answer = json(self._view(request, image, replica), 200 if is_active else unless_active)
        if pause is not None:
            answer.headers["Retry-After"] = str(pause)
        return answer

    def _see_that_rules_allow(self, image: SeenImage, target: str) -> None:
        """:raises Answered: 409, where there is no replica yet and there shall be none"""
        objection = self._choice.objection(image.image, target)
        if objection is None:
            return
        rows = self._demands.rows(image.image_id, target)
        if all(row.status in CLOSED for row in rows):
            raise refused(
                webob.exc.HTTPConflict, f"Target {target} takes no such image: {objection}."
            )

    def _readable(self, request: webob.Request, image_id: str) -> SeenImage:
        image = seen_image(request, self._application, image_id)
        self._rights.demand(request, policies.READ, image.policy_target)
        return image

    def _replica(self, image: SeenImage, target: str) -> Replica:
        replica = self._found(image, target)
        if replica is None:
            raise _no_replica(target)
        return replica

    def _found(self, image: SeenImage, target: str) -> Replica | None:
        replicas = self._replicas(image)
        return next((replica for replica in replicas if replica.target == target), None)

    def _replicas(self, image: SeenImage) -> Sequence[Replica]:
        return or_nothing(lambda: self._demands.replicas([image.image_id]), [])

    def _view(self, request: webob.Request, image: SeenImage, replica: Replica) -> dict[str, Any]:
        return self._views(request, image, [replica])[0]

    def _views(
        self, request: webob.Request, image: SeenImage, replicas: Sequence[Replica]
    ) -> Sequence[dict[str, Any]]:
        may_see_urls = self._rights.may(request, policies.READ_URLS, image.policy_target)
        hidden = {} if may_see_urls else dict.fromkeys(ADMINISTRATORS_ONLY)
        return [{**replica.as_dict(), **hidden} for replica in replicas]

    def _note(self, image: SeenImage) -> None:
        """Have the writer of this node look soon; without the note it does so later."""
        try:
            self._spool.note(image.image_id)
        except OSError as error:
            LOG.warning("Image %s: a demand cannot be noted: %s", image.image_id, error)


def _wait(request: webob.Request) -> float:
    return seconds(parameters(request, ("wait",)), "wait")


def _size_of(image: SeenImage) -> int:
    """The bytes of an image that can be replicated.

    :raises Answered: 409
    """
    if image.status == "deactivated":
        raise refused(webob.exc.HTTPConflict, "The image is deactivated.")
    if image.status != "active":
        why = f"The image has no data yet: it is {image.status}."
        wait = None if image.status == "queued" else _DATA_COMES_SECONDS
        raise refused(webob.exc.HTTPConflict, why, wait)
    if not image.image.size:
        raise refused(webob.exc.HTTPConflict, f"{_EMPTY.capitalize()}.")
    return image.image.size


def _see_that_none_is_in_hand(replicas: Sequence[Replica]) -> None:
    """:raises Answered: 409"""
    for replica in replicas:
        is_being_added = (
            replica.status is ReplicaStatus.STORED and replica.next_attempt_at is not None
        )
        if replica.node is not None or is_being_added:
            raise refused(
                webob.exc.HTTPConflict, "The replica is being written.", _IN_HAND_SECONDS
            )


def _see_that_none_is_the_only_location(image: SeenImage, replicas: Sequence[Replica]) -> None:
    """:raises Answered: 409"""
    ours = {replica.location_url for replica in replicas}
    if image.locations and set(image.locations) <= ours:
        raise refused(webob.exc.HTTPConflict, "It is the only location of the image.")


def _no_replica(target: str, why: str = "", retry_after_seconds: int | None = None) -> Exception:
    text = f"The image has no replica at target {target}"
    explained = f"{text}: {why}." if why else f"{text}."
    return refused(webob.exc.HTTPNotFound, explained, retry_after_seconds)
