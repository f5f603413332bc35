# SPDX-License-Identifier: Apache-2.0
"""Answers of Glance and Keystone end in time, whoever sends one byte after the other."""

import json
import ssl
import time

import pytest

from glance_repl_mw import bounded, exceptions
from tests.lab.certificates import Authority
from tests.unit.glance_lab import IMAGE, RECORD, keystone_of, service_of
from tests.unit.targets.rawweb import raw_server

TIMEOUT = 1
MOST = 1.5
BETWEEN = 0.1
MUCH_TOO_LONG = 20
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"Content-Type: application/json\r\n"
DATA = OK + b"Content-Type: application/octet-stream\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(bounded, "MOST_SECONDS", MOST)


@pytest.fixture
def raw():
    with raw_server() as server:
        yield server


@pytest.fixture
def service(raw, tmp_path):
    return service_of(tmp_path, endpoint_override=raw.url, timeout=TIMEOUT)


def drips(beginning, data=b"x", seconds=BETWEEN):
    """A server that sends the beginning at once and the rest byte by byte, for much too long."""

    def serve(connection):
        connection.send(beginning)
        end = time.monotonic() + MUCH_TOO_LONG
        while time.monotonic() < end and not connection.server.released.wait(seconds):
            connection.send(data)
        return False

    return serve


def seconds_of(call):
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def fails(match, call):
    """See that the call ends with this in time."""

    def failing():
        with pytest.raises(exceptions.GlanceUnavailable, match=match):
            call()

    seconds = seconds_of(failing)
    assert seconds < MUCH_TOO_LONG
    return seconds


HEADS = {
    "nothing": b"",
    "status": b"HTTP/1.1 2",
    "header": OK + b"X-Header: ",
    "interim": b"HTTP/1.1 100 Continue\r\nX-Header: ",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_head_comes_within_the_timeout(raw, service, head):
    raw.serve = drips(head)
    seconds = fails("no answer for 1 s", lambda: service.get(IMAGE))
    assert seconds >= TIMEOUT * 0.9


BODIES = {
    "length": JSON + b"Content-Length: 1000000\r\n\r\n",
    "until the end": JSON + b"Connection: close\r\n\r\n",
    "size of a chunk": JSON + CHUNKED,
    "extension of a chunk": JSON + CHUNKED + b"1;",
    "chunk": JSON + CHUNKED + b"fffff\r\n",
    "trailers": JSON + CHUNKED + b"1\r\n{\r\n0\r\n",
    "refusal": JSON.replace(b"200 OK", b"503 No") + b"Content-Length: 1000000\r\n\r\n",
    "refusal of data": DATA.replace(b"200 OK", b"503 No") + b"Content-Length: 1000000\r\n\r\n",
    "redirect": JSON.replace(b"200 OK", b"302 Found")
    + b"Location: /x\r\nContent-Length: 99\r\n\r\n",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_body_comes_within_its_time(raw, service, body):
    raw.serve = drips(body, b"1")
    seconds = fails("the answer takes more than 1.5 s", lambda: service.get(IMAGE))
    assert seconds >= MOST * 0.9


def test_silence_in_a_body_ends_with_the_timeout(raw, service):
    raw.serve = drips(BODIES["length"], b"", 60)
    fails("no answer for 1 s", lambda: service.get(IMAGE))


def test_answer_has_its_own_time_on_a_kept_connection(raw, service):
    def serve(connection):
        time.sleep(0.3 * TIMEOUT)
        connection.answer("200 OK", "Content-Type: application/json", body=RECORD)

    raw.serve = serve
    for _ in range(4):
        assert service.get(IMAGE).image_id == IMAGE
    assert len(raw._threads) == 1, "one connection for all"


# Data of images


def test_data_may_take_any_time(raw, service):
    def serve(connection):
        connection.send(DATA + b"Content-Length: 40\r\n\r\n")
        for _ in range(40):
            connection.send(b"x")
            time.sleep(2 * MOST / 40)

    raw.serve = serve
    begin = time.monotonic()
    assert b"".join(service.download(IMAGE)) == b"x" * 40
    assert time.monotonic() - begin > MOST


@pytest.mark.parametrize("rest", [b"", b"1;", b"1\r\nx\r\n"], ids=["size", "extension", "second"])
def test_part_of_the_data_comes_within_the_timeout(raw, service, rest):
    raw.serve = drips(DATA + CHUNKED + rest, b"0")
    fails("no answer for 1 s", lambda: list(service.download(IMAGE)))


def test_head_of_the_data_comes_within_the_timeout(raw, service):
    raw.serve = drips(DATA)
    fails("no answer for 1 s", lambda: list(service.download(IMAGE)))


# Keystone, TLS, and proxies

HEAD, BODY = (HEADS["header"], "no answer for 1 s"), (BODIES["chunk"], "takes more than 1.5 s")


@pytest.mark.parametrize(("answer", "match"), [HEAD, BODY])
def test_keystone_is_bounded_too(raw, tmp_path, answer, match):
    service = service_of(tmp_path, timeout=TIMEOUT, **keystone_of(raw.url))
    raw.serve = drips(answer)
    fails(match, service.authenticate)


@pytest.mark.parametrize(("answer", "match"), [HEAD, BODY])
def test_answer_over_tls_is_bounded_too(tmp_path, answer, match):
    authority = Authority(tmp_path)
    server = authority.server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    options = {"timeout": TIMEOUT, "cafile": authority.ca_file}
    with raw_server(context) as raw:
        raw.serve = drips(answer)
        service = service_of(tmp_path, endpoint_override=raw.url, **options)
        fails(match, lambda: service.get(IMAGE))


@pytest.mark.parametrize(
    ("scheme", "answer", "match"), [("http", *HEAD), ("http", *BODY), ("https", *HEAD)]
)
def test_answer_through_a_proxy_is_bounded_too(raw, tmp_path, monkeypatch, scheme, answer, match):
    monkeypatch.setenv(f"{scheme}_proxy", raw.url)
    monkeypatch.setenv("no_proxy", "")
    url = f"{scheme}://glance.example:9292/"
    service = service_of(tmp_path, endpoint_override=url, timeout=TIMEOUT)
    raw.serve = drips(answer)
    fails(match, lambda: service.get(IMAGE))
    assert raw.heads


def test_token_whose_end_is_out_of_all_bounds(raw, tmp_path):
    token = {"token": {"methods": [], "expires_at": "0001-01-01T00:00:00+01:00"}}
    service = service_of(tmp_path, **keystone_of(raw.url))

    def serve(connection):
        connection.read_body()
        body = json.dumps(token).encode()
        head = ("Content-Type: application/json", "X-Subject-Token: x")
        connection.answer("201 Created", *head, body=body)

    raw.serve = serve
    service.authenticate()
    fails("the answer cannot be understood", service.authenticate)
