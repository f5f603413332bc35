# SPDX-License-Identifier: Apache-2.0
"""A server of any user: whatever it is asked for, it has, and gives a byte every other second."""

import contextlib
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from tests.lab.process import HOST, free_port

_SECONDS = 2.0


class SlowServer:
    """Serves objects of so many bytes from threads of its own; a context manager.

    :ivar begun: paths whose bytes were asked for
    """

    def __init__(self, size: int) -> None:
        self.begun: list[str] = []
        self.port = free_port()
        self._stopped = threading.Event()
        handler = type("Handler", (_Handler,), {"size": size, "owner": self})
        self._server = _Threads((HOST, self.port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    def rest(self) -> bool:
        """Wait for the next byte; whether there is one."""
        return not self._stopped.wait(_SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    # They end with the next byte, and the server waits for them.
    daemon_threads = False


class _Handler(BaseHTTPRequestHandler):
    size: int
    owner: SlowServer

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.size))
        self.end_headers()

    def do_GET(self) -> None:
        self.owner.begun.append(self.path)
        self.do_HEAD()
        with contextlib.suppress(OSError):
            for _ in range(self.size):
                if not self.owner.rest():
                    return
                self.wfile.write(b"x")

    def log_message(self, *_arguments: Any) -> None:
        pass
