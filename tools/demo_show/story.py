# SPDX-License-Identifier: Apache-2.0
"""What the demo tells, and in which order."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tools.demo_show import acts
from tools.demo_show.bars import display
from tools.demo_show.diskimage import MIB, DiskImage, make, read
from tools.demo_show.stage import SERVICE_USER, DemoError, Stage


class Story:
    """Tells one run; each act raises a DemoError when what it shows is not so."""

    def __init__(self, console: Console, stage: Stage) -> None:
        self._console = console
        self._stage = stage

    def tell(self, file: Path | None, size: int) -> DiskImage:
        """Set everything up, and show the whole way of one image; returns that image."""
        self._set_up()
        image = self._image(file, size)
        upload = self._upload(image)
        by_writer = acts.bytes_read(self._stage, upload.image_id)
        self._locations(image, upload.image_id)
        self._download(image, upload.image_id)
        by_all = acts.bytes_read(self._stage, upload.image_id)
        self._measured(image, upload, by_writer, by_all)
        return image

    def _set_up(self) -> None:
        stage = self._stage
        with self._step(f"Keystone, with the service user `{SERVICE_USER[0]}`"):
            stage.start_keystone()
        with self._step(f"Three HTTP servers ({stage.targets_are}): {', '.join(stage.targets)}"):
            stage.start_targets()
        with self._step(f"Glance {stage.glance_version} under uWSGI, with the filter"):
            stage.start_glance()

    def _image(self, file: Path | None, size: int) -> DiskImage:
        if file is None:
            with self._step(f"A disk image of {size // MIB} MiB, made of random bytes"):
                return make(self._stage.directory / "disk.raw", size)
        with self._step(f"Your image {file}"):
            return read(file.resolve())

    def _upload(self, image: DiskImage) -> acts.Upload:
        self._command(*acts.upload_command(image))
        return acts.upload(self._stage, image, display(self._console, image.size))

    def _locations(self, image: DiskImage, image_id: str) -> None:
        self._command("image", "show", image_id)
        self._say("   The image's locations, and the sha512 of what each of them holds:")
        found = acts.locations(self._stage, image_id)
        for name, place, digest in (("file", str(image.path), image.sha512), *found):
            self._say(f"   {name:<7} {place}\n           {digest}")
        acts.check(self._stage, image, found)
        self._say(f"   All {len(found)} are equal to the file that was uploaded.")

    def _download(self, image: DiskImage, image_id: str) -> None:
        self._say("\n== The primary store loses its file")
        self._stage.glance.primary_path(image_id).unlink()
        self._command("image", "save", image_id)
        result = acts.download(self._stage, image_id)
        self._say(f"   served by {result.served_by}\n   {result.sha512}")
        if result.sha512 != image.sha512:
            raise DemoError("Glance gave other bytes than were uploaded")
        self._say("   Equal again.")

    def _measured(
        self, image: DiskImage, upload: acts.Upload, by_writer: int, by_all: int
    ) -> None:
        self._say(
            f"""
== Measured, by Glance's access log
   upload       {upload.put_seconds:.2f} s for {image.size / MIB:.0f} MiB \
(the client's whole command: {upload.command_seconds:.1f} s)
   lag          {upload.lag_seconds:.2f} s from the upload's answer to the last location \
(in a Glance that has just started)
   read back    {by_writer} bytes from Glance by the writer (the download above: \
{by_all - by_writer})"""
        )
        if by_writer:
            raise DemoError("the writer has read the image back from Glance")

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        with self._console.status(what):
            yield
        self._say(f"== {what} ({time.monotonic() - began:.1f} s)")

    def _command(self, *words: str) -> None:
        self._say(f"\n$ openstack {' '.join(words)}")

    def _say(self, text: str) -> None:
        self._console.print(text)
