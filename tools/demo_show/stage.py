# SPDX-License-Identifier: Apache-2.0
"""The servers of the demo: Keystone, three HTTP servers, and Glance with the filter."""

import importlib.metadata
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
from oslo_db.exception import DBError

from glance_repl_mw.db.schema import open_database
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.model import Replica, ReplicaStatus
from tests.lab.glance import Glance
from tests.lab.keystone import Keystone
from tests.lab.process import wait_until
from tests.lab.webserver_base import WebServer, find_program
from tests.lab.webservers import Nginx, WsgiDav

TARGETS = ("site-a", "site-b", "site-c")
USER = ("alice", "demo")
SERVICE_USER = ("replicator", "service")
MEMORY = Path("/dev/shm")
# Besides Ctrl-C.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

_SERVERS_BYTES = 256 << 20
_KEPT_FREE_BYTES = 64 << 20
_WRITER_STOP_SECONDS = 10
# As the lab's, with the time of the request's begin and the size of the answer's body.
_LOG_FORMAT = "request %(method) %(uri) %(status) %(msecs)ms began %(tmsecs) sent %(rsize)"
_LOG_LINE = re.compile(
    r"^request (?P<method>[A-Z]+) (?P<path>[^ ?]+)\S* (?P<status>\d{3}) (?P<took>\d+)ms"
    r" began (?P<began>\d+) sent (?P<sent>\d+)",
    re.MULTILINE,
)


class DemoError(Exception):
    """The demo cannot go on; the text says why, in a form for the user."""


class Answered(NamedTuple):
    """One request that Glance has answered, by its access log; times in seconds since 1970."""

    method: str
    path: str
    status: int
    began: float
    ended: float
    sent: int


class Stage:
    """All servers in one directory; start() them, and stop() what was started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.keystone = Keystone(directory / "keystone")
        self.targets = {name: _target(directory / name, name) for name in TARGETS}
        self.glance = Glance(
            directory / "glance",
            self.keystone,
            target_ports=[target.port for target in self.targets.values()],
            replication=True,
            uwsgi_arguments=("--log-format", _LOG_FORMAT),
        )
        self._database = directory / "replication.sqlite"
        self._store: ReplicaStore | None = None

    @property
    def targets_are(self) -> str:
        return type(next(iter(self.targets.values()))).__name__

    @property
    def glance_version(self) -> str:
        return importlib.metadata.version("glance")

    def start_keystone(self) -> None:
        self.keystone.start()
        self.keystone.add_user(*_account(SERVICE_USER), ("admin",))
        self.keystone.add_user(*_account(USER), ("member",))
        self.keystone.add_service("image", self.glance.url)

    def start_targets(self) -> None:
        for target in self.targets.values():
            target.start()

    def start_glance(self) -> None:
        """Start Glance; the first request to its API has the filter start the writer."""
        self.glance.options = {"replication": self._options(), **self._target_sections()}
        self.glance.start()
        list(self.glance.client(self.keystone.credentials()).images.list())
        wait_until(self._database.exists, 60, "the embedded writer has started")
        self._store = ReplicaStore(open_database(f"sqlite:///{self._database}"))

    def stop(self) -> None:
        """Stop all, Glance first: its filter would start the writer again."""
        with ExitStack() as last_first:
            last_first.callback(self.keystone.stop)
            for target in self.targets.values():
                last_first.callback(target.stop)
                if target.running:
                    # The user may have stopped it, to see what happens.
                    target.signal(signal.SIGCONT)
            last_first.callback(self._stop_writers)
            last_first.callback(self.glance.stop)

    def replicas(self, image_id: str) -> dict[str, Replica]:
        """What the writer has recorded, by target."""
        assert self._store is not None
        try:
            with _no_interruption():
                return {replica.target: replica for replica in self._store.replicas(image_id)}
        except DBError:  # its tables are being made
            return {}

    def is_replicated(self, image_id: str) -> bool:
        replicas = self.replicas(image_id).values()
        active = [replica for replica in replicas if replica.status is ReplicaStatus.ACTIVE]
        return len(active) == len(self.targets)

    def primary_bytes(self, image_id: str) -> int:
        return _largest([self.glance.primary_path(image_id)])

    def target_bytes(self, name: str) -> int:
        """How much of the image is on this target's disk, under whatever name.

        Read there because the writer records its progress only once a second.
        """
        top = self.targets[name].directory
        return _largest(path for part in ("root", "tmp") for path in (top / part).rglob("*"))

    def glance_requests(self) -> list[Answered]:
        text = self.glance.log.read_text(errors="replace")
        return [_answered(match) for match in _LOG_LINE.finditer(text)]

    def _options(self) -> dict[str, str]:
        return {
            "enabled_targets": ",".join(f"{name}:http" for name in self.targets),
            "spool_dir": str(self.directory / "spool"),
            "spool_min_free_bytes": str(_KEPT_FREE_BYTES),
            "connection": f"sqlite:///{self._database}",
            "endpoint_override": self.glance.url,
            "auth_type": "password",
            **self.keystone.credentials(*SERVICE_USER),
        }

    def _target_sections(self) -> dict[str, dict[str, str]]:
        return {f"replication:{name}": {"url": t.url} for name, t in self.targets.items()}

    def _stop_writers(self) -> None:
        writers = self._writers()
        for writer in writers:
            with suppress(psutil.NoSuchProcess):
                writer.terminate()
        for writer in psutil.wait_procs(writers, _WRITER_STOP_SECONDS)[1]:
            with suppress(psutil.NoSuchProcess):
                writer.kill()

    def _writers(self) -> list[psutil.Process]:
        """The embedded writer: found by its command line, for it outlives its parent."""
        config_dir = str(self.glance.config_dir)
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if "glance_repl_mw.cmd.writer" in (words := process.info["cmdline"] or [])
            and any(config_dir in word for word in words)
        ]


def make_directory(image_bytes: int) -> Path:
    """Make a temporary directory with room for six copies of the image, in memory if possible.

    Six: the image, the primary store, the spool and the targets.
    """
    needed = 6 * image_bytes + _SERVERS_BYTES + _KEPT_FREE_BYTES
    parents = [Path(tempfile.gettempdir())]
    if MEMORY.is_dir() and psutil.virtual_memory().available > 2 * needed:
        parents.insert(0, MEMORY)
    for parent in parents:
        if shutil.disk_usage(parent).free > needed:
            try:
                return Path(tempfile.mkdtemp(prefix="glance-repl-demo-", dir=parent))
            except PermissionError:
                continue
    raise DemoError(
        f"{needed >> 20} MiB are needed in {parents[-1]}: "
        "set TMPDIR to a directory with more room, or take a smaller --size"
    )


@contextmanager
def _no_interruption() -> Iterator[None]:
    """Ctrl-C has its effect afterwards: the database's library may swallow it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *ENDING_SIGNALS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _account(user: tuple[str, str]) -> tuple[str, str, str]:
    name, project = user
    return name, f"demo-{name}-password", project


def _target(directory: Path, name: str) -> WebServer:
    """Nginx, where it is installed and can take PUT, else WsgiDAV."""
    nginx = find_program("nginx")
    if nginx:
        built = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=False)
        if "http_dav_module" in built.stderr:
            return Nginx(directory, name, autoindex=True)
    return WsgiDav(directory, name)


def _largest(paths: Iterable[Path]) -> int:
    sizes = [0]
    for path in paths:
        try:
            sizes.append(path.stat().st_size if path.is_file() else 0)
        except FileNotFoundError:  # moved to its final name meanwhile
            continue
    return max(sizes)


def _answered(match: re.Match[str]) -> Answered:
    began = int(match["began"]) / 1000
    ended = began + int(match["took"]) / 1000
    return Answered(
        match["method"], match["path"], int(match["status"]), began, ended, int(match["sent"])
    )
