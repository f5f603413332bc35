# SPDX-License-Identifier: Apache-2.0
"""Runs a real server in the foreground, in a directory of its own, and never leaves it behind."""

import ctypes
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import requests

from tests.lab.forks import ForkedProcess

HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 30

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
# The death signal is sent when the thread that forked ends, not its process. Forking all servers
# from this one thread, which lives as long as the interpreter, makes both the same.
_LAUNCHER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-launcher")
_given_ports: set[int] = set()

T = TypeVar("T")
Process = subprocess.Popen[bytes] | ForkedProcess


class ServerError(Exception):
    """A server could not be prepared, started or stopped; the text holds the end of its log."""


class Request(NamedTuple):
    """One line of a server's access log."""

    method: str
    path: str
    status: int


def free_port() -> int:
    """Return a port that nobody listens on, and that this process has not returned before.

    It lies below the range that the kernel gives to outgoing connections: a server that is
    stopped and started again could otherwise find its port taken by a client. Test processes
    that run side by side have ports of their own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = random.randrange(20000 + worker, 32768, workers)
        if port in _given_ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        _given_ports.add(port)
        return port


def wait_until(condition: Callable[[], T], seconds: float, what: str) -> T:
    """Return the first true result of the condition, or raise a TimeoutError that says what."""
    began = time.monotonic()
    while not (result := condition()):
        waited = time.monotonic() - began
        if waited > seconds:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(_pause_seconds(waited))
    return result


def _pause_seconds(waited: float) -> float:
    """What takes long is asked after less often: the question takes processors from it."""
    return min(max(0.02, waited / 20), 0.1)


def accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def answers_http(url: str) -> bool:
    """Say whether anything but a server error comes back from the URL."""
    try:
        return requests.get(url, timeout=5, allow_redirects=False).status_code < 500
    except requests.RequestException:
        return False


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without settings of OpenStack clients and services."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return {**kept, **extra}


class Server:
    """One server process on 127.0.0.1 with its files in one directory.

    Subclasses give the command, and where needed prepare(), ready() and environment(). Output is
    appended to the log, so that it holds every run of a server that is started again. Not
    thread-safe; two servers may be started by two threads.
    """

    request_line: re.Pattern[str]
    """How a line of the access log is read: groups method, path and status."""

    def __init__(self, directory: Path, name: str, port: int | None = None) -> None:
        self.directory = Path(directory)
        self.name = name
        self.port = port or free_port()
        self.log = self.directory / f"{name}.log"
        self._process: Process | None = None
        self._prepared = False

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    @property
    def access_log(self) -> Path:
        return self.log

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return clean_environment()

    def prepare(self) -> None:
        """Write the configuration, make the directories; called once, before the first start."""

    def ready(self) -> bool:
        return accepts_connections(self.port)

    def start(self) -> Self:
        """Start the process and return when it is ready, or raise ServerError."""
        if self.running:
            raise ServerError(f"{self.name} is running already")
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._prepared:
            self.prepare()
            self._prepared = True
        self._process = _LAUNCHER.submit(self._launch).result()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        began = time.monotonic()
        while not self.ready():
            if not self.running:
                raise self._error("ended while it was starting")
            waited = time.monotonic() - began
            if waited > seconds:
                raise self._error(f"is not ready after {seconds} s")
            time.sleep(_pause_seconds(waited))
        # Something else may answer on the port of a process that could not bind it.
        if not self.running:
            raise self._error("ended while it was starting")

    def stop(self) -> None:
        """End the process with SIGTERM, or after a while its whole group with SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _kill_group(process)

    def kill(self) -> None:
        """End the process and all others of its group with SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            _kill_group(process)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def requests(self) -> list[Request]:
        """Return what the access log holds, in its order; query strings are not part of a path."""
        if not self.access_log.exists():
            return []
        text = self.access_log.read_text(errors="replace")
        found = (self.request_line.search(line) for line in text.splitlines())
        return [
            Request(match["method"], match["path"].partition("?")[0], int(match["status"]))
            for match in found
            if match
        ]

    def log_tail(self, lines: int = 30) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _launch(self) -> Process:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: Ctrl-C reaches the tests, which then stop the servers.
                start_new_session=True,
                preexec_fn=die_with_launcher,
            )

    def _error(self, what: str) -> ServerError:
        return ServerError(f"{self.name} {what}\n{self.log_tail()}")


def die_with_launcher() -> None:
    """Have the calling process end when the one that forked it does."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _kill_group(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(command: list[str], environment: dict[str, str], log: Path) -> None:
    """Run a set-up command to its end with its output in the log, or raise ServerError."""
    with log.open("ab") as output:
        status = subprocess.call(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise ServerError(f"{' '.join(command[:3])} ended with {status}\n{tail}")
