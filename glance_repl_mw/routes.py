# SPDX-License-Identifier: Apache-2.0
"""What a request does to an image, told from its method and path as Glance's router takes them.

These are not always as they came: ``paste.urlmap`` makes one slash of several, and the router, of
``routes``, overlooks a line break at the end and lets a query or a form name another method.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from typing import Any

import webob

from glance_repl_mw.spool.upload import Origin

_UUID = r"{0}{{8}}-{0}{{4}}-{0}{{4}}-{0}{{4}}-{0}{{12}}"
_ID = _UUID.format("[0-9a-fA-F]")
_USUAL_ID = re.compile(_UUID.format("[0-9a-f]"))
# Whatever databases find an image by: some overlook capitals, and blanks at the end.
_GIVEN = "(?P<image_id>[^/]+)"
_SLASHES = re.compile("//+")
_METHOD = "_method"
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

ROUTED = "wsgiorg.routing_args"
"""Where the router leaves what it has found; the image cache answers before it is asked."""


@dataclasses.dataclass(frozen=True)
class Action:
    """What a request does to an image.

    :ivar origin: what its body is, None where that is no image data
    :ivar saves_record: Glance writes the image's record, all locations included; its existence,
        its data or the targets that are to have it may change
    :ivar deletes_image: where Glance answers with success, it has deleted the image
    :ivar is_download: its answer holds the image's data
    :ivar has_body: of such a change, Glance reads a body before it looks at the image
    :ivar is_named_in_form: the body may name another method, so that only the router knows what
        it does
    """

    image_id: str
    origin: Origin | None = None
    saves_record: bool = False
    deletes_image: bool = False
    is_download: bool = False
    has_body: bool = False
    is_named_in_form: bool = False

    def has_deleted(self, environ: dict[str, Any]) -> bool:
        """Whether Glance has deleted the image, now that it has answered with success."""
        if not self.is_named_in_form:
            return self.deletes_image
        _, found = environ.get(ROUTED, ((), {}))
        return self.deletes_image and found.get("action") == "delete"


_ROUTES = [
    (re.compile(pattern), effects)
    for pattern, effects in (
        (f"PUT /v2/images/{_GIVEN}/file/?", {"origin": Origin.UPLOAD}),
        (f"GET /v2/images/(?P<image_id>{_ID})/file/?", {"is_download": True}),
        (f"PUT /v2/images/{_GIVEN}/stage/?", {"origin": Origin.STAGE}),
        (f"PATCH /v2/images/{_GIVEN}/?", {"saves_record": True, "has_body": True}),
        (f"DELETE /v2/images/{_GIVEN}/?", {"saves_record": True, "deletes_image": True}),
        (
            f"POST /v2/images/{_GIVEN}/(locations|import)/?",
            {"saves_record": True, "has_body": True},
        ),
        (f"POST /v2/images/{_GIVEN}/actions/(de|re)activate/?", {"saves_record": True}),
        (f"DELETE /v2/stores/[^/]+/{_GIVEN}/?", {"saves_record": True}),
        (
            f"(PUT|DELETE) /v2/images/{_GIVEN}/tags/[^/]+/?",
            {"saves_record": True},
        ),
    )
]


def action_of(method: str, path: str) -> Action | None:
    """What the request does, None where replication does not mind it.

    :param path: as ``path_of`` gives it
    """
    request = f"{method} {path}"
    for pattern, effects in _ROUTES:
        match = pattern.fullmatch(request)
        if match:
            return Action(image_id=match["image_id"], **effects)
    return None


def action_in(environ: dict[str, Any]) -> Action | None:
    """What the request does, None where replication does not mind it; leaves the body unread."""
    path = path_of(environ)
    action = action_of(_method_of(environ), path)
    if action is None and _may_name_method(environ):
        # The only other change that Glance takes with a form.
        deletion = action_of("DELETE", path)
        return deletion and dataclasses.replace(deletion, has_body=True, is_named_in_form=True)
    return action


def path_of(environ: dict[str, Any]) -> str:
    """The path that Glance's router sees."""
    return _SLASHES.sub("/", environ.get("PATH_INFO", "")).removesuffix("\n")


def is_id(text: str) -> bool:
    """Whether an image can have this id."""
    return re.fullmatch(_ID, text) is not None


def is_usual_id(text: str) -> bool:
    """Whether the id is one of those that Glance makes: of small letters."""
    return _USUAL_ID.fullmatch(text) is not None


def _method_of(environ: dict[str, Any]) -> str:
    query = environ.get("QUERY_STRING", "")
    named = None
    if _METHOD in query:
        # Routes overlooks what cannot be decoded.
        with contextlib.suppress(ValueError):
            named = webob.Request({"QUERY_STRING": query}).GET.get(_METHOD)
    return str(named).upper() if named else str(environ["REQUEST_METHOD"])


def _may_name_method(environ: dict[str, Any]) -> bool:
    """Whether Routes looks for a method in the body."""
    kind = environ.get("CONTENT_TYPE", "").lower().partition(";")[0]
    is_form = environ["REQUEST_METHOD"] == "POST" and kind in _FORMS
    return is_form and _METHOD not in environ.get("QUERY_STRING", "")
