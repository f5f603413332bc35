# SPDX-License-Identifier: Apache-2.0
"""A faulty network or server: a TCP proxy in front of a real web server, switched by the test."""

import asyncio
import contextlib
import dataclasses
import socket
import struct
import threading
import zlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib import parse

from tests.lab.process import HOST, Request, Server, free_port
from tests.lab.webserver_base import WebServer

_BLOCK_BYTES = 64 * 1024
_TURNS_PER_SECOND = 20
_SWITCH_SECONDS = 30
# Small, so that a client sees a slow reader take bytes all the time, not in large steps.
_RECEIVE_BUFFER_BYTES = 16 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_ENDLESS_BYTES = 1 << 20
_ENDLESS_PAUSE_SECONDS = 0.002
_HREF = b"<D:response><D:href>/images/endless-%d</D:href></D:response>"
_ENTRIES = b"".join(_HREF % number for number in range(1000))
_LISTING = b'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">'

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What every new connection meets; bytes are counted from the client to the server.

    :ivar down: connections are refused
    :ivar hang_after: nothing is read or answered any more after so many bytes
    :ivar cut_after: the connection is reset after so many bytes
    :ivar bytes_per_second: how fast each connection is read
    :ivar status: is the answer to every request, given before its body is read
    :ivar headers: lines of that answer; a Content-Length there wins over that of an empty body
    :ivar mute: the server gets each request and does what it asks for; its answer is lost
    :ivar endless: the answer to every request is a body without end: "plain" or as "gzip"
    :ivar status_over_bytes: these are only for requests with a longer body
    :ivar methods: and only for these; all by default
    :ivar dripping: so many bytes, so many seconds apart, are the body, without an end, of the
        answer to each GET of a whole object; all else is as with a healthy server
    """

    down: bool = False
    hang_after: int | None = None
    cut_after: int | None = None
    bytes_per_second: int | None = None
    status: int | None = None
    status_over_bytes: int = -1
    headers: tuple[str, ...] = ()
    mute: bool = False
    endless: str = ""
    methods: tuple[str, ...] = ()
    dripping: tuple[int, float] | None = None

    @property
    def reads_requests(self) -> bool:
        return self.status is not None or self.mute or bool(self.endless) or bool(self.dripping)

    def is_for(self, head: bytes) -> bool:
        """Whether a request that begins with these lines meets what is for whole requests."""
        method = head.partition(b" ")[0].decode()
        if self.dripping is not None:
            return method == "GET" and b"\r\nrange: bytes=0-" not in head.lower()
        return method in (self.methods or (method,)) and _body_bytes(head) > self.status_over_bytes


HEALTHY = Fault()
DOWN = Fault(down=True)
HANGING = Fault(hang_after=0)


class FaultyProxy:
    """Stands before the server on a port of its own; starts healthy, and only once.

    It serves from a thread of its own; all methods may be called from any other.

    :ivar server: where new connections lead
    :ivar accepted: connections since the last switch
    :ivar most_open: how many of them were open at the same moment
    :ivar received_bytes: what all of them brought from the clients
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = free_port()
        self.fault = HEALTHY
        self.accepted = 0
        self.most_open = 0
        self.received_bytes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-proxy")
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    @property
    def url(self) -> str:
        """The server's URL, with the port of the proxy."""
        parts = parse.urlsplit(self.server.url)
        return parts._replace(netloc=f"{HOST}:{self.port}").geturl()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def start(self) -> Self:
        self._thread.start()
        self.switch(self.fault)
        return self

    def stop(self) -> None:
        if not self.running:
            return
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def switch(self, fault: Fault) -> None:
        """Reset all connections; new ones meet this fault. The counts begin again at 0."""
        self._do(self._switch(fault))

    def lead_to(self, server: Server) -> None:
        """Reset all connections; new ones reach this server instead."""
        self.server = server
        self.switch(self.fault)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_SWITCH_SECONDS)

    async def _switch(self, fault: Fault) -> None:
        await self._close()
        self.fault = fault
        self.accepted = self.most_open = self.received_bytes = 0
        if not fault.down:
            listening = socket.create_server((HOST, self.port), backlog=128)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            self._server = await asyncio.start_server(
                self._accept, sock=listening, limit=_RECEIVE_BUFFER_BYTES
            )

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._connections[task] = [writer]
        self.most_open = max(self.most_open, len(self._connections))
        try:
            await self._serve(reader, writer, self._connections[task])
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            for each in self._connections[task]:
                _reset(each)
        finally:
            for each in self._connections.pop(task):
                each.close()

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        writers: list[asyncio.StreamWriter],
    ) -> None:
        head = b""
        is_mute = False
        if self.fault.reads_requests:
            head = await reader.readuntil(b"\r\n\r\n")
            if self.fault.is_for(head):
                if self.fault.endless:
                    await _answer_endlessly(head, writer, self.fault.endless == "gzip")
                    return
                if self.fault.dripping is not None:
                    await _send_for_ever(writer, *self.fault.dripping)
                if self.fault.status is not None:
                    await self._answer(reader, writer)
                    return
                is_mute = True
            head = _for_one_request(head)
        upstream, to_upstream = await asyncio.open_connection(HOST, self.server.port)
        writers.append(to_upstream)
        to_upstream.write(head)
        back = _lose(upstream) if is_mute else _copy(upstream, writer)
        # One of them ending means nothing yet: the other half of the connection may live on.
        both = asyncio.gather(back, self._copy_slowly(reader, to_upstream))
        try:
            await both
        finally:
            both.cancel()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {self.fault.status} Fault of the lab", "Connection: close"]
        lines += self.fault.headers
        if not any(line.startswith("Content-Length:") for line in lines):
            lines.append("Content-Length: 0")
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        writer.write_eof()
        # Closing at once would reset the connection and with it the answer.
        while data := await reader.read(_BLOCK_BYTES):
            self.received_bytes += len(data)

    async def _copy_slowly(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        fault, passed, step = self.fault, 0, _BLOCK_BYTES
        if fault.bytes_per_second:
            step = max(1, fault.bytes_per_second // _TURNS_PER_SECOND)
        limit = fault.hang_after if fault.cut_after is None else fault.cut_after
        while limit is None or passed < limit:
            data = await reader.read(step if limit is None else min(step, limit - passed))
            if not data:
                writer.write_eof()
                return
            passed += len(data)
            self.received_bytes += len(data)
            writer.write(data)
            await writer.drain()
            if fault.bytes_per_second:
                await asyncio.sleep(len(data) / fault.bytes_per_second)
        if fault.cut_after is not None:
            raise ConnectionResetError("cut by the lab")
        await asyncio.Event().wait()


class FaultyTarget(FaultyProxy):
    """A web server that is reached only through a proxy; started and stopped with it."""

    server: WebServer

    def __init__(self, server: WebServer) -> None:
        super().__init__(server)

    @property
    def root(self) -> Path:
        return self.server.root

    def requests(self) -> list[Request]:
        """What reached the server."""
        return self.server.requests()

    def start(self) -> Self:
        self.server.start()
        return super().start()

    def stop(self) -> None:
        super().stop()
        self.server.stop()


async def _answer_endlessly(head: bytes, writer: asyncio.StreamWriter, as_gzip: bool) -> None:
    """A listing to who asks for one, zeros to everybody else, until the client leaves."""
    is_listing = head.startswith(b"PROPFIND")
    lines = [b"HTTP/1.1 207 Multi-Status" if is_listing else b"HTTP/1.1 200 OK"]
    lines += [b"Connection: close", b"Content-Type: application/xml"]
    lines += [b"Content-Encoding: gzip"] if as_gzip else []
    writer.write(b"".join(line + b"\r\n" for line in (*lines, b"")))
    packer = zlib.compressobj(wbits=31)
    piece = _LISTING if is_listing else b""
    while True:
        piece += _ENTRIES * 16 if is_listing else bytes(_ENDLESS_BYTES)
        if as_gzip:
            piece = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
        writer.write(piece)
        await writer.drain()
        # What was packed fills no buffer, so that nobody else would ever have a turn.
        await asyncio.sleep(_ENDLESS_PAUSE_SECONDS)
        piece = b""


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_BLOCK_BYTES):
        writer.write(data)
        await writer.drain()
    # Not all of the connection: lingering close is the client's and the server's own affair.
    with contextlib.suppress(OSError):
        writer.write_eof()


async def _send_for_ever(writer: asyncio.StreamWriter, count: int, seconds: float) -> None:
    """Answer with a body that ends only with the connection."""
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(bytes(count))
        await writer.drain()
        await asyncio.sleep(seconds)


async def _lose(reader: asyncio.StreamReader) -> None:
    """Read what the server answers, and let the client wait for it until it gives up."""
    while await reader.read(_BLOCK_BYTES):
        pass
    await asyncio.Event().wait()


def _for_one_request(head: bytes) -> bytes:
    """The same request on a connection that ends with it, so that the next one is looked at."""
    first, _, rest = head.partition(b"\r\n")
    lines = [line for line in rest.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join((first, b"Connection: close", *lines))


def _body_bytes(head: bytes) -> int:
    """The announced length of the body; that of a chunked one is taken for endless."""
    names = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        names[name.strip().lower()] = value.strip()
    if b"transfer-encoding" in names:
        return 1 << 62
    return int(names.get(b"content-length", b"0"))


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
