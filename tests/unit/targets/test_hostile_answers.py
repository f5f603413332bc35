# SPDX-License-Identifier: Apache-2.0
"""Answers that have no end, no sense, or no manners end with one short error of ours."""

import gzip
import random
import re
import time
import tracemalloc

import pytest

from glance_repl_mw.exceptions import (
    ReplicaMissing,
    ReplicationError,
    TargetError,
    TargetRefused,
    TargetUnavailable,
)
from tests.lab.targets import http_target
from tests.unit.targets.rawweb import raw_server

MIB = 1024**2
ESCAPES = "\x1b[31mred\x1b[0m\x07 \x9b2J"


@pytest.fixture
def raw():
    with raw_server() as server:
        yield server


@pytest.fixture
def target(raw):
    target = http_target(
        raw.url, connect_timeout_seconds=2, stall_timeout_seconds=0.5, publish="direct"
    )
    yield target
    raw.released.set()
    target.close()


@pytest.fixture
def calls(target, put):
    """Every method that asks the server, by its name."""
    return {
        "put": lambda: put(target),
        "stat": lambda: target.stat("object"),
        "open": lambda: list(target.open("object")),
        "delete": lambda: target.delete("object"),
        "list": lambda: list(target.list()),
        "probe": lambda: target.probe("object"),
        "check": lambda: target.check(),
    }


METHODS = ["put", "stat", "open", "delete", "list", "probe", "check"]


def assert_clean(error):
    """One line without what a terminal would obey, or what only a programmer understands."""
    text = str(error)
    assert text.isprintable()
    assert len(text) < 1000
    assert not re.search(r"object at 0x|\b[A-Z]\w*(Connection|Pool|Error)\(|Traceback", text), text


def fails(call, kind=TargetError, match=None, seconds=10):
    begin = time.monotonic()
    with pytest.raises(kind, match=match) as caught:
        call()
    assert time.monotonic() - begin < seconds
    assert_clean(caught.value)
    return caught.value


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", ["403 No", "503 Down", "302 Elsewhere", "200 OK"])
@pytest.mark.parametrize("kind", ["text/plain", "text/html", "application/xml"])
def test_body_without_an_end(raw, calls, method, status, kind):
    """Also of a redirect, which requests would read to its end."""

    def serve(connection):
        connection.read_body()
        where = f"Location: {raw.url}elsewhere\r\n" if status.startswith("302") else ""
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{where}\r\n"
        connection.send(head.encode())
        if connection.method != "HEAD":
            connection.endlessly(b"<i>x</i>" * 8192)
        return False

    raw.serve = serve
    if status.startswith("200") and method == "open":
        blocks = calls["open"].__closure__[0].cell_contents.open("object")
        assert next(blocks).startswith(b"<i>x</i>")
        blocks.close()
        return
    tracemalloc.start()
    try:
        begin = time.monotonic()
        try:
            calls[method]()
        except TargetError as error:
            assert_clean(error)
        assert time.monotonic() - begin < 20
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", ["stat", "delete", "list", "probe", "open"])
def test_error_that_drips(raw, calls, method):
    def serve(connection):
        connection.send(b"HTTP/1.1 503 Down\r\nContent-Type: text/plain\r\n\r\n")
        connection.endlessly(b"x", 0.05)

    raw.serve = serve
    fails(calls[method], TargetUnavailable, "503 Down", seconds=6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", [b"H", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n"])
def test_head_that_drips(raw, calls, method, head):
    """Each byte comes within the timeout, and there is no end of them."""

    def serve(connection):
        connection.read_body()
        connection.send(head)
        connection.endlessly(b"X: y\r\n" if head.endswith(b"\n") else b"x", 0.05)

    raw.serve = serve
    fails(calls[method], TargetUnavailable, "no answer for 0.[25]+ s|more than 100 headers", 12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"HTTP/1.1 200 " + b"x" * 100_000, "got more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "got more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "got more than 100 headers"),
        (b"\x16\x03\x01 what\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 99 Low\r\n\r\n", "not HTTP"),
        (b"HTTP/9.9 200 OK\r\n\r\n", "HTTP/9.9"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "another protocol"),
        (b"\r\n\r\n", "not HTTP"),
        (b"", "without an answer"),
    ],
)
def test_head_that_is_none(raw, calls, method, answer, match):
    def serve(connection):
        connection.read_body()
        connection.send(answer)
        return False

    raw.serve = serve
    fails(calls[method], TargetUnavailable, match)


def test_headers_that_cannot_be_read_are_not_logged(raw, target, caplog):
    raw.serve = lambda connection: connection.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nbroken\x1b[31m line\r\nX: y\r\n\r\n"
    )
    assert target.stat("object").size == 3
    assert not caplog.records


@pytest.mark.parametrize(
    ("size", "lines", "kind", "match"),
    [
        ("9" * 5000, "", TargetUnavailable, "does not tell the size"),
        ("-5", "", TargetUnavailable, "does not tell the size"),
        ("1_0", "", TargetUnavailable, "does not tell the size"),
        ("\xb2", "", TargetUnavailable, "does not tell the size"),
        ("3, 4", "", TargetUnavailable, None),
        ("", f"Content-Range: bytes 0-0/{'9' * 5000}", TargetUnavailable, "does not tell"),
        ("", "Content-Range: bytes 0-0/\xb2", TargetUnavailable, "does not tell"),
        ("", "Content-Range: ///", TargetUnavailable, "does not tell"),
    ],
)
def test_size_that_is_none(raw, target, size, lines, kind, match):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n{lines}\r\n\r\n".encode("latin-1")
    if not size:
        head = f"HTTP/1.1 206 Part\r\n{lines}\r\nConnection: close\r\n\r\n".encode("latin-1")

    def serve(connection):
        if connection.method == "HEAD" and not size:
            connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        else:
            connection.send(head)
        return False

    raw.serve = serve
    fails(lambda: target.stat("object"), kind, match)


@pytest.mark.parametrize("md5", ["\xe9\xe9\xe9\xe9", "9" * 60_000, "====", "\x00"])
def test_digest_that_is_none(raw, target, md5):
    raw.serve = lambda connection: connection.send(
        f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-MD5: {md5}\r\n\r\n".encode("latin-1")
    )
    assert target.stat("object").checksum is None


@pytest.mark.parametrize(
    "body",
    [
        b"-5\r\nabcde\r\n0\r\n\r\n",
        b"zz\r\nabc\r\n",
        b"f" * 5000 + b"\r\nabc",
        b"5\r\nabc",
        b"0\r\n" + b"X: y\r\n" * 100_000,
        b"0\r\n" + b"X" * 100_000,
        b"5;" + b"x" * 100_000,
        b"",
    ],
    ids=range(8),
)
@pytest.mark.parametrize("method", ["open", "list", "stat", "delete", "probe"])
def test_chunks_that_are_none(raw, calls, method, body):
    def serve(connection):
        status = "207 Multi" if connection.method == "PROPFIND" else "200 OK"
        connection.send(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        connection.send(body)
        return False

    raw.serve = serve
    try:
        calls[method]()
    except TargetError as error:
        assert_clean(error)
    else:
        assert method not in ("open", "list")


def test_trailers_without_an_end(raw, target):
    def serve(connection):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n")
        connection.endlessly(b"X: y\r\n" * 100)

    raw.serve = serve
    fails(lambda: list(target.open("object")), TargetUnavailable, "more than 100 trailers")


def test_chunk_that_drips_does_not_hold_the_reader(raw, target):
    """Its extension comes one byte at a time, so that no byte of the object ever comes."""

    def serve(connection):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;")
        connection.endlessly(b"x", 0.05)

    raw.serve = serve
    fails(lambda: list(target.open("object")), TargetUnavailable, "no answer for 0.5 s", seconds=3)


def test_blocks_that_drip_come_as_they_are(raw, target):
    """So that who reads them can tell that they are too few."""

    def serve(connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        connection.endlessly(b"x", 0.05)

    raw.serve = serve
    blocks = target.open("object")
    begin = time.monotonic()
    assert 1 <= len(next(blocks)) < 100
    assert time.monotonic() - begin < 5
    blocks.close()


BOMB = gzip.compress(bytes(256 * MIB), 9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", ["200 OK", "207 Multi", "403 No", "503 Down"])
def test_gzip_bomb(raw, calls, method, status):
    def serve(connection):
        connection.read_body()
        connection.answer(status, "Content-Encoding: gzip", "Content-Type: text/html", body=BOMB)

    raw.serve = serve
    tracemalloc.start()
    try:
        try:
            calls[method]()
        except TargetError as error:
            assert_clean(error)
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


def test_reason_and_page_are_made_fit_for_a_terminal(raw, target):
    page = f"<title>It&#x27;s {ESCAPES}\r\n\u202e full</title><h1>long</h1>".encode()
    raw.serve = lambda connection: connection.answer(
        f"403 {ESCAPES}", "Content-Type: text/html; charset=utf-8", body=page
    )
    error = fails(lambda: target.delete("object"), TargetRefused)
    assert error.hint.endswith(": 403 red: It's red full")


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("<html><title>401 Unauthorized</title><h1>401 Unauthorized</h1>nginx</html>", ""),
        ("<style>p{}</style>;", ""),
        ("\r\n", ""),
        ("no such user", ": no such user"),
    ],
)
def test_page_says_something_new_or_nothing(raw, target, page, told):
    raw.serve = lambda connection: connection.answer(
        "401 Unauthorized", "Content-Type: text/html", body=page.encode()
    )
    error = fails(lambda: target.delete("object"), TargetRefused)
    assert error.hint.endswith(f": 401 Unauthorized{told}")


def test_too_large_body_names_the_remedy_once(raw, calls):
    page = b"<html><title>413 Request Entity Too Large</title>nginx</html>"

    def serve(connection):
        connection.read_body(0)
        connection.answer(
            "413 Request Entity Too Large",
            "Content-Type: text/html",
            "Connection: close",
            body=page,
        )
        return False

    raw.serve = serve
    error = fails(calls["put"], TargetRefused, r"413 Request Entity Too Large; .*client_max_body")
    assert error.hint.count("413") == 1
    assert error.hint.count("413 Request") == 1


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
        "9" * 5000,
        "1e400",
        "inf",
        "nan",
        "-1",
        "\xb2",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Sat, 01 Jan 0000 00:00:00 GMT",
        "Mon, 99 Jan 2024 99:99:99 GMT",
        ", , , ,",
        "x" * 60_000,
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_mad_retry_after(raw, calls, method, value):
    def serve(connection):
        connection.read_body()
        connection.answer("503 Down", f"Retry-After: {value}")

    raw.serve = serve
    error = fails(calls[method], TargetUnavailable, "503 Down")
    assert 0 <= error.retry_after_seconds <= 24 * 3600


def test_every_method_is_bordered(raw, calls, target, monkeypatch):
    """Whatever a library raises is an error of the target."""
    for error in (
        RecursionError("deep"),
        OverflowError("large"),
        UnicodeError("label too long"),
        OSError("Could not find a suitable TLS CA certificate bundle"),
        ValueError(),
        KeyError("x"),
        AssertionError(),
    ):

        def send(*_arguments, error=error, **_options):
            raise error

        monkeypatch.setattr(target._client, "_send", send)
        for method in METHODS:
            caught = fails(calls[method], TargetUnavailable)
            assert caught.target == "site"
            assert caught.hint


def test_what_the_reader_raises_by_its_contract_passes(raw, target):
    class Gone:
        offset = 0

        def fileno(self):
            raise FileNotFoundError("the spool file is gone")

    raw.serve = lambda connection: connection.answer("204 Done")
    target._publish_mode = lambda: "direct"
    with pytest.raises(FileNotFoundError):
        target._upload = lambda *_: Gone().fileno()
        target.put("object", Gone(), 3)


def test_nonsense_in_great_variety(raw, calls, target):
    """Whatever comes, each method returns or raises an error of ours, and soon."""
    random.seed(20240117)
    pieces = [
        b"HTTP/1.1 ", b"200", b"100", b"103", b"207", b"302", b"503", b" OK", b"\r\n", b"\r\n\r\n",
        b"Content-Length: ", b"Transfer-Encoding: chunked", b"Location: http://[", b"5", b"-1",
        b"Content-Encoding: gzip", b"Retry-After: ", b"99999999999999999999", b"\x00", b"\xff\xfe",
        b"Content-Type: text/html; charset=\x1b", b"Set-Cookie: a=\r\n b", b"<d:multistatus>",
        b"[", b"[{", b"<?xml version='1.0' encoding='x'?>", b"Connection: close", b": ", b" ",
        b"\x1b[0m", b"Content-MD5: ", b"Content-Range: bytes */", b"WWW-Authenticate: Basic \xe9",
    ]  # fmt: skip
    answers = []

    def serve(connection):
        connection.read_body()
        connection.send(answers[-1])
        return False

    raw.serve = serve
    for number in range(150):
        start = [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 207 M\r\n\r\n", b""][number % 3]
        answers.append(start + b"".join(random.choices(pieces, k=random.randrange(20))))
        for method in METHODS:
            begin = time.monotonic()
            try:
                calls[method]()
            except ReplicationError as error:
                assert_clean(error)
            assert time.monotonic() - begin < 20, answers[-1]


def test_missing_is_missing(raw, target):
    raw.serve = lambda connection: connection.answer("404 \x1b[31mNot here")
    error = fails(lambda: target.open("object"), ReplicaMissing)
    assert error.hint.endswith("404 Not here")


@pytest.mark.parametrize(
    ("begin", "match"),
    [
        (b"", "no answer for 1 s"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "no answer for 1 s"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "only 3 bytes within 1 s"),
        (b"HTTP/1.1 503 Down\r\nContent-Type: text/plain\r\n\r\nbusy", "503 Down: busy"),
        (b"HTTP/1.1 404 No\r\nContent-Type: text/plain\r\n\r\n", "no answer for 1 s"),
    ],
)
def test_read_of_a_small_object_ends_in_time(raw, begin, match):
    """However long the server may be silent elsewhere, and wherever it falls silent."""

    def serve(connection):
        connection.send(begin)
        raw.released.wait(30)
        return False

    raw.serve = serve
    target = http_target(raw.url, stall_timeout_seconds=3600)
    try:
        fails(lambda: target.read("object", 100, 1), TargetUnavailable, match, seconds=5)
    finally:
        raw.released.set()
        target.close()


@pytest.mark.parametrize(("size", "read"), [(2, b"ab"), (3, b"abc"), (100, b"abc")])
def test_beginning_of_a_small_object(raw, target, size, read):
    raw.serve = lambda connection: connection.answer("200 OK", body=b"abc")
    assert target.read("object", size, 5) == read
