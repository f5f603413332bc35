# SPDX-License-Identifier: Apache-2.0
"""A target that takes no processor of this machine for the bytes, as if it were on another one.

It has the kernel throw them away unread (MSG_TRUNC, see tcp(7)), and remembers how many they were.
"""

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.lab.process import HOST, clean_environment
from tests.lab.webserver_base import WebServer

_PIECE_BYTES = 1 << 20


class FarTarget(WebServer):
    """Runs this module in a process of its own."""

    @classmethod
    def available(cls) -> str | None:
        return None

    def command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.far", str(self.port)]

    def environment(self) -> dict[str, str]:
        return clean_environment(PYTHONPATH=":".join(sys.path))


class _Server(ThreadingHTTPServer):
    """:ivar sizes: of the objects, by path"""

    def __init__(self, port: int) -> None:
        super().__init__((HOST, port), _Handler)
        self.sizes: dict[str, int] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # What is buffered with the headers could not be thrown away.
    rbufsize = 0
    server: _Server

    def do_PUT(self) -> None:
        left = size = int(self.headers["Content-Length"])
        while left:
            count = len(self.connection.recv(min(left, _PIECE_BYTES), socket.MSG_TRUNC))
            if not count:
                return
            left -= count
        self.server.sizes[self.path] = size
        self._answer(201)

    def do_HEAD(self) -> None:
        size = self.server.sizes.get(self.path)
        self._answer(404) if size is None else self._answer(200, size)

    def do_GET(self) -> None:
        """Zeros, and only their beginning: for the probe, which leaves after so many."""
        self.do_HEAD()
        self.wfile.write(bytes(min(self.server.sizes.get(self.path, 0), _PIECE_BYTES)))
        self.close_connection = True

    def do_DELETE(self) -> None:
        self._answer(204 if self.server.sizes.pop(self.path, None) is not None else 404)

    def log_message(self, *_arguments: object) -> None:
        """The harness reads no log of it."""

    def _answer(self, status: int, size: int = 0) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(size))
        self.end_headers()


if __name__ == "__main__":
    _Server(int(sys.argv[1])).serve_forever()
