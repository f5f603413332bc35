# SPDX-License-Identifier: Apache-2.0
"""What the demo does with the image: upload, look at the replicas, download from one of them."""

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import requests

from tests.lab.process import wait_until
from tools.demo_show.bars import Display, Track
from tools.demo_show.client import OpenStackClient
from tools.demo_show.diskimage import DiskImage, sha512
from tools.demo_show.stage import USER, Answered, DemoError, Stage

_LOOK_SECONDS = 0.1
_LOCATIONS_SECONDS = 60
_NAME = "demo-image"


class Upload(NamedTuple):
    """What was measured of one upload; times by Glance's access log, in seconds.

    `lag_seconds` lie between the answer to the upload and the one to the request that added the
    last location.
    """

    image_id: str
    command_seconds: float
    put_seconds: float
    lag_seconds: float


class Location(NamedTuple):
    """One location of the image, and the sha512 of what it holds."""

    name: str
    url: str
    sha512: str


class Download(NamedTuple):
    sha512: str
    served_by: str


def upload_command(image: DiskImage, name: str = _NAME) -> list[str]:
    formats = ["--disk-format", image.disk_format, "--container-format", "bare"]
    return ["image", "create", "--file", str(image.path), *formats, name]


def upload(stage: Stage, image: DiskImage, display: Display) -> Upload:
    """Upload the image and wait until it has all its locations."""
    image_id = str(uuid.uuid4())
    client = OpenStackClient(stage.keystone, USER, stage.directory / "upload.log")
    arguments = [*upload_command(image), "--id", image_id, "-f", "json"]
    began = time.monotonic()
    with client.running(*arguments) as process, display:
        while process.poll() is None:
            display.show(_tracks(stage, image_id))
            time.sleep(_LOOK_SECONDS)
        command_seconds = time.monotonic() - began
        client.check(process)
        deadline = time.monotonic() + _LOCATIONS_SECONDS
        while not stage.is_replicated(image_id):
            if time.monotonic() > deadline:
                raise DemoError(_missing(stage, image_id))
            display.show(_tracks(stage, image_id))
            time.sleep(_LOOK_SECONDS)
        display.show(_tracks(stage, image_id))
    wait_until(lambda: _answers(stage, image_id), 5, "Glance's access log has all requests")
    put, patch = _answers(stage, image_id)
    return Upload(image_id, command_seconds, put.ended - put.began, patch.ended - put.ended)


def bytes_read(stage: Stage, image_id: str) -> int:
    """How many bytes of the image Glance has sent to anyone so far, by its access log."""
    path = _file_path(image_id)
    return sum(r.sent for r in stage.glance_requests() if (r.method, r.path) == ("GET", path))


def locations(stage: Stage, image_id: str) -> list[Location]:
    """Return the locations in Glance's order; what each holds is read back from it."""
    admin = OpenStackClient(stage.keystone, ("admin", "admin"), stage.directory / "show.log")
    shown = admin.show("image", "show", image_id)
    urls = [entry["url"] for entry in shown["properties"]["locations"]]
    return [_location(stage, image_id, url) for url in urls]


def check(stage: Stage, image: DiskImage, found: Sequence[Location]) -> None:
    """Raise a DemoError unless the image is in its store and at every target, and equal there."""
    missing = {"Glance", *stage.targets} - {location.name for location in found}
    if missing:
        raise DemoError(f"no location names {', '.join(sorted(missing))}")
    for location in found:
        if location.sha512 != image.sha512:
            raise DemoError(f"{location.url} holds other bytes than were uploaded")


def download(stage: Stage, image_id: str) -> Download:
    """Read the image through Glance with the ordinary client."""
    client = OpenStackClient(stage.keystone, USER, stage.directory / "download.log")
    before = {name: _reads(stage, name) for name in stage.targets}
    with client.running("image", "save", "--chunk-size", "1048576", image_id) as process:
        assert process.stdout is not None
        digest = sha512(process.stdout.read)
        process.wait()
    client.check(process)

    def readers() -> list[str]:
        return [name for name in stage.targets if _reads(stage, name) > before[name]]

    # A server may write its log after its answer; the writer may read a replica back meanwhile.
    wait_until(readers, 10, "a target's access log has the request")
    return Download(digest, ", ".join(readers()))


def _tracks(stage: Stage, image_id: str) -> list[Track]:
    replicas = stage.replicas(image_id)
    answered = _upload_request(stage, image_id)
    uploader = Track(
        "Glance", stage.primary_bytes(image_id), str(answered.status) if answered else "receiving"
    )
    return [
        uploader,
        *(
            Track(name, stage.target_bytes(name), str(replicas[name].status))
            for name in stage.targets
            if name in replicas
        ),
    ]


def _upload_request(stage: Stage, image_id: str) -> Answered | None:
    path = _file_path(image_id)
    found = (r for r in stage.glance_requests() if (r.method, r.path) == ("PUT", path))
    return next(found, None)


def _answers(stage: Stage, image_id: str) -> list[Answered]:
    """The upload and the last request that added locations; none unless the log has both."""
    put = _upload_request(stage, image_id)
    path = f"/v2/images/{image_id}"
    patches = [
        r for r in stage.glance_requests() if (r.method, r.path, r.status) == ("PATCH", path, 200)
    ]
    return [put, patches[-1]] if put and patches else []


def _missing(stage: Stage, image_id: str) -> str:
    lines = [f"not all locations are there after {_LOCATIONS_SECONDS} s:"]
    for name, replica in stage.replicas(image_id).items():
        lines.append(f"{name}: {replica.status}, {replica.error or 'no error'}")
    return "\n".join(lines)


def _location(stage: Stage, image_id: str, url: str) -> Location:
    if url.startswith("file://"):
        path = Path(url.removeprefix("file://"))
        with path.open("rb") as file:
            return Location("Glance", url, sha512(file.read))
    name = next(name for name, target in stage.targets.items() if url.startswith(target.url))
    with requests.get(url, stream=True, timeout=60) as answer:
        answer.raise_for_status()
        return Location(name, url, sha512(answer.raw.read))


def _reads(stage: Stage, name: str) -> int:
    return sum(request.method == "GET" for request in stage.targets[name].requests())


def _file_path(image_id: str) -> str:
    return f"/v2/images/{image_id}/file"
