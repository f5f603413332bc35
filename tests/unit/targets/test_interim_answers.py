# SPDX-License-Identifier: Apache-2.0
"""Interim answers (100 unasked, 102, 103) are skipped, whenever they come."""

import ssl
import time

import pytest

from glance_repl_mw.connections import interim_bytes
from glance_repl_mw.exceptions import TargetUnavailable
from tests.lab.certificates import Authority
from tests.lab.targets import http_target
from tests.unit.targets.rawweb import raw_server

MIB = 1024**2
SIZE = 8 * MIB
INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\n",
    "bare": b"HTTP/1.0 199\n\n",
}


@pytest.fixture(params=["plain", "tls"])
def raw(request, tmp_path):
    context = None
    if request.param == "tls":
        authority = Authority(tmp_path)
        server = authority.server()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.certificate, server.key)
    with raw_server(context) as server:
        server.ca_file = str(authority.ca_file) if context else None
        yield server


@pytest.fixture
def target(raw):
    target = http_target(
        raw.url,
        connect_timeout_seconds=5,
        stall_timeout_seconds=2,
        publish="direct",
        ca_file=raw.ca_file,
    )
    yield target
    raw.released.set()
    target.close()


class Store:
    """Serves objects, with `before` each answer, `first` before each body, `between` its parts."""

    def __init__(self, before=b"", first=b"", between=b""):
        self.before, self.first, self.between = before, first, between
        self.sizes = {}

    def __call__(self, connection):
        name = connection.head.split(b" ")[1].rpartition(b"/")[2]
        if connection.method == "PUT":
            self.take(connection, name)
        else:
            self.give(connection, name)

    def take(self, connection, name):
        left = int(connection.header("Content-Length"))
        size = 0
        if self.first:
            connection.send(self.first)
        while size < left:
            more = connection.read_body(min(MIB, left - size))
            if not more:
                return
            size += more
            if self.between:
                connection.send(self.between)
        self.sizes[name] = size
        connection.send(self.before)
        connection.answer("201 Created")

    def give(self, connection, name):
        connection.send(self.before)
        if connection.method == "DELETE":
            connection.answer("204 Gone" if self.sizes.pop(name, None) else "404 Not")
        elif name in self.sizes:
            connection.answer("200 OK", body=bytes(self.sizes[name]))
        else:
            connection.answer("404 Not")


@pytest.mark.parametrize("interim", INTERIM)
@pytest.mark.parametrize("where", ["before", "first", "between"])
def test_object_arrives(raw, target, put, interim, where):
    raw.serve = store = Store(**{where: INTERIM[interim] * 2})
    assert put(target, bytes(SIZE)).size == SIZE
    assert store.sizes == {b"object": SIZE}
    assert target.stat("object").size == SIZE
    assert sum(map(len, target.open("object"))) == SIZE
    target.probe("object")
    target.delete("object")
    assert target.stat("object") is None
    # Kept connections were kept in spite of them.
    assert len(raw.heads) >= 5


def test_part_of_an_interim_answer_does_not_stop_the_body(raw, target, put):
    """Its end comes only with the last byte of the body."""

    class Late(Store):
        def take(self, connection, name):
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>")
            size = connection.read_body()
            connection.send(b"\r\n\r\n")
            self.sizes[name] = size
            connection.answer("201 Created")

    raw.serve = Late()
    assert put(target, bytes(SIZE)).size == SIZE


@pytest.mark.parametrize("status", ["101 Switching Protocols", "507 Full", "201 Created"])
def test_what_is_no_interim_answer_ends_the_body(raw, target, put, status):
    def serve(connection):
        if connection.method == "PUT":
            connection.send(INTERIM["102"])
            connection.answer(status)
            return connection.server.released.wait(10) and False
        connection.answer("404 Not")
        return None

    raw.serve = serve
    begin = time.monotonic()
    with pytest.raises(TargetUnavailable):
        put(target, bytes(64 * MIB))
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("method", ["stat", "put"])
def test_interim_answers_have_an_end(raw, target, put, method, monkeypatch):
    monkeypatch.setattr("glance_repl_mw.connections.MOST_INTERIM_ANSWERS", 50)

    def serve(connection):
        connection.endlessly(INTERIM["102"])
        return False

    raw.serve = serve
    with pytest.raises(TargetUnavailable, match="more than 50 interim answers"):
        if method == "stat":
            target.stat("object")
        else:
            put(target, bytes(SIZE))


def test_interim_answers_put_the_end_off_only_for_some_time(raw, target):
    def serve(connection):
        connection.endlessly(INTERIM["102"], 0.2)
        return False

    raw.serve = serve
    target._collection._client._access.__dict__["stall_seconds"] = 0.3
    begin = time.monotonic()
    with pytest.raises(TargetUnavailable, match="no answer"):
        target.stat("object")
    assert 1 < time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", None),
        (b"H", 0),
        (b"HTTP/1.1 ", 0),
        (b"HTTP/1.1 1", 0),
        (b"HTTP/1.1 10", 0),
        (b"HTTP/1.1 102", 0),
        (b"HTTP/1.1 102 P\r\n", 0),
        (b"HTTP/1.1 102 P\r\n\r\nHTTP", 18),
        (b"HTTP/1.1 102\n\nHTTP", 14),
        (b"HTTP/1.1 2", None),
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"HTTP/1.1 101 Switching\r\n\r\n", None),
        (b"HTTP/2.0 102 P\r\n\r\n", None),
        (b"HTTP/1.1 1023 P\r\n\r\n", None),
        (b"x", None),
        (b"HTTX", None),
        (b"\xff" * 100, None),
    ],
)
def test_interim_bytes(data, count):
    assert interim_bytes(data) == count
