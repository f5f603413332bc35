# SPDX-License-Identifier: Apache-2.0
"""The HTTP driver against a server that fails in every way."""

import os
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from glance_repl_mw.exceptions import TargetRefused, TargetUnavailable, UploadCut
from tests.lab.body import Body

MIB = 1024**2
LARGE = 16 * MIB


def reset(handler):
    """Close the connection so that the client gets a reset."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()
    handler.close_connection = True


def wait(handler):
    handler.server.released.wait(30)
    handler.close_connection = True


def close(handler):
    handler.close_connection = True


def answer_early(status, content=b"", then=close):
    def fault(handler):
        handler.answer(status, content, Content_Type="text/plain")
        then(handler)

    return fault


def read_then(count, then):
    def fault(handler):
        handler.rfile.read(count)
        then(handler)

    return fault


@pytest.mark.parametrize("size", [-1, None], ids=["length", "chunked"])
@pytest.mark.parametrize("publish", ["auto", "direct"])
class TestPut:
    @pytest.fixture(autouse=True)
    def at_the_server(self, web, make_target, put, publish, size):
        self.web = web
        self.target = make_target(publish=publish)
        self.put = put
        self.size = size

    def check_refusal(self, kind, match, fault, content=bytes(LARGE), method="PUT"):
        self.web.faults[method] = fault
        with pytest.raises(kind, match=match) as caught:
            self.put(self.target, content, self.size)
        assert (caught.value.target, caught.value.operation) == ("site", "put")
        self.web.faults.clear()
        self.target.delete("object")
        assert not self.web.objects
        self.put(self.target, size=self.size)
        assert self.web.objects == {"object": b"abc"}

    def test_server_reads_and_never_answers(self):
        fault = read_then(3, wait)
        self.check_refusal(TargetUnavailable, "no answer for 0.5 s", fault, b"abc")

    def test_server_never_reads(self):
        self.check_refusal(TargetUnavailable, "no byte was accepted for 0.5 s", wait)

    def test_server_stops_reading(self):
        fault = read_then(2 * MIB, wait)
        self.check_refusal(TargetUnavailable, "no byte was accepted for 0.5 s", fault)

    @pytest.mark.parametrize("then", [close, wait])
    def test_full_server_answers_early(self, then):
        fault = answer_early(507, b"no room\r\nleft", then)
        self.check_refusal(TargetUnavailable, "PUT http.*: 507 .*: no room left", fault)

    @pytest.mark.parametrize("status", [401, 403, 413])
    def test_server_refuses_early(self, status):
        self.check_refusal(TargetRefused, f": {status} ", answer_early(status))

    def test_redirect_is_not_followed(self):
        def fault(handler):
            handler.body()
            handler.answer(307, Location=f"{handler.server.url}elsewhere")

        self.check_refusal(TargetRefused, ": 307 ", fault)
        assert ("PUT", "elsewhere") not in self.web.requests

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
    def test_server_fails(self, status):
        def fault(handler):
            handler.body()
            handler.answer(status)

        self.check_refusal(TargetUnavailable, f": {status} ", fault)

    def test_server_resets_at_once(self):
        self.check_refusal(TargetUnavailable, "(?i)reset|closed|aborted|pipe", reset)

    def test_server_resets_in_the_middle(self):
        fault = read_then(2 * MIB, reset)
        self.check_refusal(TargetUnavailable, "(?i)reset|closed|aborted|pipe", fault)

    def test_server_closes_without_an_answer(self):
        fault = read_then(3, close)
        self.check_refusal(TargetUnavailable, "(?i)closed|reset", fault, b"abc")

    def test_server_says_created_too_early(self):
        self.check_refusal(TargetUnavailable, "201 before the end", answer_early(201))

    def test_object_is_not_there_afterwards(self):
        fault = read_then(0, lambda handler: handler.answer(404))
        self.check_refusal(TargetUnavailable, "not there", fault, b"abc", method="HEAD")

    def test_object_has_another_size_afterwards(self):
        fault = read_then(0, lambda handler: handler.answer(200, b"ab"))
        self.check_refusal(TargetUnavailable, "2 bytes; 3 were", fault, b"abc", method="HEAD")

    def test_collection_has_gone(self):
        for status in (404, 409):
            self.check_refusal(TargetUnavailable, "collection has gone", answer_early(status))


@pytest.mark.parametrize("size", [-1, None], ids=["length", "chunked"])
def test_slow_server_is_waited_for_while_it_reads(web, make_target, put, size):
    """It takes much longer than the stall timeout, and the kernel holds most of the body."""

    def read_slowly(handler):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        read, original = handler.rfile.read, handler.rfile

        class Slow:
            readline = original.readline

            def read(self, count):
                parts = []
                while count and not handler.server.released.wait(0.02):
                    parts.append(read(min(count, 24 * 1024)))
                    count -= len(parts[-1])
                return b"".join(parts)

        handler.rfile = Slow()
        try:
            handler.put()
        finally:
            handler.rfile = original

    web.faults["PUT"] = read_slowly
    target = make_target(publish="direct", stall_timeout_seconds=0.4)
    assert put(target, bytes(4 * MIB), size).size == 4 * MIB


def test_reader_may_block_for_longer_than_the_stall_timeout(web, make_target, tmp_path):
    target = make_target(stall_timeout_seconds=0.1)
    body = Body(tmp_path / "body")
    with ThreadPoolExecutor() as pool, body.reader() as reader:
        putting = pool.submit(target.put, "object", reader, 2)
        for _ in range(2):
            reader.wait_for_offset(body.size)
            with pytest.raises(TimeoutError):
                putting.result(timeout=0.3)
            body.append(b"a")
        body.finish()
        assert putting.result().size == 2


def test_cut_upload_passes_unchanged(web, make_target, tmp_path):
    target = make_target()
    body = Body(tmp_path / "body")
    body.append(b"a")
    body.cut()
    with body.reader() as reader, pytest.raises(UploadCut, match="cut by the test"):
        target.put("object", reader, 2)
    assert not web.objects


def test_nothing_listens(make_target, put):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    target = make_target(f"http://127.0.0.1:{port}/")
    for call in (lambda: put(target), lambda: target.stat("x"), lambda: target.delete("x")):
        with pytest.raises(TargetUnavailable, match="refused"):
            call()


def test_host_is_unknown(make_target):
    with pytest.raises(TargetUnavailable, match="resolve"):
        make_target("http://host.invalid/").stat("x")


def test_server_without_tls_is_no_https_server(web, make_target):
    with pytest.raises(TargetUnavailable, match=r"(?i)ssl"):
        make_target(web.url.replace("http:", "https:")).stat("x")


def test_probe_is_made_once(web, make_target, put):
    target = make_target()
    for number in range(3):
        put(target, name=f"object-{number}")
    probes = [method for method, name in web.requests if "probe" in name]
    assert probes.count("PUT") == 1


def test_probe_is_shared_by_threads_also_when_it_fails(web, make_target, put, tmp_path):
    target = make_target(web.url)
    started, release = threading.Event(), threading.Event()
    original = target._probe.publish_mode

    def publish_mode(wanted):
        started.set()
        release.wait(10)
        return original(wanted)

    target._probe.publish_mode = publish_mode
    with ThreadPoolExecutor(8) as pool:
        modes = [pool.submit(target._publish_mode) for _ in range(8)]
        started.wait(10)
        release.set()
        assert {mode.result() for mode in modes} == {"move"}
    assert [method for method, name in web.requests if "probe" in name].count("PUT") == 1


@pytest.mark.parametrize("publish", ["auto", "direct"])
def test_kept_connection_that_the_server_closes(web, make_target, put, publish):
    """The server drops every second request on a connection without an answer."""
    served = set()

    def once(handler):
        if handler.connection in served:
            handler.close_connection = True
        else:
            served.add(handler.connection)
            handler.serve_well()

    target = make_target(publish=publish)
    put(target, name="first")
    web.faults.update(dict.fromkeys(("PUT", "HEAD", "GET", "MOVE", "DELETE"), once))
    for number in range(3):
        name = f"object-{number}"
        assert put(target, name=name).size == 3
        assert web.methods(f"{name}.partial" if publish == "auto" else name).count("PUT") == 1
        assert b"".join(target.open(name)) == b"abc"
        target.delete(name)


def test_size_is_asked_for_where_head_does_not_tell_it(web, make_target, put):
    def head(handler):
        handler.send_response(200)
        handler.end_headers()

    def get(handler):
        size = len(handler.server.objects[handler.name])
        handler.answer(206, b"a", Content_Range=f"bytes 0-0/{size}")

    web.faults.update(HEAD=head, GET=get)
    assert put(make_target()).size == 3
    web.faults["GET"] = lambda handler: handler.answer(206, b"a", Content_Range="bytes 0-0/*")
    with pytest.raises(TargetUnavailable, match="does not tell the size"):
        put(make_target())


@pytest.mark.parametrize(
    ("header", "checksum"),
    [
        ("kAFQmDzST7DWlj99KOF/cg==", "900150983cd24fb0d6963f7d28e17f72"),
        ("bm8=", None),
        ("?", None),
    ],
)
def test_checksum_is_that_of_content_md5(web, make_target, header, checksum):
    web.faults["HEAD"] = lambda handler: handler.answer(
        200, b"abc", Content_MD5=header, ETag='"0123456789abcdef0123456789abcdef"'
    )
    assert make_target().stat("object").checksum == checksum


def test_open_reports_an_end_that_comes_too_early(web, make_target):
    def get(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"abc")
        handler.close_connection = True

    web.faults["GET"] = get
    with pytest.raises(TargetUnavailable):
        list(make_target().open("object"))


def test_open_refuses_an_offset_that_the_server_ignores(web, make_target):
    web.objects["object"] = b"abc"
    with pytest.raises(TargetRefused, match=r"GET .*: 200 "):
        make_target().open("object", 1)


def test_secrets_in_answers_are_not_repeated(web, make_target):
    def echo(handler):
        text = f"{handler.headers['Authorization']} s3cret".encode()
        handler.answer(403, text, Content_Type="text/plain")

    web.faults["DELETE"] = echo
    target = make_target(username="bob", password="s3cret")
    with pytest.raises(TargetRefused, match=r"403 Forbidden: Basic \*\*\* \*\*\*") as caught:
        target.delete("object")
    assert "s3cret" not in repr(caught.value)


def test_credentials_go_to_no_other_origin(web, make_target):
    seen = []

    def get(handler):
        seen.append(handler.headers["Authorization"])
        handler.get()

    web.objects["object"] = b"abc"
    web.faults["GET"] = get
    other = web.url.replace("127.0.0.1", "localhost")
    for location_url in (web.url, other):
        target = make_target(token="t0ken", location_url=location_url)
        assert b"".join(target.open("object")) == b"abc"
    assert seen == ["Bearer t0ken", None]


def test_environment_is_not_asked(web, make_target, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert make_target().stat("object") is None


def test_cookies_are_not_kept(web, make_target):
    seen = []

    def head(handler):
        seen.append(handler.headers["Cookie"])
        handler.answer(404, Set_Cookie="a=b; Path=/")

    web.faults["HEAD"] = head
    target = make_target()
    target.stat("object")
    target.stat("object")
    assert seen == [None, None]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_names_stay_in_the_collection(web, make_target, name):
    with pytest.raises(ValueError, match="cannot be the name"):
        make_target().stat(name)
    assert not web.requests


def test_no_descriptor_is_left_open(web, make_target, put):
    target = make_target()
    put(target)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        put(target, name=f"object-{number}")
    assert len(os.listdir("/proc/self/fd")) <= before + 2
