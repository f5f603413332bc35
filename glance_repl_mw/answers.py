# SPDX-License-Identifier: Apache-2.0
"""What Glance answers, read with care: an answer that is none must not pass for "not there"."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from oslo_utils import timeutils

from glance_repl_mw import exceptions, patches
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.model import Image
from glance_repl_mw.sizes import MOST_BYTES

_MOST_TEXT = 1000
_TEXTS = (
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "visibility",
    "owner",
    "container_format",
    "disk_format",
)


class Listing(NamedTuple):
    """A page of a list of images.

    :ivar has_more: Glance says that the list goes on; a page may be shorter than asked for
    """

    images: list[Image]
    has_more: bool


def image_of(body: Any, image_id: str | None = None) -> Image:
    """The image that Glance shows so.

    :param image_id: the one that was asked for, None where any may be
    :raises GlanceUnavailable: it is no image's record, or that of another image
    """
    try:
        image = _image(body)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _wrong(image_id, f"an image's record: {printable(str(error))}") from error
    if image_id is not None and not is_same_id(image.image_id, image_id):
        raise _wrong(image_id, f"what was asked for, but image {image.image_id}")
    return image


def is_same_id(one: str, other: str) -> bool:
    """Whether these are one image; some databases do not tell capitals from small letters."""
    return one.lower() == other.lower()


def listing_of(body: Mapping[str, Any], limit: int, among: Collection[str] | None) -> Listing:
    """A page of a list.

    :param limit: how many images were asked for at most
    :param among: the ids of those that were asked for, None where any may be in the list
    :raises GlanceUnavailable: it is not what was asked for
    """
    records = body.get("images")
    if not isinstance(records, Sequence) or isinstance(records, str):
        raise _wrong(None, "a list of images")
    images = [image_of(record) for record in records]
    ids = {image.image_id.lower() for image in images}
    if len(ids) < len(images) or len(images) > limit:
        raise _wrong(None, f"a list of at most {limit} different images")
    if among is not None and ids - {image_id.lower() for image_id in among}:
        raise _wrong(None, "a list of those images that were asked for")
    return Listing(images, bool(body.get("next")))


def locations_of(body: Mapping[str, Any], image_id: str) -> Sequence[patches.Location]:
    """The locations in an image's record, as Glance has them.

    :raises GlanceUnavailable: it is no record, or that of another image
    """
    image_of(body, image_id)
    locations: Sequence[Mapping[str, Any]] = body.get("locations", ())
    return locations


def _image(body: Any) -> Image:
    """Raises what ``image_of`` catches where it is no record."""
    locations = body.get("locations", ())
    return Image(
        image_id=_text(body, "id"),
        status=_text(body, "status"),
        size=_size(body.get("size")),
        locations=tuple(dict.fromkeys(map(patches.plain_url, locations))),
        given_locations=tuple(location["url"] for location in locations),
        created_at=_time(body.get("created_at")),
        updated_at=_time(body.get("updated_at")),
        tags=frozenset(body.get("tags", ())),
        properties={name: value for name, value in body.items() if isinstance(value, str)},
        **{name: _text_or_none(body.get(name), name) for name in _TEXTS},
    )


def _text(body: Mapping[str, Any], name: str) -> str:
    """A text that Glance makes itself, and that stands in log lines."""
    value = _text_or_none(body[name], name)
    if value is None or printable(value, _MOST_TEXT) != value:
        raise ValueError(f"{name} is no text")
    return value


def _text_or_none(value: Any, name: str) -> str | None:
    """Users may have a say in what stands there, so that no text makes a record a wrong one."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value or None


def _size(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_BYTES:
        raise ValueError("size is no number of bytes")
    return value


def _time(text: str | None) -> datetime.datetime | None:
    """Raises OverflowError where it is before or after all that Python has dates for."""
    return timeutils.normalize_time(timeutils.parse_isotime(text)) if text else None


def _wrong(image_id: str | None, what: str) -> exceptions.GlanceUnavailable:
    return exceptions.GlanceUnavailable(
        image_id, None, "read Glance's answer", f"it is not {what}"
    )
