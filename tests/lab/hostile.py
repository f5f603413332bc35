# SPDX-License-Identifier: Apache-2.0
"""A target that is hostile on demand: a server of raw HTTP in a thread, with objects in memory."""

import contextlib
import gzip
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from tests.lab.process import HOST, free_port

MIB = 1 << 20
_RECEIVE_BYTES = 256 << 10
_MULTISTATUS = b'<?xml version="1.0"?>\n<D:multistatus xmlns:D="DAV:">\n'
_MEMBER = (
    b"<D:response><D:href>/images/%032x</D:href><D:propstat><D:prop><D:resourcetype/></D:prop>"
    b"<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n"
)


class HostileTarget:
    """Takes the place of a web server in a cloud; it serves well until `manner` is set.

    :ivar manner: answers a request in place of the server; its parts are sent one by one, and then
        the connection is closed
    :ivar pause_seconds: between two parts
    :ivar asked: the methods of all requests
    """

    def __init__(self, directory: Path) -> None:
        self.root = directory
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}/images/"
        self.manner: Callable[[str], Iterator[bytes] | None] = serve_well
        self.pause_seconds = 0.0
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._listening: socket.socket | None = None
        self._stopped = threading.Event()
        self._changed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()

    @property
    def running(self) -> bool:
        return self._listening is not None

    def start(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        self._listening = socket.create_server((HOST, self.port), backlog=64)
        self._begin(self._accept, self._listening)
        return self

    def stop(self) -> None:
        if self._listening is None:
            return
        self._stopped.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._listening = None
        self._end_connections()
        for thread in self._threads:
            thread.join()

    def behave(
        self, manner: Callable[[str], Iterator[bytes] | None], pause_seconds: float = 0.0
    ) -> None:
        """End all connections and answer in this manner from now on."""
        self.manner, self.pause_seconds = manner, pause_seconds
        self.asked.clear()
        self._end_connections()

    def _end_connections(self) -> None:
        for sock in tuple(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _begin(self, work: Callable[[socket.socket], None], sock: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(sock,))
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._begin(self._serve, listening.accept()[0])

    def _serve(self, sock: socket.socket) -> None:
        self._sockets.add(sock)
        with contextlib.suppress(OSError), sock:
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = sock.recv(_RECEIVE_BYTES)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, path = lines[0].split(" ")[:2]
                self.asked.append(method)
                parts = self.manner(method)
                if parts is not None:
                    self._send(sock, parts)
                    return
                data = self._answer(sock, method, path.rpartition("/")[2], lines, data)

    def _send(self, sock: socket.socket, parts: Iterator[bytes]) -> None:
        for part in parts:
            if self._stopped.wait(self.pause_seconds):
                return
            sock.sendall(part)

    def _answer(
        self, sock: socket.socket, method: str, name: str, lines: list[str], data: bytes
    ) -> bytes:
        """Serve the request well; returns what came after it."""
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", "0"))
        while len(data) < length:
            more = sock.recv(_RECEIVE_BYTES)
            if not more:
                raise ConnectionError
            data += more
        body, data = data[:length], data[length:]
        status, found = "404 Not Found", b""
        if method == "PUT":
            status, self.objects[name] = "201 Created", body
        elif method == "DELETE" and self.objects.pop(name, None) is not None:
            status = "204 No Content"
        elif method in ("HEAD", "GET") and name in self.objects:
            status, found = "200 OK", self.objects[name]
        elif method in ("MOVE", "PROPFIND"):
            status = "405 Method Not Allowed"
        sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(found)}\r\n\r\n".encode())
        if method == "GET":
            sock.sendall(found)
        return data


def serve_well(_method: str) -> None:
    """Keep what is put, and give it back."""


def endless_listing(method: str) -> Iterator[bytes] | None:
    if method != "PROPFIND":
        return None
    members = (b"".join(_MEMBER % n for n in range(i, i + 1000)) for i in itertools.count(0, 1000))
    return itertools.chain([b"HTTP/1.1 207 Multi-Status\r\n\r\n", _MULTISTATUS], members)


def gzip_bomb(_method: str) -> Iterator[bytes]:
    head = b"Content-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    return iter([b"HTTP/1.1 207 Multi-Status\r\n" + head % len(_BOMB), _BOMB])


def endless_error(_method: str) -> Iterator[bytes]:
    head = b"HTTP/1.1 500 \x1b[31mOut of order\r\nContent-Type: text/html\r\n\r\n"
    return itertools.chain([head], itertools.repeat(b"<p>\x1b[2J" * 10_000))


def dripping_error(_method: str) -> Iterator[bytes]:
    head = b"HTTP/1.1 500 Slow\r\nContent-Type: text/plain\r\n\r\n"
    return itertools.chain([head], itertools.repeat(b"x"))


def dripping_head(_method: str) -> Iterator[bytes]:
    return itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], itertools.repeat(b"x"))


def endless_headers(_method: str) -> Iterator[bytes]:
    return itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X: y\r\n" * 1000))


def mad_retry_after(_method: str) -> Iterator[bytes]:
    when = b"Mon, 01 Jan 2024 00:00:00 +99999999999999999999"
    return iter([b"HTTP/1.1 503 Mad\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n" % when])


def endless_interim(_method: str) -> Iterator[bytes]:
    return itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)


def endless_redirect(_method: str) -> Iterator[bytes]:
    head = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"
    return itertools.chain([head], itertools.repeat(bytes(MIB)))


_BOMB = gzip.compress(bytes(512 * MIB), 1)
