# SPDX-License-Identifier: Apache-2.0
"""The ordinary command `openstack`, run as a user would run it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.keystone import Keystone
from tools.demo_show.stage import DemoError

PROGRAM = Path(sys.executable).with_name("openstack")


class OpenStackClient:
    """Commands of one user; their error output goes to `log`."""

    def __init__(self, keystone: Keystone, user: tuple[str, str], log: Path) -> None:
        self._environment = keystone.client_environment(*user)
        self._log = log

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the command while the block runs; its output is a pipe."""
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is the demo's to handle.
                start_new_session=True,
            )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def show(self, *arguments: str) -> Any:
        """Run the command to its end, and return what it answers in JSON."""
        with self.running(*arguments, "-f", "json") as process:
            output, _ = process.communicate()
        self.check(process)
        return json.loads(output)

    def check(self, process: subprocess.Popen[bytes]) -> None:
        """Raise a DemoError if the command, which has ended, failed."""
        if process.returncode:
            tail = self._log.read_text(errors="replace").strip().splitlines()[-10:]
            raise DemoError("\n".join(["the client failed:", *tail]))
