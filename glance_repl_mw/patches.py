"""Changes of an image's locations, as Glance's PATCH takes them.

Locations are as Glance has them, signatures included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from glance_repl_mw.signing import without_signatures

Location = Mapping[str, Any]
Change = Mapping[str, Any]


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
    is_readable: Callable[[str], bool] = lambda url: True,
) -> list[Change]:
    """Removes the locations of these plain URLs, but not the last one, nor the last readable one.

    :param is_readable: whether what a plain URL names can be read, as far as is known
    """
    places = [place for place, each in enumerate(found) if plain_url(each) in urls]
    left = [plain_url(each) for each in found if plain_url(each) not in urls]
    kept: list[int] = []
    if not any(map(is_readable, left)):
        kept = [place for place in places if is_readable(plain_url(found[place]))][:1]
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
