# SPDX-License-Identifier: Apache-2.0
"""Starts the embedded writer: one process per node, whatever the number of API processes.

Two locks in the spool directory rule its life. ``writer.lock`` is held by the writer; each API
process has a thread that waits for it, so the first to get it knows that no writer lives, starts
one, and hands the locked descriptor over. ``api.lock`` is shared by all API processes; a writer
that gets it for itself knows that the last of them has gone.

What ``writer.lock`` holds tells which configuration the writer has read. An API process that
starts with another one, as after a reload, ends that writer, and a new one takes its place.

The thread asks again and again, and never blocks: under eventlet, as in glance-api before release
33, it is a green one, and a call that blocks would stop the whole process.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import BinaryIO

from oslo_config import cfg
from oslo_log import log

from glance_repl_mw.presence import API_LOCK, WRITER_LOCK

try:
    # It is there only inside of uWSGI.
    import uwsgi
except ImportError:
    uwsgi = None

LOG = log.getLogger(__name__)

_POLL_SECONDS = 0.5
_SHORT_LIFE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 60.0


def open_lock(directory: pathlib.Path, name: str) -> BinaryIO:
    """The lock file, made where it is missing, not yet locked.

    :raises OSError:
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    return os.fdopen(os.open(directory / name, flags, 0o600), "r+b", buffering=0)


def fingerprint(conf: cfg.ConfigOpts) -> str:
    """What changes with the release, and with the content of any configuration file.

    :raises OSError:
    """
    files = [pathlib.Path(path) for path in _paths(conf.config_file)]
    for directory in _paths(conf.config_dir):
        files += sorted(pathlib.Path(directory).glob("*.conf"))
    release = importlib.metadata.version("glance-repl-mw").encode()
    parts = [release, *(file.read_bytes() for file in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


class WriterLauncher:
    """Keeps a writer alive while this API process lives."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._directory = pathlib.Path(conf.replication.spool_dir)
        self._started_in: int | None = None
        self._starting = threading.Lock()
        self._has_looked = False

    def start_early(self) -> None:
        """Start as soon as that is safe, where it is known: in a process of uWSGI that serves.

        A thread that is begun before a server forks may hold a lock just then, which no process
        that is forked would ever get. Elsewhere the first request starts the watching thread.
        """
        if uwsgi is None:
            return
        if uwsgi.worker_id():
            self.ensure_started()
            return
        earlier = getattr(uwsgi, "post_fork_hook", None)

        def forked() -> None:
            if earlier is not None:
                earlier()
            if uwsgi.worker_id():
                self.ensure_started()

        uwsgi.post_fork_hook = forked

    def ensure_started(self) -> None:
        """Start the watching thread, once per process and only after the server has forked."""
        if self._started_in == os.getpid():
            return
        with self._starting:
            if self._started_in != os.getpid():
                self._started_in = os.getpid()
                threading.Thread(
                    target=self._keep_writer, name="replication-writer-launcher", daemon=True
                ).start()

    def _keep_writer(self) -> None:
        pause = 1.0
        presence: BinaryIO | None = None
        while True:
            lived = 0.0
            try:
                self._end_outdated_writer()
                if presence is None:
                    presence = open_lock(self._directory, API_LOCK)
                    _wait_for_lock(presence, fcntl.LOCK_SH)
                with open_lock(self._directory, WRITER_LOCK) as lock:
                    _wait_for_lock(lock, fcntl.LOCK_EX)
                    lock.truncate(0)
                    writer = self._start_writer(lock.fileno())
                started = time.monotonic()
                LOG.info("Started the replication writer, process %s", writer.pid)
                while (status := writer.poll()) is None:
                    time.sleep(_POLL_SECONDS)
                lived = time.monotonic() - started
                LOG.warning("The replication writer %s ended with status %s", writer.pid, status)
            except OSError as error:
                LOG.error("The replication writer cannot be started: %s", error)
            pause = 1.0 if lived > _SHORT_LIFE_SECONDS else min(pause * 2, _LONGEST_PAUSE_SECONDS)
            time.sleep(pause)

    def _end_outdated_writer(self) -> None:
        """Once, at the start: ask a writer with another configuration to end."""
        if self._has_looked:
            return
        self._has_looked = True
        with open_lock(self._directory, WRITER_LOCK) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                process, _, configuration = lock.read().decode().partition(" ")
                # One that is a service of its own writes no configuration, and is let be.
                if process and configuration not in ("", fingerprint(self._conf)):
                    LOG.info("The replication writer has an old configuration and is replaced")
                    os.kill(int(process), signal.SIGTERM)

    def _start_writer(self, lock_descriptor: int) -> subprocess.Popen[bytes]:
        arguments = ["--embedded-lock", str(lock_descriptor)]
        for path in _paths(self._conf.config_file):
            arguments += ["--config-file", path]
        for path in _paths(self._conf.config_dir):
            arguments += ["--config-dir", path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(
            [_python(self._conf), "-m", "glance_repl_mw.cmd.writer", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(lock_descriptor,),
            process_group=0,
            env=environment,
        )


def _paths(value: str | list[str] | None) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else list(value)


def _wait_for_lock(lock: BinaryIO, kind: int) -> None:
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_POLL_SECONDS)


def _python(conf: cfg.ConfigOpts) -> str:
    """The interpreter; inside a WSGI server ``sys.executable`` may be the server itself.

    What the operator has told Glance for its own programs wins.
    """
    told = getattr(getattr(conf, "wsgi", None), "python_interpreter", None)
    if told:
        return str(told)
    version = sys.version_info
    for directory in (sys.prefix, sys.base_prefix):
        for name in (f"python{version.major}.{version.minor}", f"python{version.major}"):
            candidate = pathlib.Path(directory, "bin", name)
            if os.access(candidate, os.X_OK):
                return str(candidate)
    return sys.executable
