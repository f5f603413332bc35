# SPDX-License-Identifier: Apache-2.0
"""Lists of images, from a Glance in memory that pages as the real one does, or lies."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib import parse

import pytest
from oslo_config import cfg

from glance_repl_mw import bounded, exceptions, opts
from glance_repl_mw.images import ImageService
from glance_repl_mw.reconciler.pages import pages

OWN = "own-project"


def image_ids(count, mark="a"):
    return [f"{mark}f1f5a5e-1c0d-4d7e-9d0b-{number:012x}" for number in range(count)]


class Glance(ThreadingHTTPServer):
    """Glance with these images, the hidden ones by `hidden`.

    :ivar most: its `api_limit_max`
    :ivar answer: gives the body of an answer in place of the list, by its query
    :ivar properties: further fields of every image
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.shown = {False: [], True: []}
        self.most = 1000
        self.owners = {}
        self.properties = {}
        self.answer = None
        self.queries = []

    def list(self, query):
        ids = self.shown["os_hidden" in query]
        if "id" in query:
            wanted = query["id"].removeprefix("in:").split(",")
            ids = [each for each in ids if each in wanted]
        if "visibility" in query and query["visibility"] == "shared":
            ids = []
        start = ids.index(query["marker"]) + 1 if "marker" in query else 0
        limit = min(self.most, int(query["limit"]))
        page = ids[start:][:limit]
        body = {"images": [self.record(each) for each in page]}
        if page and len(page) == limit:
            body["next"] = f"/v2/images?marker={page[-1]}"
        return body

    def record(self, image_id):
        owner = self.owners.get(image_id, OWN)
        return {"id": image_id, "status": "active", "size": 5, "owner": owner, **self.properties}


class Handler(BaseHTTPRequestHandler):
    server: Glance

    def do_GET(self):
        query = dict(parse.parse_qsl(parse.urlsplit(self.path).query))
        self.server.queries.append(query)
        answer = self.server.answer or self.server.list
        body = answer(query)
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def glance():
    with Glance() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def service(glance, tmp_path, monkeypatch):
    file = tmp_path / "replication.conf"
    url = f"http://127.0.0.1:{glance.server_port}"
    file.write_text(f"[replication]\nauth_type = none\nendpoint_override = {url}\n")
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[str(file)], default_config_dirs=[])
    service = ImageService(conf)
    monkeypatch.setattr(service._session, "get_project_id", lambda: OWN)
    return service


@pytest.mark.parametrize("most", [1, 7, 25, 1000])
def test_images_beyond_a_short_page_are_found(glance, service, most):
    glance.most = most
    shown, hidden = image_ids(30), image_ids(5, "b")
    glance.shown = {False: shown, True: hidden}
    gone = image_ids(2, "c")
    assert set(service.find([*hidden, *gone, *shown])) == {*shown, *hidden}


def test_one_request_where_all_are_shown(glance, service):
    glance.shown[False] = image_ids(50)
    assert len(service.find(image_ids(50))) == 50
    assert len(glance.queries) == 1


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_all_images_are_gone_through(glance, service, most):
    glance.most = most
    glance.shown = {False: image_ids(30), True: image_ids(5, "b")}
    found = [image.image_id for page in pages(service) for image in page]
    assert found == [*image_ids(30), *image_ids(5, "b")]


@pytest.mark.parametrize("most", [7, 1000])
def test_foreign_image_is_found_behind_own_ones(glance, service, most):
    glance.most = most
    glance.shown[False] = image_ids(130)
    assert service.find_foreign() is None
    glance.owners = {glance.shown[False][125]: "another"}
    assert service.find_foreign() == glance.shown[False][125]


def test_id_in_capitals_is_found_by_the_id_that_was_asked_for(glance, service):
    # As a Glance on MariaDB answers, which does not tell capitals from small letters.
    (image_id,) = image_ids(1)
    glance.answer = lambda query: {"images": [glance.record(image_id)]}
    assert service.find([image_id.upper()])[image_id.upper()].image_id == image_id


LIES = {
    "no list": lambda glance, query: {},
    "no JSON": lambda glance, query: b"<html>It works!</html>",
    "empty": lambda glance, query: b"",
    "broken": lambda glance, query: b'{"images": [',
    "deep": lambda glance, query: b"[" * 100_000,
    "long number": lambda glance, query: b'{"images": [], "x": ' + b"1" * 5000 + b"}",
    "not UTF-8": lambda glance, query: b'{"images": ["\xff\xfe"]}',
    "list": lambda glance, query: [],
    "another image": lambda glance, query: {"images": [glance.record("another")]},
    "no id": lambda glance, query: {"images": [{"status": "active"}]},
    "twice": lambda glance, query: {"images": [glance.record(image_ids(1)[0])] * 2},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_answer_that_is_no_list_leaves_nobody_missing(glance, service, lie):
    glance.answer = lambda query: lie(glance, query)
    with pytest.raises(exceptions.GlanceUnavailable):
        service.find(image_ids(3))


@pytest.mark.parametrize("lie", [lie for name, lie in LIES.items() if name != "another image"])
def test_answer_that_is_no_page_ends_nothing_early(glance, service, lie):
    glance.answer = lambda query: lie(glance, query)
    with pytest.raises(exceptions.GlanceUnavailable):
        service.page(None, 100)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_circle_ends(glance, service, length):
    # Glance pays no heed to the marker, or jumps back to the start after some pages.
    ids = image_ids(length)
    following = dict(zip(ids, [*ids[1:], ids[0]], strict=True))

    def circle(query):
        image_id = following.get(query.get("marker"), ids[0])
        return {"images": [glance.record(image_id)], "next": "/v2/images"}

    glance.answer = circle
    with pytest.raises(exceptions.GlanceUnavailable, match="circle"):
        for _ in pages(service):
            assert len(glance.queries) < 100


def test_list_of_others_that_goes_on_for_ever_ends(glance, service):
    glance.answer = lambda query: {
        "images": [glance.record(f"id-{len(glance.queries)}")],
        "next": "/v2/images",
    }
    assert service.find_foreign() is None
    assert len(glance.queries) < 100


def test_large_records_are_read_in_smaller_pages(glance, service, monkeypatch):
    monkeypatch.setattr(bounded, "MOST_BYTES", 10_000)
    glance.properties = {"note": "x" * 1000}
    glance.shown[False] = image_ids(50)
    assert set(service.find(image_ids(50))) == set(image_ids(50))
    assert sum(len(page) for page in pages(service)) == 50


def test_answer_beyond_the_bound_is_an_error(glance, service, monkeypatch):
    monkeypatch.setattr(bounded, "MOST_BYTES", 100)
    glance.shown[False] = image_ids(2)
    with pytest.raises(exceptions.GlanceUnavailable, match="more than 100 bytes"):
        service.page(None, 100)
    glance.answer = lambda query: glance.record("x" * 200)
    with pytest.raises(exceptions.GlanceUnavailable, match="more than 100 bytes"):
        service.get("x" * 200)
