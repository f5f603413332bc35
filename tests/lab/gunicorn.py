# SPDX-License-Identifier: Apache-2.0
"""Glance under gunicorn."""

import re
import signal
import sys
from pathlib import Path

from tests.lab.glance import Glance
from tests.lab.process import HOST

TOP = Path(__file__).parents[2]


class GunicornGlance(Glance):
    """As Glance, but gunicorn serves it, with threads; bodies are in `wsgi.input` always."""

    request_line = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[0-9.]+" (?P<status>\d{3})')

    def command(self) -> list[str]:
        return [
            sys.executable,
            str(Path(sys.executable).with_name("gunicorn")),
            *("--bind", f"{HOST}:{self.port}"),
            *("--worker-class", "gthread"),
            *("--workers", str(self.processes)),
            *("--threads", str(self.threads)),
            *("--access-logfile", "-"),
            # Names no setting of gunicorn, but is imported before Glance.
            *("--config", "python:tests.lab.patient_sqlite"),
            self.module,
        ]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(TOP)}

    def begin_stop(self) -> None:
        self.signal(signal.SIGTERM)

    def _loaded_pids(self) -> set[int]:
        return set(self.worker_pids())
