# SPDX-License-Identifier: Apache-2.0
"""Says whether a deployment is as it shall be, seen from outside only.

::

    OS_AUTH_URL=... OS_USERNAME=... python -m tests.chaos.invariants --glance URL \\
        --target NAME=URL,DIRECTORY ... --spool DIRECTORY --config-file glance-api.conf

The administrator's credentials come from the environment, as for ``openstack``. It looks at
Glance's API, at what lies at the targets, at the names in the spool directory and at what
``glance-repl-manage status`` shows. It must not meet uploads and deletes under way. Exit status: 0
when every invariant holds, 1 when one is violated, 2 when something could not be looked at.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import prettytable
from keystoneauth1 import loading

from tests.chaos.observation import Image, NotSeen, Observation, Outside, Place

_PAUSE_SECONDS = 0.5
_GLANCE_SECONDS = 60
_MOST_SHOWN = 20
# By which the system knows a target; it is no replica.
MARKER = "glance-repl-marker"

Violations = Iterator[str]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found of one invariant.

    :ivar looked_at: how many things of the kind that the invariant is about
    """

    invariant: str
    looked_at: int
    violations: list[str]


@dataclasses.dataclass(frozen=True)
class Invariant:
    """What must be true of every observation.

    :ivar count: how many things an observation has that it is about
    :ivar violations: what contradicts it
    """

    name: str
    count: Callable[[Observation], int]
    violations: Callable[[Observation], Violations]


def misplaced_replicas(seen: Observation) -> Violations:
    """Images that have other locations than their primary and one at each target."""
    for image in seen.images.values():
        here = [seen.place_of(location) for location in image.locations]
        if image.status != "active" or not image.size:
            may_have_some = image.status == "deactivated" or image.is_going
            for place in () if may_have_some else filter(None, here):
                kind = "without bytes" if image.status == "active" else image.status
                yield f"image {image.image_id}, {kind}, has a location at {place.name}"
            continue
        for wanted in (None, *seen.places):
            number = here.count(wanted)
            if number != 1:
                where = f"at {wanted.name}" if wanted else "at no target"
                yield f"image {image.image_id} has {number} locations {where}, not 1"


def wrong_bytes(seen: Observation) -> Violations:
    """Locations behind which the image's bytes do not lie."""
    for (image_id, location), content in seen.contents.items():
        image = seen.images[image_id]
        if content.problem:
            yield f"image {image_id}: {location} cannot be read: {content.problem}"
        elif content.size != image.size:
            yield f"image {image_id}: {location} has {content.size} bytes, not {image.size}"
        elif content.digest != image.os_hash_value:
            yield f"image {image_id}: {location} has other bytes than the image"


def orphans(seen: Observation) -> Violations:
    """Objects at targets that no image accounts for."""
    accounted = {
        location
        for image in seen.images.values()
        if image.has_data
        for location in image.locations
    }
    for place in seen.places:
        for name in seen.objects[place.name]:
            if name != MARKER and place.url + name not in accounted:
                yield f"{place.name} holds {name}"


def unproven_locations(seen: Observation) -> Violations:
    """Locations at targets that no row calls active."""
    proven = {row["location_url"] for row in seen.rows if row["status"] == "active"}
    for image, location in _replicas(seen):
        if location not in proven:
            yield f"image {image.image_id}: {location} was never proven"


def spool_leftovers(seen: Observation) -> Violations:
    """Files that stay in the spool."""
    yield from seen.spool


def stuck_rows(seen: Observation) -> Violations:
    """Rows that are not at their end."""
    for row in seen.rows:
        image = seen.images.get(row["image_id"])
        if not _is_at_its_end(row, image):
            glance = f"the image is {image.status}" if image else "Glance has no such image"
            yield (
                f"image {row['image_id']} at {row['target']}: {row['status']}, next attempt "
                f"{row['next_attempt_at']}, {glance}: {row['error']}"
            )


def _is_at_its_end(row: dict[str, Any], image: Image | None) -> bool:
    if row["status"] == "active":
        return image is not None and row["location_url"] in image.locations
    if row["status"] == "error":
        is_empty = image is not None and image.status == "active" and not image.size
        return is_empty and row["next_attempt_at"] is None
    return row["status"] == "deleted"


def _replicas(seen: Observation) -> list[tuple[Image, str]]:
    return [
        (image, location)
        for image in seen.images.values()
        for location in image.locations
        if seen.place_of(location) and not image.is_going
    ]


INVARIANTS = (
    Invariant(
        "every active image has exactly its replicas",
        lambda seen: len(seen.images),
        misplaced_replicas,
    ),
    Invariant(
        "every location has the image's bytes", lambda seen: len(seen.contents), wrong_bytes
    ),
    Invariant(
        "every object belongs to an image",
        lambda seen: sum(map(len, seen.objects.values())),
        orphans,
    ),
    Invariant("every location is proven", lambda seen: len(_replicas(seen)), unproven_locations),
    Invariant("nothing is left in the spool", lambda seen: len(seen.spool), spool_leftovers),
    Invariant("no row is stuck", lambda seen: len(seen.rows), stuck_rows),
)


def examine(seen: Observation) -> list[Finding]:
    """What is found of each invariant."""
    return [
        Finding(each.name, each.count(seen), list(each.violations(seen))) for each in INVARIANTS
    ]


def wait_until_held(outside: Outside, seconds: float) -> tuple[list[Finding], float]:
    """Look again and again until every invariant holds or the time is over.

    Returns what was found last, and the seconds until it was seen.

    :raises NotSeen: at the last look
    """
    begun = time.monotonic()
    while True:
        is_last = time.monotonic() - begun >= seconds
        try:
            findings = examine(outside.look())
            if is_last or not any(finding.violations for finding in findings):
                return findings, time.monotonic() - begun
        except NotSeen:
            if is_last:
                raise
        time.sleep(_PAUSE_SECONDS)


def table(findings: Sequence[Finding]) -> str:
    """The findings for people, with the violations beneath."""
    shown = prettytable.PrettyTable(["Invariant", "Looked at", "Violations", ""])
    shown.align = "l"
    shown.align["Looked at"] = shown.align["Violations"] = "r"
    lines = []
    for finding in findings:
        number = len(finding.violations)
        verdict = "VIOLATED" if number else "holds"
        shown.add_row([finding.invariant, finding.looked_at, number, verdict])
        lines += [f"  {violation}" for violation in finding.violations[:_MOST_SHOWN]]
        if number > _MOST_SHOWN:
            lines.append(f"  and {number - _MOST_SHOWN} more")
    return "\n".join([str(shown), *lines])


def main(arguments: Sequence[str]) -> int:
    """Look, report, and return the exit status."""
    options = _parser(arguments).parse_args(arguments)
    auth = loading.load_auth_from_argparse_arguments(options)
    outside = Outside(
        loading.load_session_from_argparse_arguments(options, auth=auth),
        options.glance,
        tuple(options.target),
        tuple(options.spool),
        options.config_file,
    )
    try:
        findings, seconds = wait_until_held(outside, options.wait)
    except NotSeen as error:
        print(f"not seen: {error}", file=sys.stderr)
        return 2
    if options.format == "json":
        found = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"seconds": seconds, "findings": found}, indent=2))
    else:
        print(table(findings))
    return 1 if any(finding.violations for finding in findings) else 0


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="invariants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--glance", required=True, metavar="URL")
    parser.add_argument(
        "--target", action="append", required=True, type=_place, metavar="NAME=URL[,DIRECTORY]"
    )
    parser.add_argument("--spool", action="append", required=True, type=Path, metavar="DIRECTORY")
    parser.add_argument("--config-file", required=True, type=Path, metavar="PATH")
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="look until all hold"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    loading.register_auth_argparse_arguments(parser, list(arguments), default="password")
    loading.register_session_argparse_arguments(parser)
    parser.set_defaults(timeout=_GLANCE_SECONDS)
    return parser


def _place(text: str) -> Place:
    name, equals, where = text.partition("=")
    url, _, root = where.partition(",")
    if not (name and equals and url.startswith("http")):
        raise argparse.ArgumentTypeError(f"{text} is not NAME=URL[,DIRECTORY]")
    return Place(name, f"{url.rstrip('/')}/", Path(root) if root else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
