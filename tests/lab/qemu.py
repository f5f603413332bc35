# SPDX-License-Identifier: Apache-2.0
"""Disk images as users upload them, made by qemu-img."""

from pathlib import Path

from tests.lab.process import clean_environment, run
from tests.lab.webserver_base import find_program


class QemuImg:
    """The program that Glance's plugin image_conversion calls as well."""

    @staticmethod
    def available() -> str | None:
        """Return None, or why images cannot be converted here."""
        return None if find_program("qemu-img") else "qemu-img (qemu-utils) is not installed"

    @staticmethod
    def qcow2(raw: bytes, directory: Path) -> bytes:
        """The disk with these bytes in the format qcow2.

        :param raw: a multiple of 512 bytes, without which qemu-img would fill it up
        :param directory: for the files and the log of the program
        """
        source, result = directory / "disk.raw", directory / "disk.qcow2"
        source.write_bytes(raw)
        formats = ["-f", "raw", "-O", "qcow2"]
        command = [find_program("qemu-img") or "qemu-img", "convert", *formats]
        run([*command, str(source), str(result)], clean_environment(), directory / "qemu-img.log")
        return result.read_bytes()
