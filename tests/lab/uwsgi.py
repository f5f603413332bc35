# SPDX-License-Identifier: Apache-2.0
"""An OpenStack API under uWSGI."""

import re
import signal
import sys
from pathlib import Path

import psutil

from tests.lab.forks import fork_server
from tests.lab.process import (
    HOST,
    Process,
    Server,
    answers_http,
    die_with_launcher,
    wait_until,
)

_TOP = Path(__file__).parents[2]
PATIENT_SQLITE = ("--pythonpath", str(_TOP), "--import", "tests.lab.patient_sqlite")
"""Arguments with which the threads of a service share one SQLite file, see there."""

_UWSGI = str(Path(sys.executable).with_name("uwsgi"))
_LOADED = re.compile(r"^WSGI app 0 .* pid: (\d+)", re.MULTILINE)


class UwsgiServer(Server):
    """A WSGI application under uWSGI with processes and threads, as OpenStack deploys it.

    Each process loads the application for itself. `shared_modules` are imported once for all
    servers that name the same ones: half of a start's time is that of the imports.
    """

    module: str
    shared_modules: tuple[str, ...] = ()
    request_line = re.compile(r"^request (?P<method>[A-Z]+) (?P<path>\S+) (?P<status>\d{3}) ")

    def __init__(
        self,
        directory: Path,
        name: str,
        port: int | None = None,
        *,
        processes: int = 1,
        threads: int = 4,
        uwsgi_arguments: tuple[str, ...] = (),
    ) -> None:
        super().__init__(directory, name, port)
        self.processes = processes
        self.threads = threads
        self.uwsgi_arguments = uwsgi_arguments
        self._orders = self.directory / f"{name}.orders"

    def listening(self) -> dict[str, str]:
        """The option that says where, and in which protocol."""
        return {"http-socket": f"{HOST}:{self.port}"}

    def command(self) -> list[str]:
        options = {
            **self.listening(),
            "module": self.module,
            "processes": str(self.processes),
            "threads": str(self.threads),
            "buffer-size": "65535",
            # The default of 4 s would cut off an uploader that pauses.
            "socket-timeout": "60",
            "chunked-input-timeout": "60",
            # python-glanceclient sends chunks of 1 MiB, which the default of 1 MiB refuses: the
            # chunk's header counts too.
            "chunked-input-limit": str(4 << 20),
            "master-fifo": str(self._orders),
            # A reload executes this again: by itself uWSGI finds the Python behind the virtual
            # environment, which lacks all packages.
            "binary-path": sys.executable,
            # uWSGI closes after every answer; without the header clients try to go on.
            "add-header": "Connection: close",
            "log-format": "request %(method) %(uri) %(status) %(msecs)ms pid %(pid)",
        }
        switches = (
            "die-on-term",
            "enable-threads",
            "http-auto-chunked",
            "http-chunked-input",
            "http-raw-body",
            "lazy-apps",
            "master",
            "need-app",
        )
        return [
            sys.executable,
            _UWSGI,
            *(word for name, value in options.items() for word in (f"--{name}", value)),
            *(f"--{name}" for name in switches),
            *(f"--shared-pyimport={name}" for name in self.shared_modules),
            *self.uwsgi_arguments,
        ]

    def _launch(self) -> Process:
        python, program, *words = self.command()
        if (python, program) != (sys.executable, _UWSGI):
            return super()._launch()
        with self.log.open("ab") as log:
            server = fork_server(self.shared_modules, die_with_launcher)
            return server.start(words, self.directory, self.environment(), log)

    def ready(self) -> bool:
        # One worker answers before the others have loaded, and uWSGI never ends a worker that
        # meets a reload or a stop while it loads.
        return self._all_workers_have_loaded() and answers_http(self.url)

    def _all_workers_have_loaded(self) -> bool:
        workers = set(self.worker_pids())
        return len(workers) == self.processes and workers <= self._loaded_pids()

    def _loaded_pids(self) -> set[int]:
        return {int(pid) for pid in _LOADED.findall(self.log.read_text(errors="replace"))}

    def worker_pids(self) -> list[int]:
        """Return the processes that serve requests now."""
        try:
            return sorted(child.pid for child in psutil.Process(self.pid).children())
        except psutil.NoSuchProcess:
            return []

    def begin_reload(self) -> None:
        """Ask for new workers; requests that run are finished by the old ones."""
        self.signal(signal.SIGHUP)

    def begin_stop(self) -> None:
        """Ask for the end; requests that run are finished, if the server does so at all."""
        self._orders.write_text("q")

    def is_stopping(self) -> bool:
        """Whether a worker has ended and no other one takes its place."""
        return not self.running or sum(map(_lives, self.worker_pids())) < self.processes

    def reload(self) -> None:
        """Replace all workers gracefully, and return when the new ones serve."""
        old = set(self.worker_pids())
        self.begin_reload()
        self.wait_reloaded(old)

    def wait_reloaded(self, old: set[int]) -> None:
        """Return when none of the old workers is left and the new ones serve."""
        wait_until(
            lambda: not old & set(self.worker_pids()) and self._all_workers_have_loaded(),
            60,
            f"{self.name} has new workers",
        )
        self.wait_ready()


def _lives(pid: int) -> bool:
    """Whether the process is more than a status that its parent has not asked for yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
