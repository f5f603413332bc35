# SPDX-License-Identifier: Apache-2.0
"""The image that is uploaded: made on the spot, or a file of the user's."""

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from oslo_utils.imageutils import format_inspector

MIB = 1 << 20
SMALLEST_BYTES = 2 * MIB

_SECTOR_BYTES = 512
_FIRST_SECTOR = MIB // _SECTOR_BYTES
_LINUX = 0x83
_PIECE_BYTES = 4 * MIB
# Glance's own formats that it also recognises; all others it takes as raw.
_FORMATS = ("iso", "qcow2", "vdi", "vhd", "vhdx", "vmdk")


class DiskImage(NamedTuple):
    path: Path
    disk_format: str
    size: int
    sha512: str


def make(path: Path, size: int) -> DiskImage:
    """Write a raw disk image with one partition, full of random bytes, which compress nowhere."""
    digest = hashlib.sha512()
    with path.open("wb") as file:
        written = 0
        while written < size:
            piece = os.urandom(min(_PIECE_BYTES, size - written))
            if not written:
                piece = _boot_record(size) + piece[_SECTOR_BYTES:]
            digest.update(piece)
            written += file.write(piece)
    return DiskImage(path, "raw", size, digest.hexdigest())


def read(path: Path) -> DiskImage:
    """Describe a file that is there, with the disk format that Glance will find in it."""
    digest = hashlib.sha512()
    size = 0
    with path.open("rb") as file:
        inspector = format_inspector.InspectWrapper(file)
        while piece := inspector.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
        inspector.close()
    found = {str(match) for match in inspector.formats or ()}
    disk_format = next((name for name in _FORMATS if name in found), "raw")
    return DiskImage(path, disk_format, size, digest.hexdigest())


def sha512(read_piece: Callable[[int], Any]) -> str:
    """Return the hex digest of all that the function returns until it returns nothing."""
    digest = hashlib.sha512()
    while piece := read_piece(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _boot_record(size: int) -> bytes:
    """A master boot record with one bootable Linux partition from 1 MiB to the end."""
    sectors = size // _SECTOR_BYTES - _FIRST_SECTOR
    beyond_chs = b"\xfe\xff\xff"
    partition = struct.pack(
        "<B3sB3sII", 0x80, beyond_chs, _LINUX, beyond_chs, _FIRST_SECTOR, sectors
    )
    return bytes(446) + partition.ljust(64, b"\0") + b"\x55\xaa"
