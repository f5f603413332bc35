"""Glance under gunicorn."""

import re
import signal
import sys
from pathlib import Path

from tests.lab.glance import Glance
from tests.lab.process import HOST, answers_http


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
            self.module,
        ]

    def ready(self) -> bool:
        return answers_http(self.url)

    def reload(self) -> None:
        """Replace all workers gracefully; they are replaced one after the other."""
        self.signal(signal.SIGHUP)
