# SPDX-License-Identifier: Apache-2.0
"""A server that sends whatever the test says, byte by byte, to requests of HTTP."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Connection:
    """One connection of a client, and the request that is being answered.

    :ivar head: the lines of the request; `method` and `body_bytes` are taken from it
    """

    def __init__(self, server: "RawServer", sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.head = b""
        self._left = b""

    @property
    def method(self) -> str:
        return self.head.partition(b" ")[0].decode()

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            found, _, value = line.partition(":")
            if found.lower() == name.lower():
                return value.strip()
        return None

    def next_request(self) -> bool:
        data = self._left
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(65536)
            if not more:
                return False
            data += more
        self.head, _, self._left = data.partition(b"\r\n\r\n")
        self.server.heads.append(self.head)
        return True

    def read_body(self, most: int = 1 << 62) -> int:
        """Read the body, or its first bytes; returns how many."""
        wanted = min(most, int(self.header("Content-Length") or 0))
        got = len(self._left)
        self._left = b""
        while got < wanted:
            more = self.sock.recv(min(65536, wanted - got))
            if not more:
                break
            got += len(more)
        return got

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.server.sent += len(data)

    def answer(self, status: str, *lines: str, body: bytes = b"") -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""]
        self.send("\r\n".join(head).encode("latin-1") + (b"" if self.method == "HEAD" else body))

    def endlessly(self, data: bytes, seconds: float = 0.0) -> None:
        """Send this again and again until the client has enough or the test ends."""
        while not self.server.released.wait(seconds):
            self.send(data)


class RawServer:
    """Calls `serve` with each request; the connection ends where that returns False.

    :ivar heads: what was asked
    :ivar sent: bytes that were sent
    :ivar released: set at the end, so that what waits comes to its end
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.serve: Callable[[Connection], bool | None] = lambda _: False
        self.heads: list[bytes] = []
        self.sent = 0
        self.released = threading.Event()
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}/images/"

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                thread = threading.Thread(target=self._run, args=(sock,))
                thread.start()
                self._threads.append(thread)

    def _run(self, sock: socket.socket) -> None:
        self._sockets.add(sock)
        with suppress(OSError), sock:
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._sockets.add(sock)
            with sock:
                connection = Connection(self, sock)
                while connection.next_request() and self.serve(connection) is not False:
                    pass

    def stop(self) -> None:
        self.released.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in tuple(self._sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


@contextmanager
def raw_server(tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    server = RawServer(tls)
    thread = threading.Thread(target=server.accept)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
