# SPDX-License-Identifier: Apache-2.0
"""A probe finds out at little cost whether a target can be written and Glance can read it."""

import functools

import pytest

from glance_repl_mw.exceptions import ReplicaMissing, TargetRefused, TargetUnavailable
from tests.unit.targets.web import web_server

BODY = bytes(range(256)) * 1000


@pytest.fixture
def make_target(make_target):
    """Targets that give a busy machine 2 s for each answer."""
    return functools.partial(make_target, stall_timeout_seconds=4)


@pytest.fixture
def web(web):
    web.objects["object"] = BODY
    return web


@pytest.fixture
def reading(web):
    """Where Glance reads what is written to `web`."""
    with web_server() as server:
        server.objects = web.objects
        yield server


def wait(handler):
    handler.server.released.wait(30)
    handler.close_connection = True


def headers_then_wait(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.flush()
    wait(handler)


def drip(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b"x")
    handler.close_connection = True


def answer(status):
    return lambda handler: handler.answer(status)


@pytest.mark.parametrize("name", ["object", None])
@pytest.mark.parametrize(
    ("rights", "asked"), [({}, ["GET"]), ({"token": "secret"}, ["HEAD", "GET"])]
)
def test_healthy_server_is_up(web, make_target, name, rights, asked):
    make_target(**rights).probe(name)
    assert [method for method, _ in web.requests] == asked
    assert web.objects == {"object": BODY}


def test_little_is_read_also_where_the_server_ignores_ranges(web, make_target):
    sent = []

    def count(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**9))
        handler.end_headers()
        try:
            while len(sent) < 1000:
                handler.wfile.write(bytes(10**6))
                sent.append(handler.headers["Range"])
        finally:
            handler.close_connection = True

    web.faults["GET"] = count
    make_target().probe("object")
    assert set(sent) <= {"bytes=0-1023"}
    assert len(sent) < 1000


@pytest.mark.parametrize(("rights", "asked"), [({}, "GET"), ({"token": "secret"}, "HEAD")])
def test_missing_object_is_told_apart_from_a_server_that_is_down(web, make_target, rights, asked):
    with pytest.raises(ReplicaMissing, match=f"{asked} .*/other: 404") as caught:
        make_target(**rights).probe("other")
    assert (caught.value.target, caught.value.operation) == ("site", "probe")


@pytest.mark.parametrize("name", ["object", None])
def test_server_that_is_not_there(make_target, name):
    with web_server() as gone:
        pass
    with pytest.raises(TargetUnavailable):
        make_target(gone.url).probe(name)


@pytest.mark.parametrize("name", ["object", None])
def test_location_that_cannot_be_read_though_the_object_is_there(web, make_target, name):
    with web_server() as gone:
        pass
    with pytest.raises(TargetUnavailable, match="GET "):
        make_target(web.url, location_url=gone.url).probe(name)


def test_location_that_shows_other_objects(web, make_target):
    with web_server() as other, pytest.raises(TargetUnavailable, match="404, although"):
        make_target(web.url, location_url=other.url).probe("object")


FAULTS = {
    "hangs": (wait, TargetUnavailable, "no answer for 2 s"),
    "500": (answer(500), TargetUnavailable, ": 500 "),
    "401": (answer(401), TargetRefused, ": 401 "),
    "403": (answer(403), TargetRefused, ": 403 "),
}
READING_FAULTS = {
    **FAULTS,
    "hangs-after-headers": (headers_then_wait, TargetUnavailable, "no answer for 2 s"),
    "drips": (drip, TargetUnavailable, "only [0-9]+ bytes within 2 s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_server_that_cannot_be_written(web, reading, make_target, fault):
    serve, kind, match = FAULTS[fault]
    web.faults["HEAD"] = serve
    with pytest.raises(kind, match=f"HEAD {web.url}.*{match}"):
        make_target(location_url=reading.url).probe("object")


@pytest.mark.parametrize("fault", READING_FAULTS)
def test_server_that_is_read_as_it_is_written(web, make_target, fault):
    serve, kind, match = READING_FAULTS[fault]
    web.faults["GET"] = serve
    with pytest.raises(kind, match=f"GET {web.url}.*{match}"):
        make_target().probe("object")


def test_server_that_refuses_everybody_what_it_does_not_have(web, reading, make_target):
    web.faults_of_probes["GET"] = reading.faults_of_probes["GET"] = answer(403)
    make_target(location_url=reading.url).probe(None)
    with pytest.raises(TargetRefused, match=f"GET {web.url}.*: 403 "):
        make_target().probe(None)


@pytest.mark.parametrize("fault", READING_FAULTS)
def test_server_that_glance_cannot_read(web, reading, make_target, fault):
    serve, kind, match = READING_FAULTS[fault]
    reading.faults["GET"] = serve
    with pytest.raises(kind, match=f"GET {reading.url}.*{match}"):
        make_target(location_url=reading.url).probe("object")


def test_a_server_that_hangs_when_asked_anew_is_found_in_spite_of_kept_connections(
    web, make_target
):
    target = make_target()
    target.stat("object")
    known = set(web.connections)
    web.faults["GET"] = lambda handler: (
        handler.serve_well() if handler.connection in known else wait(handler)
    )
    with pytest.raises(TargetUnavailable):
        target.probe("object")


def test_credentials_go_where_objects_are_written_only(web, reading, make_target):
    seen = []

    def note(handler):
        seen.append((handler.command, handler.headers["Authorization"]))
        handler.serve_well()

    web.faults["HEAD"] = reading.faults["GET"] = note
    make_target(location_url=reading.url, token="secret").probe("object")
    assert seen == [("HEAD", "Bearer secret"), ("GET", None)]


def test_a_long_stall_timeout_does_not_make_the_probe_long(web, make_target, monkeypatch):
    monkeypatch.setattr("glance_repl_mw.targets.httpprobe._LOOK_SECONDS", 0.5)
    web.faults["GET"] = wait
    with pytest.raises(TargetUnavailable, match=r"no answer for 0.25 s"):
        make_target(stall_timeout_seconds=3600).probe("object")
