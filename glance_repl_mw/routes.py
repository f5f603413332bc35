"""What a request does to an image, told from its method and path."""

from __future__ import annotations

import dataclasses
import re

from glance_repl_mw.spool.upload import Origin

_HEX = "[0-9a-fA-F]"
_ID = f"(?P<image_id>{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}})"


@dataclasses.dataclass(frozen=True)
class Action:
    """What a request does to an image.

    :ivar origin: what its body is, None where that is no image data
    :ivar saves_record: Glance writes the image's record, all locations included; its existence,
        its data or the targets that are to have it may change
    :ivar deletes_image: where Glance answers with success, it has deleted the image
    :ivar is_download: its answer holds the image's data
    :ivar has_body: of such a change, Glance reads a body before it looks at the image
    """

    image_id: str
    origin: Origin | None = None
    saves_record: bool = False
    deletes_image: bool = False
    is_download: bool = False
    has_body: bool = False


_ROUTES = [
    (re.compile(pattern), effects)
    for pattern, effects in (
        (f"PUT /v2/images/{_ID}/file/?", {"origin": Origin.UPLOAD}),
        (f"GET /v2/images/{_ID}/file/?", {"is_download": True}),
        (f"PUT /v2/images/{_ID}/stage/?", {"origin": Origin.STAGE}),
        (f"PATCH /v2/images/{_ID}/?", {"saves_record": True, "has_body": True}),
        (f"DELETE /v2/images/{_ID}/?", {"saves_record": True, "deletes_image": True}),
        (
            f"POST /v2/images/{_ID}/(locations|import)/?",
            {"saves_record": True, "has_body": True},
        ),
        (f"POST /v2/images/{_ID}/actions/(de|re)activate/?", {"saves_record": True}),
        (f"DELETE /v2/stores/[^/]+/{_ID}/?", {"saves_record": True}),
        (
            f"(PUT|DELETE) /v2/images/{_ID}/tags/[^/]+/?",
            {"saves_record": True},
        ),
    )
]


def action_of(method: str, path: str) -> Action | None:
    """What the request does, None where replication does not mind it."""
    request = f"{method} {path}"
    for pattern, effects in _ROUTES:
        match = pattern.fullmatch(request)
        if match:
            return Action(image_id=match["image_id"], **effects)
    return None
