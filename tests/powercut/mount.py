# SPDX-License-Identifier: Apache-2.0
"""The file system of `tests.powercut.filesystem`, mounted, with its switch."""

import ctypes.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab.process import Server


class LosingDisk(Server):
    """A disk that forgets at a power cut what was not fsynced.

    :ivar path: where it is mounted
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "disk")
        self.path = self.directory / "mounted"
        self._socket = self.directory / "switch"

    @classmethod
    def available(cls) -> str | None:
        """Return None, or why it cannot be mounted here."""
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "/dev/fuse cannot be used"
        return None if ctypes.util.find_library("fuse3") else "libfuse3 is not installed"

    def prepare(self) -> None:
        self.path.mkdir()

    def command(self) -> list[str]:
        module = "tests.powercut.filesystem"
        return [sys.executable, "-m", module, str(self.path), str(self._socket)]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(Path(__file__).parents[2])}

    def ready(self) -> bool:
        return os.path.ismount(self.path) and self._socket.exists()

    def stop(self) -> None:
        if os.path.ismount(self.path):
            # Lazily: what still uses it is about to end.
            subprocess.call(["umount", "-l", str(self.path)])
        super().stop()

    def arm(self, users: list[int], after: int) -> None:
        """Let the power of these processes go at a change to come, counted from now."""
        self._order("arm", users=users, after=after)

    def strike(self) -> None:
        """Let it go now, unless it is gone."""
        self._order("strike")

    def cut(self, seed: int | None) -> None:
        """Have power again, with what is left; None for the strict model."""
        self._order("cut", seed=seed)

    def sync(self) -> None:
        """Let everything be on the disk that was ever written."""
        self._order("sync")

    def changes(self) -> int:
        """How often something was changed."""
        return self._order("look")["changes"]

    def _order(self, name: str, **arguments: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            with connection.makefile("rwb") as stream:
                stream.write(json.dumps({"do": name, **arguments}).encode() + b"\n")
                stream.flush()
                return json.loads(stream.readline())
