# SPDX-License-Identifier: Apache-2.0
"""What a download leaves in the spool, and that the client's bytes are its own whatever fails."""

import dataclasses
import threading
import time
import types

import oslo_db.exception
import pytest
import webob
from glance.common import utils as glance_utils
from oslo_config import cfg

from glance_repl_mw import download, opts
from glance_repl_mw.download import Downloads
from glance_repl_mw.model import Wish
from glance_repl_mw.nodes import NODE_FILE
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.behind import WriteBehind
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin, UploadState

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
PATH = f"/v2/images/{IMAGE}/file"
PIECES = [b"first ", b"", b"second ", b"third"]
BODY = b"".join(PIECES)


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare()
    return spool


class Store:
    def __init__(self, answer=True):
        self.answer = answer

    def lacks(self, image_id, target):
        assert (image_id, target) == (IMAGE, "here")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer


class Wishes:
    def __init__(self, wishes=()):
        self.wishes = dict(wishes)

    def all(self):
        return self.wishes


class Nearby:
    """Where the image lies at the target, as the database says."""

    def __init__(self, answer=None):
        self.answer = answer

    def url(self, image_id, target, node):
        assert (image_id, target) == (IMAGE, "here")
        assert node
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Body:
    """The body of an answer, which may break off with an error."""

    def __init__(self, pieces, error=None):
        self.pieces = pieces
        self.error = error
        self.closed = 0

    def __iter__(self):
        yield from self.pieces
        if self.error:
            raise self.error

    def close(self):
        self.closed += 1


@dataclasses.dataclass
class Glance:
    """Answers with a body, past its router or from its cache."""

    status: str = "200 OK"
    headers: tuple = (("Content-Type", "application/octet-stream"),)
    body: Body = dataclasses.field(default_factory=lambda: Body(PIECES))
    length: int | None = len(BODY)
    is_routed: bool = True

    def __call__(self, environ, start_response):
        if self.is_routed:
            environ["wsgiorg.routing_args"] = ((), {})
        length = [] if self.length is None else [("Content-Length", str(self.length))]
        start_response(self.status, [*self.headers, *length])
        return self.body


@dataclasses.dataclass
class SortingGlance(Glance):
    """Brings the locations of the image into order before it answers."""

    locations: list = dataclasses.field(default_factory=list)
    orders: list = dataclasses.field(default_factory=list)

    def __call__(self, environ, start_response):
        self.orders.append(glance_utils.sort_image_locations(self.locations))
        return super().__call__(environ, start_response)


@pytest.fixture
def serve(spool):
    """Serve a download; returns status, headers and the body as the server gets them."""

    def start(glance, store=None, wishes=(), nearby=None, **headers):
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], default_config_files=[])
        conf.set_override("local_target", "here", group=opts.GROUP)
        downloads = Downloads(
            conf, glance, spool, store or Store(), Wishes(wishes), Nearby(nearby)
        )
        answer = []
        environ = webob.Request.blank(PATH, headers=headers).environ
        body = downloads.serve(IMAGE, environ, lambda *given: answer.extend(given))
        return (*answer, body)

    return start


def take(body):
    """Take all of a body as a server does."""
    try:
        return b"".join(body)
    finally:
        body.close()


def files(spool):
    return sorted(path.suffix for path in spool.directory.iterdir() if path.name != NODE_FILE)


def test_a_whole_download_is_handed_to_the_writer(serve, spool):
    glance = Glance()
    status, headers, body = serve(glance)
    assert (status, headers) == ("200 OK", [*glance.headers, ("Content-Length", str(len(BODY)))])
    assert take(body) == BODY
    assert glance.body.closed == 1
    (upload,) = spool.uploads()
    assert (upload.state, upload.origin) == (UploadState.ACCEPTED, Origin.DOWNLOAD)
    assert (upload.image_id, upload.targets) == (IMAGE, ("here",))
    assert (upload.size, upload.received) == (len(BODY), len(BODY))
    assert upload.is_for_writer
    assert spool.data_path(upload.upload_id).read_bytes() == BODY


def test_the_image_cache_tells_no_length_of_what_it_keeps(serve, spool):
    assert take(serve(Glance(length=None))[2]) == BODY
    (upload,) = spool.uploads()
    assert (upload.size, upload.received) == (None, len(BODY))
    assert upload.state is UploadState.ACCEPTED


def test_what_the_target_has_is_read_there_and_not_copied(serve, spool, monkeypatch):
    monkeypatch.setattr(glance_utils, "sort_image_locations", list)
    there, here = {"url": "http://there/x"}, {"url": "http://here/x?md5=a&expires=1"}
    locations = [there, here]
    glance = SortingGlance(locations=locations)
    assert take(serve(glance, nearby="http://here/x")[2]) == BODY
    assert take(serve(glance, nearby="http://here/x", Range="bytes=0-1")[2]) == BODY
    assert glance.orders == [[here, there], locations]
    assert files(spool) == []


@pytest.mark.parametrize("nearby", [None, oslo_db.exception.DBError()])
def test_otherwise_glance_has_its_own_order(serve, monkeypatch, nearby):
    monkeypatch.setattr(glance_utils, "sort_image_locations", list)
    locations = [{"url": "http://there/x"}, {"url": "http://here/x"}]
    glance = SortingGlance(locations=locations)
    take(serve(glance, nearby=nearby)[2])
    assert glance.orders == [locations]
    assert glance_utils.sort_image_locations(locations) == locations


def answers_later(event):
    def answer():
        event.wait(30)
        return True

    return answer


def test_what_comes_before_the_database_has_answered_is_kept(serve, spool):
    event = threading.Event()
    _, _, body = serve(Glance(), Store(answers_later(event)))
    pieces = iter(body)
    assert next(pieces) == PIECES[0]
    assert files(spool) == []
    event.set()
    assert b"".join(pieces) == BODY[len(PIECES[0]) :]
    body.close()
    (upload,) = spool.uploads()
    assert spool.data_path(upload.upload_id).read_bytes() == BODY


def test_more_than_memory_should_hold_is_spooled_in_hope(serve, spool, monkeypatch):
    monkeypatch.setattr(download, "_EARLY_BYTES", 1)
    event = threading.Event()
    _, _, body = serve(Glance(), Store(answers_later(event)))
    pieces = iter(body)
    next(pieces)
    (upload,) = spool.uploads()
    assert upload.is_provisional
    assert not upload.is_for_writer
    event.set()
    b"".join(pieces)
    body.close()
    assert spool.get(upload.upload_id).state is UploadState.ACCEPTED


@pytest.mark.parametrize(
    "answer",
    [False, oslo_db.exception.DBError(), lambda: time.sleep(3600)],
    ids=["not wanted", "database fails", "database hangs"],
)
@pytest.mark.parametrize("early_bytes", [1, 1000])
def test_without_a_yes_nothing_stays(serve, spool, monkeypatch, answer, early_bytes):
    monkeypatch.setattr(download, "_EARLY_BYTES", early_bytes)
    monkeypatch.setattr(download, "_PATIENCE_SECONDS", 0.1)
    assert take(serve(Glance(), Store(answer))[2]) == BODY
    assert files(spool) == []


def test_a_target_that_leaves_is_not_filled(serve, spool):
    assert take(serve(Glance(), wishes={"here": Wish.DRAIN})[2]) == BODY
    assert files(spool) == []


@pytest.mark.parametrize(
    "glance",
    [
        Glance(status="206 Partial Content"),
        Glance(status="204 No Content"),
        Glance(status="404 Not Found"),
        Glance(headers=(("Content-Encoding", "gzip"),)),
        Glance(headers=(("Content-Range", "bytes 0-17/18"),)),
        Glance(is_routed=False),
        Glance(length=0),
    ],
    ids=lambda glance: f"{glance.status} {glance.headers} {glance.is_routed} {glance.length}",
)
def test_other_answers_are_left_alone(serve, spool, glance):
    status, _, body = serve(glance)
    assert body is glance.body
    assert status == glance.status
    assert files(spool) == []


@pytest.mark.parametrize("header", ["Range", "Content-Range"])
def test_requests_for_a_part_are_left_alone(serve, header):
    glance = Glance()
    assert serve(glance, **{header: "bytes=0-1"})[2] is glance.body


def test_a_client_that_leaves(serve, spool):
    glance = Glance()
    _, _, body = serve(glance)
    next(iter(body))
    body.close()
    assert glance.body.closed == 1
    assert files(spool) == []


def test_an_error_of_the_store_reaches_the_server(serve, spool):
    error = OSError("the store has left")
    _, _, body = serve(Glance(body=Body(PIECES, error)))
    with pytest.raises(OSError, match="left") as raised:
        take(body)
    assert raised.value is error
    assert files(spool) == []


def test_a_body_that_is_shorter_than_said(serve, spool):
    assert take(serve(Glance(length=len(BODY) + 1))[2]) == BODY
    assert files(spool) == []


def test_an_image_that_the_spool_has_already_is_not_copied(serve, spool):
    first, second = serve(Glance())[2], serve(Glance())[2]
    assert take(first) == BODY
    assert take(second) == BODY
    assert take(serve(Glance())[2]) == BODY
    uploads = spool.uploads()
    assert len(uploads) == 2, "the first two had begun before either was in the spool"


def test_an_upload_for_another_target_does_not_matter(serve, spool):
    Appender(spool, IMAGE, 1, Origin.GLANCE, targets=["there"]).accept()
    assert take(serve(Glance())[2]) == BODY
    assert len(spool.uploads()) == 2


def test_a_spool_that_is_full(serve, spool):
    spool.max_bytes = len(BODY)
    assert take(serve(Glance())[2]) == BODY
    assert files(spool) == []


def test_a_spool_that_is_slower_than_the_client(serve, spool, monkeypatch):
    moments = [0.0]

    def append_slowly(self, data):
        moments[0] += 10

    clock = types.SimpleNamespace(monotonic=lambda: moments[0])
    monkeypatch.setattr(download, "time", clock)
    monkeypatch.setattr(download, "_EARLY_BYTES", 1)
    monkeypatch.setattr(WriteBehind, "append", append_slowly)
    pieces = iter(serve(Glance())[2])
    assert next(pieces) == PIECES[0]
    assert files(spool) == []
    assert b"".join(pieces) == BODY[len(PIECES[0]) :]


def test_a_spool_that_fails_half_way(serve, spool, monkeypatch):
    def fail(self, *pieces):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Appender, "append", fail)
    assert take(serve(Glance())[2]) == BODY
    assert files(spool) == []
