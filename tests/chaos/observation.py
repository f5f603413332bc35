# SPDX-License-Identifier: Apache-2.0
"""What can be seen of a deployment from outside: Glance's API, the targets, spool and rows.

Nothing here imports the system that is looked at.
"""

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO
from urllib import parse

import requests
from keystoneauth1.session import Session

_PAGE = 200
_BLOCK_BYTES = 1 << 20
_READERS = 4
_TIMEOUT_SECONDS = (5, 30)
# They stay as long as the spool directory.
_KEPT = {"writer.lock", "api.lock", "locks", "node", "bell", "deployment", "secret"}
_STATUS = ("-m", "glance_repl_mw.cmd.manage")


class NotSeen(Exception):
    """Something could not be looked at; the text says what and why."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A target.

    :ivar url: of the collection, with the slash at its end, as locations begin
    :ivar root: the directory behind it, None where only HTTP leads there
    """

    name: str
    url: str
    root: Path | None = None


@dataclasses.dataclass(frozen=True)
class Image:
    """An image as Glance shows it to the administrator."""

    image_id: str
    status: str
    size: int | None
    os_hash_algo: str | None
    os_hash_value: str | None
    locations: tuple[str, ...]
    name: str = ""

    @property
    def has_data(self) -> bool:
        return self.status in ("active", "deactivated")

    @property
    def is_going(self) -> bool:
        """Whether Glance died while it deleted the image; it shows the record for ever."""
        return self.status in ("deleted", "pending_delete")


@dataclasses.dataclass(frozen=True)
class Content:
    """What lies behind a location.

    :ivar problem: why it could not be read, None where it could
    """

    size: int = 0
    digest: str = ""
    problem: str | None = None


@dataclasses.dataclass(frozen=True)
class Observation:
    """One look at everything.

    :ivar contents: by image id and location
    :ivar objects: the names at each target, unfinished ones too, by the target's name
    :ivar spool: the names in the nodes' spool directories, without those that always stay
    :ivar rows: as ``glance-repl-manage status --format json`` shows them
    """

    places: tuple[Place, ...]
    images: dict[str, Image]
    contents: dict[tuple[str, str], Content]
    objects: dict[str, list[str]]
    spool: list[str]
    rows: list[dict[str, Any]]

    def place_of(self, location: str) -> Place | None:
        """The target that a location is at."""
        return next((place for place in self.places if location.startswith(place.url)), None)


@dataclasses.dataclass(frozen=True)
class Outside:
    """Where to look.

    :param session: of an administrator
    :param glance: URL of Glance, with the slash at its end
    :param spools: the nodes' spool directories
    :param config_file: Glance's configuration file, for ``glance-repl-manage``
    """

    session: Session
    glance: str
    places: tuple[Place, ...]
    spools: tuple[Path, ...]
    config_file: Path

    def look(self) -> Observation:
        """Look at everything once; blocks.

        :raises NotSeen:
        """
        images = {image.image_id: image for image in all_images(self.session, self.glance)}
        return Observation(
            places=self.places,
            images=images,
            contents=read_all(image for image in images.values() if image.has_data),
            objects={place.name: object_names(place) for place in self.places},
            spool=[name for spool in self.spools for name in spool_files(spool)],
            rows=replica_rows(self.config_file),
        )


def all_images(session: Session, glance: str) -> Iterator[Image]:
    """Every image of every project, hidden ones too.

    :raises NotSeen:
    """
    for hidden in ("false", "true"):
        query = {"visibility": "all", "os_hidden": hidden, "limit": _PAGE}
        path: str | None = f"/v2/images?{parse.urlencode(query)}"
        while path:
            try:
                answer = session.get(glance.rstrip("/") + path, authenticated=True)
                page = answer.json()
            except Exception as error:
                raise NotSeen(f"Glance's images: {error}") from error
            yield from map(_image, page["images"])
            path = page.get("next")


def read_all(images: Iterable[Image]) -> dict[tuple[str, str], Content]:
    """Read whatever lies behind all locations of these images."""
    wanted = [(image, location) for image in images for location in image.locations]
    with ThreadPoolExecutor(_READERS) as pool:
        contents = pool.map(lambda pair: read(*pair), wanted)
        return {
            (image.image_id, location): content
            for (image, location), content in zip(wanted, contents, strict=True)
        }


def read(image: Image, location: str) -> Content:
    """Read one location to its end and hash it as Glance hashed the image."""
    digest = hashlib.new(image.os_hash_algo or "sha512")
    size = 0
    try:
        for block in _blocks(location):
            digest.update(block)
            size += len(block)
    except (OSError, requests.RequestException) as error:
        return Content(problem=" ".join(str(error).split()))
    return Content(size, digest.hexdigest())


def object_names(place: Place) -> list[str]:
    """The names of all files at a target; as nginx lists them where its directory is not known.

    :raises NotSeen:
    """
    try:
        if place.root is not None:
            files = (path for path in place.root.rglob("*") if not path.is_dir())
            return sorted(str(path.relative_to(place.root)) for path in files)
        with _http() as http:
            answer = http.get(place.url, timeout=_TIMEOUT_SECONDS)
        answer.raise_for_status()
        return sorted(entry["name"] for entry in answer.json())
    except (OSError, ValueError, requests.RequestException) as error:
        raise NotSeen(f"target {place.name}: {error}") from error


def spool_files(directory: Path) -> list[str]:
    """The names in a spool directory, without those that always stay.

    :raises NotSeen:
    """
    try:
        return sorted({path.name for path in directory.iterdir()} - _KEPT)
    except OSError as error:
        raise NotSeen(f"the spool: {error}") from error


def replica_rows(config_file: Path) -> list[dict[str, Any]]:
    """What ``glance-repl-manage status`` shows.

    :raises NotSeen:
    """
    command = [sys.executable, *_STATUS, "--config-file", str(config_file)]
    process = subprocess.run(
        [*command, "status", "--format", "json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise NotSeen(f"glance-repl-manage status: {process.stderr.strip()}")
    return json.loads(process.stdout)


def _image(body: dict[str, Any]) -> Image:
    return Image(
        image_id=body["id"],
        status=body["status"],
        size=body.get("size"),
        os_hash_algo=body.get("os_hash_algo"),
        os_hash_value=body.get("os_hash_value"),
        locations=tuple(location["url"] for location in body.get("locations", ())),
        name=body.get("name") or "",
    )


def _blocks(location: str) -> Iterator[bytes]:
    if location.startswith("file://"):
        with open(location.removeprefix("file://"), "rb") as file:
            yield from _until_empty(file)
        return
    with _http() as http, http.get(location, stream=True, timeout=_TIMEOUT_SECONDS) as answer:
        answer.raise_for_status()
        yield from answer.iter_content(_BLOCK_BYTES)


def _until_empty(file: BinaryIO) -> Iterator[bytes]:
    read_block: Callable[[], bytes] = lambda: file.read(_BLOCK_BYTES)  # noqa: E731
    yield from iter(read_block, b"")


def _http() -> requests.Session:
    http = requests.Session()
    http.trust_env = False
    return http
