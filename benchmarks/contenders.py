# SPDX-License-Identifier: Apache-2.0
"""The ways to have an image in four places: ours, and what a user would pick instead."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.accounting import Account, Hashing, Usage, hashing, threads_of
from benchmarks.bodies import Body
from benchmarks.site import Site
from benchmarks.stage import COPIES, TARGETS
from tests.lab.process import wait_until

SCRIPTS = Path(__file__).parent / "scripts"
CHUNKED = ("-H", "Transfer-Encoding: chunked")
_SECONDS = 1800
# Imports take long: to ask more often would only take processors from them.
_ASK_EVERY_SECONDS = 0.1


class Sample(NamedTuple):
    """One run of a contender.

    :ivar upload: seconds until the uploader may go
    :ivar complete: seconds from the first byte until all copies are locations of the image
    :ivar downloads: how often the image's data was read from Glance
    :ivar hashing: what the writer's threads did, where there is a writer
    """

    upload: float
    complete: float
    usage: Usage
    downloads: int = 0
    hashing: Hashing | None = None

    @property
    def lag(self) -> float:
        """Seconds from the end of the upload to the last location."""
        return self.complete - self.upload


class Contender:
    """Uploads to a Glance, which is all that a bare one does.

    :param curl: further arguments of curl
    """

    def __init__(self, site: Site, curl: Sequence[str] = ()) -> None:
        self.site = site
        self.curl = curl

    def run(self, body: Body) -> Sample:
        """Upload, wait for all copies, and remove them again; blocks."""
        image_id = self.site.create(body.disk_format)
        account = Account(self.site.roles())
        began = time.monotonic()
        self.upload(image_id, body)
        uploaded = time.monotonic()
        self.complete(image_id)
        completed = time.monotonic()
        usage = account.read()
        downloads = self.site.downloads(image_id)
        self.site.forget(image_id)
        return Sample(uploaded - began, completed - began, usage, downloads)

    def upload(self, image_id: str, body: Body) -> None:
        self.site.put(body, f"{self.site.url(image_id)}/file", *self.curl)

    def complete(self, image_id: str) -> None:
        """Wait until all copies are there, having begun what makes them."""


class Ours(Contender):
    """The filter: the copies are made while the upload runs."""

    def run(self, body: Body) -> Sample:
        self._writer = self.site.writer().pid
        before = threads_of(self._writer)
        sample = super().run(body)
        return sample._replace(hashing=hashing(before, self._after, body.size))

    def complete(self, image_id: str) -> None:
        self.site.wait_for_locations(image_id, 1 + len(self.site.targets))
        self._after = threads_of(self._writer)


class OursWithoutWait(Ours):
    """Only the upload is of interest: some targets never have the image."""

    def complete(self, image_id: str) -> None:
        self._after = threads_of(self._writer)


class Import(Contender):
    """Glance's own way: stage, then import to all stores at once."""

    def upload(self, image_id: str, body: Body) -> None:
        url = self.site.url(image_id)
        self.site.put(body, f"{url}/stage", *self.curl)
        method = {"name": "glance-direct"}
        stores = {"stores": ["primary", *COPIES], "all_stores_must_succeed": True}
        self.site.ask("POST", f"{url}/import", json={"method": method, **stores})

    def complete(self, image_id: str) -> None:
        wait_for_stores(self.site, image_id)


class CopyImage(Contender):
    """Glance's import method copy-image, begun when the upload has ended."""

    def complete(self, image_id: str) -> None:
        wanted = {"stores": list(COPIES), "all_stores_must_succeed": True}
        body = {"method": {"name": "copy-image"}, **wanted}
        self.site.ask("POST", f"{self.site.url(image_id)}/import", json=body)
        wait_for_stores(self.site, image_id)


class Script(Contender):
    """A script of ours in place of what people write; it ends when all locations are there."""

    def __init__(self, site: Site, name: str, curl: Sequence[str] = ()) -> None:
        super().__init__(site, curl)
        self.script = SCRIPTS / name

    def upload(self, image_id: str, body: Body) -> None:
        targets = [target.url for target in self.site.targets]
        command = [str(self.script), str(body.path), self.site.url(image_id), *targets]
        environment = {
            **os.environ,
            "TOKEN": self.site.token(),
            "UPLOAD_OPTIONS": " ".join(self.curl),
        }
        subprocess.run(command, env=environment, check=True)

    def complete(self, image_id: str) -> None:
        found = len(self.site.image(image_id)["locations"])
        assert found == 1 + TARGETS, f"{self.script.name} left {found} locations"


class CurlToTarget(Contender):
    """No Glance at all: what it takes to send the file to one nginx."""

    def run(self, body: Body) -> Sample:
        target = self.site.targets[0]
        account = Account(self.site.roles())
        began = time.monotonic()
        command = ["curl", "-sSf", "-T", str(body.path), "-H", "Expect:", f"{target.url}curl"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        usage = account.read()
        (target.root / "curl").unlink()
        return Sample(seconds, seconds, usage)


def wait_for_stores(site: Site, image_id: str) -> None:
    """Wait until Glance has the image in all four stores.

    :raises RuntimeError: it gave one of them up
    """

    def done() -> bool:
        image = site.image(image_id)
        if failed := image.get("os_glance_failed_import"):
            raise RuntimeError(f"Glance could not import to {failed}")
        urls = [location["url"] for location in image["locations"]]
        stored = sum(url.startswith("file://") for url in urls)
        time.sleep(0 if stored == 1 + TARGETS else _ASK_EVERY_SECONDS)
        return (
            image["status"] == "active"
            and stored == 1 + TARGETS
            and not image.get("os_glance_importing_to_stores")
        )

    wait_until(done, _SECONDS, "Glance has imported to all stores")


def told(name: str, contender: Contender, body: Body) -> Sample:
    """Run the contender, and tell on the terminal what came of it."""
    sample = contender.run(body)
    times = f"upload {sample.upload:.2f} s, all copies {sample.complete:.2f} s"
    print(f"   {name}: {times}, stolen {sample.usage.stolen:.1%}", file=sys.stderr)
    return sample
