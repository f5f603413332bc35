# SPDX-License-Identifier: Apache-2.0
"""Check, probe and read-back see what Glance's http store would see."""

import functools
import gzip
import time
import types

import pytest
import requests
from glance_store import exceptions as store_exceptions
from glance_store import location
from glance_store._drivers import http as glance_http
from oslo_config import cfg

from glance_repl_mw.exceptions import TargetError, TargetRefused, TargetUnavailable
from glance_repl_mw.targets import httpclient, httpprobe
from glance_repl_mw.targets.base import Remark
from tests.lab.process import wait_until
from tests.unit.targets.web import web_server

LARGE = 4 * 1024**2


@pytest.fixture
def make_target(make_target):
    """Targets that give a busy machine 2 s for each answer."""
    return functools.partial(make_target, stall_timeout_seconds=4)


@pytest.fixture
def reading(web):
    """Where Glance reads what is written to `web`."""
    with web_server() as server:
        server.objects = web.objects
        yield server


@pytest.fixture
def glance_size():
    """What Glance's http store says of the size of a location."""
    conf = cfg.ConfigOpts()
    conf.register_opts(glance_http.Store.OPTIONS, group="glance_store")
    conf([], default_config_files=[], default_config_dirs=[])
    store = glance_http.Store(conf)

    def size(url):
        where = location.Location("http", glance_http.StoreLocation, conf, uri=url)
        return store.get_size(where)

    return size


def redirecting(status, where):
    """A fault that sends who reads to another server, by 302 or so."""

    def fault(handler):
        handler.answer(status, b"moved", Location=where(handler))

    return fault


def faults_of(server, fault, methods=("GET", "HEAD")):
    server.faults.update(dict.fromkeys(methods, fault))
    server.faults_of_probes.update(dict.fromkeys(methods, fault))


@pytest.mark.parametrize("status", [301, 302])
def test_redirects_that_glance_follows(
    web, reading, make_target, glance_size, status, put, checked
):
    """To whole URLs of another server."""
    faults_of(reading, redirecting(status, lambda handler: f"{web.url}{handler.name}"))
    target = make_target(location_url=reading.url)
    put(target)
    assert glance_size(target._collection.location("object")) == 3
    assert list(target.check()) == checked
    target.probe("object")
    target.probe(None)
    assert b"".join(target.open("object")) == b"abc"
    assert b"".join(target.open("object", 0)) == b"abc"


@pytest.fixture
def checked(web):
    """What a check remarks that has found nothing wrong with a server which cannot list."""
    web.faults["PROPFIND"] = lambda handler: (handler.body(), handler.answer(405))
    needs = f"{web.url}: needs PROPFIND, or autoindex_format json of nginx"
    why = f"GET {web.url}: 404 Not Found"
    return [Remark(f"the server does not list its objects: {needs}: {why}")]


@pytest.mark.parametrize(
    ("status", "where", "match"),
    [
        (307, "{url}{name}", "Glance follows only 301 and 302"),
        (308, "{url}{name}", "Glance follows only 301 and 302"),
        (303, "{url}{name}", "Glance follows only 301 and 302"),
        (302, "/images/{name}", "Glance follows only whole URLs"),
        (302, "{name}", "Glance follows only whole URLs"),
        (302, "ftp://a.example/{name}", "Glance follows only whole URLs"),
        (302, "file:///etc/passwd", "Glance follows only whole URLs"),
        (302, "http://[", "no URL"),
        (302, "http://a.example/" + "x" * 10_000, "Glance follows only whole URLs"),
        (302, "{here}{name}", "more than 4 redirects"),
    ],
)
def test_redirects_that_glance_does_not_follow(
    web, reading, make_target, glance_size, status, where, match
):
    def elsewhere(handler):
        return where.format(url=web.url, here=reading.url, name=handler.name)

    web.objects["object"] = b"abc"
    faults_of(reading, redirecting(status, elsewhere))
    target = make_target(location_url=reading.url)
    for call in (lambda: target.probe("object"), target.check, lambda: target.open("object")):
        with pytest.raises(TargetRefused, match=match) as caught:
            call()
        assert len(str(caught.value)) < 700
    if "no URL" not in match and "x" * 100 not in where:
        with pytest.raises((store_exceptions.BadStoreUri, store_exceptions.MaxRedirectsExceeded)):
            glance_size(target._collection.location("object"))


@pytest.mark.parametrize("redirects", [1, 4, 5])
def test_glance_and_we_follow_as_many_redirects(web, reading, make_target, glance_size, redirects):
    web.objects["object"] = b"abc"

    def fault(handler):
        step = int(handler.path.partition("?step=")[2] or 0)
        there = f"{reading.url}{handler.name}?step={step + 1}"
        handler.answer(302, Location=there if step < redirects - 1 else f"{web.url}{handler.name}")

    faults_of(reading, fault)
    target = make_target(location_url=reading.url)
    url = target._collection.location("object")
    if redirects < 5:
        assert glance_size(url) == 3
        assert b"".join(target.open("object")) == b"abc"
    else:
        with pytest.raises(store_exceptions.MaxRedirectsExceeded):
            glance_size(url)
        with pytest.raises(TargetRefused, match="more than 4 redirects"):
            target.open("object")


def test_credentials_do_not_follow_to_another_origin(web, reading, make_target):
    seen = []

    def note(handler):
        seen.append(handler.headers["Authorization"])
        handler.serve_well()

    def send_on(handler):
        seen.append(handler.headers["Authorization"])
        handler.answer(302, Location=f"{reading.url}{handler.name}")

    web.objects["object"] = b"abc"
    web.faults["GET"], reading.faults["GET"] = send_on, note
    assert b"".join(make_target(token="t0ken").open("object")) == b"abc"
    assert seen == ["Bearer t0ken", None]


SIGNATURE = "X-Amz-Credential=AKIA&X-Amz-Signature=dead'beef"


def refuse(handler):
    page = f"<p>http://h{handler.path} is forbidden</p>".encode()
    handler.answer(403, page, Content_Type="text/html")


def break_off(handler):
    handler.answer(200, Content_Length="100")
    handler.close_connection = True


def compress(handler):
    handler.answer(200, b"packed", Content_Encoding="gzip")


def send_on(handler):
    handler.answer(307, Location=f"https://bucket/{handler.name}?{SIGNATURE}")


@pytest.mark.parametrize(
    "fault",
    [
        refuse,
        break_off,
        compress,
        send_on,
        lambda handler: handler.answer(302, Location=f"http://[?{SIGNATURE}"),
        lambda handler: handler.answer(302, Location=f"http://{'x' * 300}/?{SIGNATURE}"),
        lambda handler: handler.answer(302, Location=f"http://127.0.0.1:1/b?{SIGNATURE}"),
        lambda handler: handler.answer(302, Location=f"http://u:dead@127.0.0.1:1/b?{SIGNATURE}"),
        lambda handler: handler.server.released.wait(10),
    ],
)
def test_signature_of_another_server_is_not_shown(web, reading, make_target, caplog, fault):
    """Who has it may read, and log and status are read by others."""
    caplog.set_level("DEBUG", "glance_repl_mw")
    web.objects["object"] = b"abc"
    with web_server() as bucket:
        faults_of(bucket, fault)
        there = redirecting(302, lambda handler: f"{bucket.url}{handler.name}?{SIGNATURE}")
        faults_of(reading, there)
        target = make_target(location_url=reading.url)
        for call in (
            lambda: target.probe("object"),
            target.check,
            lambda: list(target.open("object")),
        ):
            with pytest.raises(TargetError) as caught:
                call()
            told = str(caught.value)
            assert "AKIA" not in told
            assert "dead" not in told
            assert "beef" not in told
        bucket.released.set()
    assert "AKIA" not in caplog.text


def compressing(head_tells):
    """A fault that gives what was asked for compressed; HEAD may hide it."""

    def fault(handler):
        content = handler.server.objects.get(handler.name)
        asked = handler.headers["Accept-Encoding"] or ""
        if (
            content is None
            or "gzip" not in asked
            or (handler.command == "HEAD" and head_tells == 0)
        ):
            handler.serve_well()
            return
        packed = gzip.compress(content)
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        if handler.command == "GET":
            handler.send_header("Content-Length", str(len(packed)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(packed)
        handler.close_connection = True

    return fault


@pytest.mark.parametrize("head_tells", [0, 1], ids=["HEAD keeps the length", "HEAD has none"])
@pytest.mark.parametrize("elsewhere", [0, 1], ids=["url", "location_url"])
def test_server_that_compresses(web, reading, make_target, put, head_tells, elsewhere):
    server = reading if elsewhere else web
    target = make_target(location_url=server.url)
    put(target)
    faults_of(server, compressing(head_tells))
    match = r"compresses what it sends \(Content-Encoding: gzip\).* switch compression off"
    for call in (
        lambda: target.probe("object"),
        target.check,
        lambda: list(target.open("object")),
    ):
        with pytest.raises(TargetRefused, match=match):
            call()
    # It is seen before any image is sent by the next process.
    with pytest.raises(TargetRefused, match=match):
        put(make_target(location_url=server.url), name="other")
    assert set(web.objects) == {"object"}


def test_size_is_what_glance_would_be_told(web, make_target, put, glance_size):
    target = make_target()
    put(target)
    faults_of(web, compressing(1))
    assert glance_size(target._collection.location("object")) == 0
    with pytest.raises(TargetRefused, match="compresses"):
        target.stat("object")


def test_what_is_read_is_never_unpacked(web, make_target):
    """Also where the server compresses although it was not asked to."""
    bomb = gzip.compress(bytes(1024**2))
    web.faults["GET"] = lambda handler: handler.answer(200, bomb, Content_Encoding="x-gzip")
    with pytest.raises(TargetRefused, match="compresses"):
        list(make_target().open("object"))


def test_glance_is_asked_as_it_asks(web, make_target, checked):
    seen = {}

    def note(handler):
        seen.setdefault(handler.command, handler.headers["Accept-Encoding"])
        handler.serve_well()

    faults_of(web, note)
    make_target().check()
    usual = requests.utils.default_headers()["Accept-Encoding"]
    assert seen == {"HEAD": usual, "GET": usual}


def limited(limit):
    """A fault as of a server that takes no body of more bytes."""

    def put(handler):
        if int(handler.headers["Content-Length"]) > limit:
            handler.answer(413, b"<title>413 Too Large</title>nginx", Content_Type="text/html")
            handler.close_connection = True
        else:
            handler.serve_well()

    return put


def test_check_finds_a_limit_of_bodies_that_small_probes_do_not_meet(web, make_target, checked):
    web.faults_of_probes["PUT"] = limited(1024**2)
    with pytest.raises(TargetRefused, match=r"write 4 MiB.*413.*client_max_body_size") as caught:
        make_target().check()
    assert len(str(caught.value)) < 350
    assert not web.objects
    web.faults_of_probes["PUT"] = limited(LARGE)
    assert list(make_target().check()) == checked


class TestAnnounced:
    """A limit of bodies that lies above what a check writes."""

    def refuse(self, handler):
        assert handler.headers["Content-Length"] == str(1024**4)
        handler.answer(413)
        return False

    def test_check_warns_of_it(self, web, make_target, checked):
        web.announced = self.refuse
        *others, limited = make_target().check()
        assert others == checked
        assert "takes no body of 1 TiB (413)" in limited.text
        assert "client_max_body_size 0" in limited.remedy

    def test_no_byte_is_sent_and_nothing_made(self, web, make_target, checked, monkeypatch):
        seen = []

        def delete(handler):
            if handler.headers["Expect"]:
                seen.append((handler.command, handler.rfile.read(1)))
            handler.serve_well()

        # The server says at once that the body may come.
        monkeypatch.setattr(httpprobe, "_ANNOUNCED_SECONDS", 60)
        web.faults_of_probes["DELETE"] = delete
        assert list(make_target().check()) == checked
        wait_until(lambda: seen, 10, "the server has seen the end of the connection")
        assert (seen, web.objects) == ([("DELETE", b"")], {})

    def test_other_answers_are_none_of_a_limit(self, web, make_target, checked):
        web.announced = lambda handler: handler.answer(417)
        assert list(make_target().check()) == checked

    def test_server_that_says_nothing_is_not_waited_for(
        self, web, make_target, checked, monkeypatch
    ):
        monkeypatch.setattr(httpprobe, "_ANNOUNCED_SECONDS", 0.2)
        web.announced = lambda handler: handler.server.released.wait(30) and False
        begin = time.monotonic()
        assert list(make_target(stall_timeout_seconds=20).check()) == checked
        assert time.monotonic() - begin < 10

    def test_server_that_has_gone_is_no_error(self, web, make_target, checked):
        def leave(handler):
            handler.close_connection = True
            return False

        web.announced = leave
        assert list(make_target().check()) == checked


def test_check_finds_compression_that_begins_with_larger_objects(web, make_target):
    compress = compressing(1)

    def large_only(handler):
        content = handler.server.objects.get(handler.name, b"")
        (compress if len(content) > 1000 else type(handler).serve_well)(handler)

    faults_of(web, large_only)
    with pytest.raises(TargetRefused, match=r"check: write 4 MiB: .*compresses"):
        make_target().check()


class TestAccepted:
    """A server that answers 202 and does what it was told some time later, or never."""

    @pytest.fixture
    def delayed(self, web):
        """Delay what is done by so many requests."""
        state = types.SimpleNamespace(requests=3, waiting=[])

        def later(handler, action):
            state.waiting.append([state.requests, action])
            handler.answer(202)

        def put(handler):
            name, body = handler.name, handler.body()
            later(handler, lambda: web.objects.update({name: body}))

        def move(handler):
            name, new = handler.name, handler.headers["Destination"].rpartition("/")[2]
            later(handler, lambda: web.objects.update({new: web.objects.pop(name)}))

        def delete(handler):
            name = handler.name
            later(handler, lambda: web.objects.pop(name, None))

        def head(handler):
            for each in tuple(state.waiting):
                each[0] -= 1
                if each[0] <= 0:
                    state.waiting.remove(each)
                    each[1]()
            handler.serve_well()

        for faults in (web.faults, web.faults_of_probes):
            faults.update(PUT=put, MOVE=move, DELETE=delete, HEAD=head)
        return state

    @pytest.mark.parametrize("publish", ["move", "direct"])
    def test_is_waited_for(self, web, make_target, put, delayed, publish):
        target = make_target(publish=publish)
        assert put(target).size == 3
        assert web.objects["object"] == b"abc"
        target.delete("object")
        for _ in range(3):
            target.stat("object")
        assert target.stat("object") is None

    @pytest.mark.parametrize("publish", ["move", "direct"])
    def test_check(self, web, make_target, delayed, publish, checked):
        assert list(make_target(publish=publish).check()) == checked

    def test_what_never_happens_is_tried_again(self, web, make_target, put, delayed, monkeypatch):
        monkeypatch.setattr("glance_repl_mw.targets.webdav._ACCEPTED_SECONDS", 0.5)
        delayed.requests = 10**9
        with pytest.raises(TargetUnavailable, match=r"not there after the PUT \(202\)"):
            put(make_target(publish="direct"))


def test_capitals_of_the_host_do_not_matter(web, make_target, put):
    url = web.url.replace("http://127.0.0.1", "HTTP://LocalHost")
    target = make_target(url)
    put(target)
    stored = target.stat("object")
    assert stored.location_url == f"{url.replace('HTTP://LocalHost', 'http://localhost')}object"
    assert target.object_name(stored.location_url) == "object"


def test_glance_follows_as_many_redirects_as_is_written_here():
    assert httpclient._MOST_ANSWERS == glance_http.MAX_REDIRECTS
