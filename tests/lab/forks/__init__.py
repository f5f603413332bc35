# SPDX-License-Identifier: Apache-2.0
"""Starts uWSGI in a process that has imported the application already.

To import Glance takes seconds of a processor, most of what a start costs. So a fork server does it
once for each test process, and all servers of one kind are forked from it.
"""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_PROGRAM = Path(__file__).with_name("serve.py")


class ForkedProcess:
    """A process of a fork server; has as much of ``subprocess.Popen`` as a ``Server`` needs."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    def poll(self) -> int | None:
        """None while it runs; how it ended is not known."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return when it has ended, or raise ``subprocess.TimeoutExpired``."""
        if self._wait(timeout) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return 0

    def terminate(self) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, signal.SIGTERM)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def _wait(self, seconds: float | None) -> int | None:
        return 0 if select.select([self._descriptor], [], [], seconds)[0] else None


class ForkServer:
    """A process that has imported modules, and forks itself on demand; ends with this one.

    :param modules: what it imports
    :param die_with_parent: is called in the new process, before it becomes another program
    """

    def __init__(self, modules: Sequence[str], die_with_parent: Callable[[], None]) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, str(_PROGRAM), str(other.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        atexit.register(self.stop)

    def start(
        self, words: Sequence[str], directory: Path, environment: Mapping[str, str], log: BinaryIO
    ) -> ForkedProcess:
        """Run uWSGI with these arguments; its output goes to the log."""
        order = json.dumps([list(words), str(directory), dict(environment)]).encode()
        socket.send_fds(self._socket, [order], [log.fileno()])
        answer, descriptors, _, _ = socket.recv_fds(self._socket, 64, 1)
        if not answer:
            raise RuntimeError("the fork server has ended; what it could not import is on stderr")
        return ForkedProcess(int(answer), descriptors[0])

    def stop(self) -> None:
        self._socket.close()
        self._process.wait()


fork_server = functools.cache(ForkServer)
"""The one that has imported these modules, which is started where there is none."""
