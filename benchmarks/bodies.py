# SPDX-License-Identifier: Apache-2.0
"""The image files that are uploaded."""

import dataclasses
import os
import subprocess
from pathlib import Path

from tests.lab.images import image_bytes
from tests.lab.webserver_base import find_program

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Body:
    """A file, and the format that Glance will find in it."""

    path: Path
    disk_format: str = "raw"

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def gib(self) -> float:
        return self.size / GIB


def random_bytes(path: Path, size: int) -> Body:
    """What cannot be compressed, and is no format that Glance knows."""
    with path.open("wb") as file:
        for written in range(0, size, MIB):
            file.write(image_bytes(min(MIB, size - written)))
    return Body(path)


def zeros(path: Path, size: int) -> Body:
    """A sparse file: it takes no memory, however large it is."""
    with path.open("wb") as file:
        file.truncate(size)
    return Body(path)


def qcow2_full(path: Path, size: int) -> Body:
    """A qcow2 that is as long as its disk and takes hardly any memory; raw without qemu-img."""
    if not find_program("qemu-img"):
        return zeros(path, size)
    _qemu_img("create", "-f", "qcow2", "-o", "preallocation=metadata", str(path), str(size))
    return Body(path, "qcow2")


def qcow2_with_holes(path: Path, disk: int, data: int) -> Body:
    """A qcow2 of a large disk with some random data in it; raw data alone without qemu-img."""
    source = random_bytes(path.with_suffix(".raw"), data)
    if not find_program("qemu-img"):
        return source
    os.truncate(source.path, disk)
    _qemu_img("convert", "-f", "raw", "-O", "qcow2", str(source.path), str(path))
    source.path.unlink()
    return Body(path, "qcow2")


def _qemu_img(*arguments: str) -> None:
    program = find_program("qemu-img") or "qemu-img"
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL)
