# SPDX-License-Identifier: Apache-2.0
"""A web server in a thread of the test, with objects in memory and faults on demand."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Serves PUT, GET, HEAD, MOVE and DELETE; a method in `server.faults` is served by that."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    server: "WebServer"

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with suppress(ConnectionError):
            super().finish()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def handle_expect_100(self) -> bool:
        announced = self.server.announced
        return announced(self) if announced else super().handle_expect_100()

    def __getattr__(self, name: str) -> Any:
        # http.server looks for do_PUT and so on.
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self.serve

    def serve(self) -> None:
        self.name = self.path.partition("?")[0].rpartition("/")[2]
        self.server.requests.append((self.command, self.name))
        probing = self.name.startswith("glance-repl-probe-")
        faults = self.server.faults_of_probes if probing else self.server.faults
        fault = faults.get(self.command)
        if fault:
            fault(self)
        else:
            self.serve_well()

    def serve_well(self) -> None:
        getattr(self, self.command.lower())()

    def put(self) -> None:
        body = self.body()
        if body is not None:
            self.server.objects[self.name] = body
            self.answer(201)

    def get(self) -> None:
        content = self.server.objects.get(self.name)
        self.answer(404 if content is None else 200, content or b"")

    head = get

    def move(self) -> None:
        destination = self.headers["Destination"].rpartition("/")[2]
        self.server.objects[destination] = self.server.objects.pop(self.name)
        self.answer(201)

    def delete(self) -> None:
        found = self.server.objects.pop(self.name, None)
        self.answer(404 if found is None else 204)

    def body(self) -> bytes | None:
        """The whole body, or None if the client broke it off."""
        if "Content-Length" in self.headers:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            return body if len(body) == length else None
        body = b""
        while length := int(self.rfile.readline() or b"-1", 16):
            if length < 0:
                return None
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_arguments: Any) -> None:
        pass


class WebServer(ThreadingHTTPServer):
    """
    :ivar faults: by method, what serves it instead; not for the probes of the driver
    :ivar faults_of_probes: likewise, for these
    :ivar announced: what serves a request whose body is announced; it tells whether that may come
    :ivar released: set at the end, so that faults which wait come to theirs
    """

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: dict[str, Callable[[Any], None]] = {}
        self.faults_of_probes: dict[str, Callable[[Any], None]] = {}
        self.announced: Callable[[Any], bool] | None = None
        self.connections: set[socket.socket] = set()
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/images/"

    def methods(self, name: str) -> list[str]:
        return [method for method, each in self.requests if each == name]


@contextmanager
def web_server() -> Iterator[WebServer]:
    with WebServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            for connection in tuple(server.connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join()
