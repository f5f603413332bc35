# SPDX-License-Identifier: Apache-2.0
"""What operators read when Glance or Keystone does not answer: words, and no Python classes."""

import re
import socket
import ssl

import pytest

from glance_repl_mw import exceptions
from tests.lab.certificates import Authority
from tests.unit.glance_lab import IMAGE, keystone_of, service_of
from tests.unit.targets.rawweb import raw_server

CLASSES = re.compile(r"Pool|Error|Exception|Retries|Retry|object|0x|NoneType|Connection\(|http\.c")
PATH = f"v2/images/{IMAGE}"


@pytest.fixture
def raw():
    with raw_server() as server:
        yield server


@pytest.fixture
def nowhere():
    """A URL at whose port nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}/"


def hint_of(call, *arguments):
    with pytest.raises(exceptions.GlanceUnavailable) as caught:
        call(*arguments)
    assert not CLASSES.search(str(caught.value)), caught.value
    return caught.value.hint


def test_connection_is_refused(nowhere, tmp_path):
    service = service_of(tmp_path, endpoint_override=nowhere)
    host = nowhere.split("/")[2]
    expected = f"GET {nowhere}{PATH}: no connection to {host}: Connection refused"
    assert hint_of(service.get, IMAGE) == expected


def test_query_is_not_repeated(nowhere, tmp_path):
    service = service_of(tmp_path, endpoint_override=nowhere)
    assert hint_of(service.find, [IMAGE] * 9).startswith(f"GET {nowhere}v2/images: no connection")


def test_host_does_not_resolve(tmp_path):
    service = service_of(tmp_path, endpoint_override="http://user:secret@glance.invalid:9292/")
    hint = hint_of(service.get, IMAGE)
    assert "the host name glance.invalid:9292 does not resolve" in hint
    assert "secret" not in hint


@pytest.mark.parametrize("plugin", ["v3password", "password"])
def test_keystone_is_named_where_it_is_the_one(nowhere, tmp_path, plugin):
    service = service_of(tmp_path, **keystone_of(nowhere) | {"auth_type": plugin})
    hint = hint_of(service.authenticate)
    assert re.fullmatch(f"(GET|POST) {nowhere}.*: no connection to .*: Connection refused", hint)


def test_certificate_is_not_accepted(tmp_path):
    server = Authority(tmp_path).server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    with raw_server(context) as raw:
        hint = hint_of(service_of(tmp_path, endpoint_override=raw.url).get, IMAGE)
    assert "the server's certificate is not accepted" in hint
    assert hint.endswith("(cafile?)")


JSON, DATA = "Content-Type: application/json", "Content-Type: application/octet-stream"
ANSWERS = {
    "none": (lambda it: False, "the server closed the connection without an answer"),
    "no HTTP": (lambda it: it.send(b"SSH-2.0-OpenSSH\r\n") or False, "the answer is not HTTP"),
    "broken off": (
        lambda it: it.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{") or False,
        "the answer broke off before its end",
    ),
    "no JSON": (lambda it: it.answer("200 OK", JSON, body=b"<html>"), "Expecting value: line 1"),
    "no type": (lambda it: it.answer("503 No", body=b"no"), "the answer cannot be understood"),
    "status alone": (lambda it: it.answer("503 No"), "HTTP 503 Service Unavailable"),
    "odd status alone": (lambda it: it.answer("599 No"), "an error and does not say which"),
    "too deep": (
        lambda it: it.answer("200 OK", JSON, body=b"[" * 100_000),
        "the answer cannot be understood",
    ),
}


@pytest.mark.parametrize(("serve", "words"), ANSWERS.values(), ids=ANSWERS)
def test_answer_that_is_none(raw, tmp_path, serve, words):
    raw.serve = serve
    assert words in hint_of(service_of(tmp_path, endpoint_override=raw.url).get, IMAGE)


def test_silence(raw, tmp_path):
    raw.serve = lambda it: raw.released.wait(60) and False
    service = service_of(tmp_path, endpoint_override=raw.url, timeout=1)
    assert hint_of(service.get, IMAGE) == f"GET {raw.url}{PATH}: no answer for 1 s"


def test_download_that_breaks_off(raw, tmp_path):
    head = f"HTTP/1.1 200 OK\r\n{DATA}\r\nContent-Length: 9\r\n\r\n".encode()
    raw.serve = lambda it: it.send(head + b"little") or False
    blocks = service_of(tmp_path, endpoint_override=raw.url).download(IMAGE)
    assert hint_of(list, blocks) == "the answer broke off before its end"


def test_word_of_glance_stays(raw, tmp_path):
    raw.serve = lambda it: it.answer("503 Full", "Content-Type: text/plain", body=b"disk is full")
    assert "disk is full" in hint_of(service_of(tmp_path, endpoint_override=raw.url).get, IMAGE)
