# SPDX-License-Identifier: Apache-2.0
"""Which image a caller sees: Glance says so, in the same process, with the caller's context."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import webob

from glance_repl_mw.answers import image_of
from glance_repl_mw.inquiry import record_request
from glance_repl_mw.model import Image
from glance_repl_mw.rest.answers import Answered

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@dataclasses.dataclass(frozen=True)
class SeenImage:
    """What Glance shows the caller of an image.

    :ivar image: without what Glance hides from the caller
    :ivar locations: the URLs without signatures, None where Glance hides them
    """

    image: Image
    locations: tuple[str, ...] | None

    @property
    def image_id(self) -> str:
        return self.image.image_id

    @property
    def status(self) -> str:
        return self.image.status

    @property
    def policy_target(self) -> dict[str, Any]:
        """What rules can refer to."""
        return {"image_id": self.image_id, "project_id": self.image.owner or ""}


def seen_image(request: webob.Request, application: WSGIApplication, image_id: str) -> SeenImage:
    """The image as the caller sees it.

    :param application: the rest of the pipeline
    :raises Answered: with Glance's own answer, where the caller may not see it
    """
    answer = record_request(request, image_id).get_response(application)
    if answer.status_int != 200:
        raise Answered(answer)
    body = answer.json
    image = image_of(body)
    return SeenImage(image, image.locations if "locations" in body else None)
