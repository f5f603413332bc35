# SPDX-License-Identifier: Apache-2.0
"""Changes of an image's locations, as Glance's PATCH takes them.

Locations are as Glance has them, signatures included.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from glance_repl_mw.signing import without_signatures

Location = Mapping[str, Any]
Change = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Readability:
    """What is known of whether locations can be read, told of their plain URLs.

    :ivar is_known: nothing speaks against it, and where it is ours the target was seen to be up
    :ivar may_be: it is not known that it cannot be read
    """

    is_known: Callable[[str], bool] = lambda url: True
    may_be: Callable[[str], bool] = lambda url: True


NOTHING_KNOWN = Readability()


def plain_url(location: Location) -> str:
    """The URL without its signature."""
    return without_signatures(location["url"])


def unchanged(found: Sequence[Location]) -> Change:
    """Replaces the locations by the same ones; Glance refuses it when others are there by now."""
    return {"op": "replace", "path": "/locations", "value": found}


def additions(locations: Iterable[Location]) -> list[Change]:
    """Adds locations at the end."""
    return [{"op": "add", "path": "/locations/-", "value": location} for location in locations]


def removals(
    found: Sequence[Location],
    urls: Collection[str],
    readability: Readability = NOTHING_KNOWN,
    proven: str | None = None,
) -> list[Change]:
    """Removes the locations of these plain URLs, but not the last one, nor the last readable one.

    :param proven: a plain URL that was just seen to be readable
    """
    places = [place for place, each in enumerate(found) if plain_url(each) in urls]
    left = [plain_url(each) for each in found if plain_url(each) not in urls]
    kept: list[int] = []
    if not any(url == proven or readability.is_known(url) for url in left):
        kept = [place for place in places if readability.may_be(plain_url(found[place]))][:1]
    if not left:
        kept = kept or places[:1]
    return _removed([place for place in places if place not in kept])


def replacements(found: Sequence[Location], replaced: Mapping[str, str]) -> list[Change]:
    """Gives locations other URLs: all new ones are added before the first old one is removed.

    :param replaced: the new URL by the old one; old ones that are not there are left out
    """
    present = [each["url"] for each in found]
    places = [place for place, url in enumerate(present) if url in replaced]
    new = {
        url: {**found[place], "url": url}
        for place in places
        if (url := replaced[present[place]]) not in present
    }
    return [*additions(new.values()), *_removed(places)]


def changes_locations(body: bytes) -> bool:
    """Whether the body of anybody's PATCH is about locations; False where Glance takes it not."""
    try:
        changes = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(changes, list):
        return False
    # Glance names the place in "path", or in its older form in "add", "replace" or "remove".
    return any(
        place.lstrip("/").partition("/")[0].strip() == "locations"
        for change in changes
        if isinstance(change, dict)
        for name, place in change.items()
        if name != "value" and isinstance(place, str)
    )


def _removed(places: Sequence[int]) -> list[Change]:
    """The last ones first, so that those before keep their places."""
    return [{"op": "remove", "path": f"/locations/{place}"} for place in reversed(places)]
