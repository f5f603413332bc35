"""Which image a caller sees: Glance says so, in the same process, with the caller's context."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import webob

from glance_repl_mw import patches
from glance_repl_mw.rest.answers import Answered

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@dataclasses.dataclass(frozen=True)
class SeenImage:
    """What Glance shows the caller of an image.

    :ivar locations: the URLs without signatures, None where Glance hides them
    """

    image_id: str
    owner: str | None
    status: str
    size: int | None
    locations: tuple[str, ...] | None

    @property
    def policy_target(self) -> dict[str, Any]:
        """What rules can refer to."""
        return {"image_id": self.image_id, "project_id": self.owner or ""}


def seen_image(request: webob.Request, application: WSGIApplication, image_id: str) -> SeenImage:
    """The image as the caller sees it.

    :param application: the rest of the pipeline
    :raises Answered: with Glance's own answer, where the caller may not see it
    """
    question = request.copy_get()
    question.path_info = f"/v2/images/{image_id}"
    question.query_string = ""
    answer = question.get_response(application)
    if answer.status_int != 200:
        raise Answered(answer)
    body = answer.json
    locations = body.get("locations")
    return SeenImage(
        image_id=body["id"],
        owner=body.get("owner"),
        status=body["status"],
        size=body.get("size"),
        locations=None if locations is None else tuple(map(patches.plain_url, locations)),
    )
