# SPDX-License-Identifier: Apache-2.0
"""Glance under its own server, which releases before 33 still have."""

import importlib.metadata
import re
import signal
import sys
from pathlib import Path

from tests.lab.glance import Glance
from tests.lab.process import HOST

TOP = Path(__file__).parents[2]


class EventletGlance(Glance):
    """Glance under its own server: green threads in some processes."""

    request_line = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[0-9.]+" (?P<status>\d{3})')

    @classmethod
    def available(cls) -> str | None:
        release = int(importlib.metadata.version("glance").partition(".")[0])
        return None if release < 33 else f"Glance {release} has no server of its own"

    def command(self) -> list[str]:
        # As the program glance-api does, whose module makes everything green when it is imported.
        program = "import glance.cmd.api, tests.lab.patient_sqlite; glance.cmd.api.main()"
        return [sys.executable, "-c", program, "--config-file", str(self.config_file)]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(TOP)}

    def begin_stop(self) -> None:
        self.signal(signal.SIGTERM)

    def _default_options(self) -> dict[str, dict[str, str]]:
        options = super()._default_options()
        options["DEFAULT"] |= {
            "bind_host": HOST,
            "bind_port": str(self.port),
            "workers": str(self.processes),
        }
        return options

    def _loaded_pids(self) -> set[int]:
        return set(self.worker_pids())
