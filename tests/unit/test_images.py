# SPDX-License-Identifier: Apache-2.0
"""Glance's API as the service user calls it, with a Glance in memory that others change too."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from oslo_config import cfg

from glance_repl_mw import exceptions, opts
from glance_repl_mw.images import USER_AGENT, ImageService

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
PRIMARY = "file:///primary/image"
OURS = ["http://site-a/image", "http://site-b/image"]
THEIRS = "http://elsewhere/copy"
OLD, NEW = "?md5=old&expires=1", "?md5=new&expires=2"
SIGNED = [f"{url}{OLD}" for url in OURS]


class Refusal(Exception):
    """Glance answers with this status."""


class Glance(ThreadingHTTPServer):
    """Glance with one image.

    :ivar locations: those of the image
    :ivar meanwhile: called one by one before a PATCH is served; by then it has been sent
    :ivar data: status and body of a download, which is announced as longer than it is
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.locations = located(PRIMARY, *OURS)
        self.meanwhile = []
        self.patches = 0
        self.agents = set()
        self.data = (200, b"")

    @property
    def urls(self):
        return [location["url"] for location in self.locations]

    def patch(self, changes):
        self.patches += 1
        if self.meanwhile:
            self.meanwhile.pop(0)()
        changed = list(self.locations)
        for change in changes:
            _, root, *place = change["path"].split("/")
            assert root == "locations"
            if change["op"] == "replace":
                if sorted(map(url_of, change["value"])) != sorted(map(url_of, changed)):
                    raise Refusal(400)
                changed = change["value"]
            elif change["op"] == "add":
                assert place == ["-"]
                if change["value"] in changed:
                    raise Refusal(400)
                changed = [*changed, change["value"]]
            elif len(changed) == 1:
                raise Refusal(403)
            else:
                assert change["op"] == "remove"
                del changed[int(place[0])]
        self.locations = changed


class Handler(BaseHTTPRequestHandler):
    """Serves the image, its data, and changes of its locations."""

    server: Glance

    def do_GET(self):
        self.server.agents.add(self.headers["User-Agent"])
        self.server.asked_past_cache = self.headers["Cache-Control"] == "no-cache"
        if self.path.endswith("/file"):
            status, body = self.server.data
            self.answer(status, body, "application/octet-stream", length=len(body) + 1)
        else:
            self.answer(200, self.image())

    def do_PATCH(self):
        self.server.agents.add(self.headers["User-Agent"])
        changes = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            self.server.patch(changes)
        except Refusal as refusal:
            self.answer(
                refusal.args[0], f"BadRequest: not {self.server.urls[-1]}".encode(), "text/plain"
            )
        else:
            self.answer(200, self.image())

    def image(self):
        record = {
            "id": IMAGE,
            "status": "active",
            "locations": self.server.locations,
            "visibility": "public",
            "owner": "4f2a",
            "disk_format": "raw",
            "tags": ["golden"],
            "os_distro": "debian",
            "protected": False,
        }
        return json.dumps(record).encode()

    def answer(self, status, body, kind="application/json", length=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def url_of(location):
    return location["url"]


def located(*urls):
    return [{"url": url, "metadata": {"store": "http"}} for url in urls]


@pytest.fixture
def glance():
    with Glance() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def service(glance, tmp_path):
    file = tmp_path / "replication.conf"
    url = f"http://127.0.0.1:{glance.server_port}"
    file.write_text(f"[replication]\nauth_type = none\nendpoint_override = {url}\n")
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[str(file)], default_config_dirs=[])
    return ImageService(conf, lambda url: f"{url}{NEW}")


def test_requests_tell_whose_they_are(glance, service):
    service.remove_locations(IMAGE, OURS)
    assert len(glance.agents) == 1
    assert all(agent.startswith(USER_AGENT) for agent in glance.agents)


def test_image_is_told_with_what_targets_are_chosen_by(service):
    image = service.get(IMAGE)
    assert (image.visibility, image.owner) == ("public", "4f2a")
    assert (image.disk_format, image.container_format, image.size) == ("raw", None, None)
    assert image.tags == {"golden"}
    assert image.properties["os_distro"] == "debian"
    assert "protected" not in image.properties


@pytest.fixture
def service_at(tmp_path):
    """Make the service for a Glance at this URL."""

    def make(url):
        file = tmp_path / "replication.conf"
        file.write_text(f"[replication]\nauth_type = none\nendpoint_override = {url}\n")
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], default_config_files=[str(file)], default_config_dirs=[])
        return ImageService(conf)

    return make


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("hunter2#", "proxy in the environment is not a URL; .* %XX"),
        ("hunter2/x", "proxy in the environment is not a URL; .* %XX"),
        ("[hunter2]", "the address that was asked, cannot be parsed"),
    ],
)
def test_password_of_a_proxy_that_is_not_escaped_is_not_shown(
    service_at, monkeypatch, password, told
):
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://user:{password}@127.0.0.1:1")
    with pytest.raises(exceptions.GlanceUnavailable, match=told) as caught:
        service_at("http://glance.example:9292").get(IMAGE)
    assert "hunter2" not in str(caught.value)


def test_user_info_of_a_url_is_not_shown(service_at):
    with pytest.raises(exceptions.GlanceUnavailable, match=r"127\.0\.0\.1") as caught:
        service_at("http://user:hunter2@127.0.0.1:1").get(IMAGE)
    assert "hunter2" not in str(caught.value)


# Removing locations


def test_locations_are_removed_in_one_request(glance, service):
    assert service.remove_locations(IMAGE, OURS) == []
    assert glance.locations == located(PRIMARY)
    assert glance.patches == 1


def test_what_is_no_location_needs_no_removal(glance, service):
    assert service.remove_locations(IMAGE, [THEIRS]) == []
    assert glance.patches == 0


def test_hidden_locations_are_not_taken_for_removed_ones(glance, service):
    glance.locations = []
    with pytest.raises(exceptions.GlanceRefused, match="does not show"):
        service.remove_locations(IMAGE, OURS)
    assert glance.patches == 0


@pytest.mark.parametrize("there", [[OURS[0]], [PRIMARY, *OURS]])
def test_the_last_location_stays(glance, service, there):
    glance.locations = located(*there)
    assert service.remove_locations(IMAGE, {*OURS, PRIMARY}) == [there[0]]
    assert glance.urls == [there[0]]


@pytest.mark.parametrize(
    ("there", "stay", "left"),
    [
        pytest.param([PRIMARY, *OURS, THEIRS], [], [PRIMARY, THEIRS], id="added behind"),
        pytest.param([THEIRS, PRIMARY, *OURS], [], [THEIRS, PRIMARY], id="added before"),
        pytest.param([*OURS, PRIMARY], [], [PRIMARY], id="moved"),
        pytest.param([PRIMARY, OURS[1]], [], [PRIMARY], id="one removed"),
        pytest.param([PRIMARY], [], [PRIMARY], id="all removed"),
        pytest.param(OURS, OURS[:1], OURS[:1], id="the primary one removed"),
    ],
)
def test_what_others_do_meanwhile_is_respected(glance, service, there, stay, left):
    def others_are_faster():
        glance.locations = located(*there)

    glance.meanwhile = [others_are_faster]
    assert service.remove_locations(IMAGE, OURS) == stay
    assert glance.urls == left


def test_others_who_never_rest(glance, service):
    def add_one():
        glance.locations = [*glance.locations, *located(f"{THEIRS}-{glance.patches}")]

    glance.meanwhile = [add_one] * 100
    with pytest.raises(exceptions.GlanceUnavailable, match="BadRequest"):
        service.remove_locations(IMAGE, OURS)
    assert 1 < glance.patches < 10
    assert len(glance.urls) == 3 + glance.patches


def test_others_who_add_the_location_again(glance, service):
    patch = glance.patch

    def patch_in_vain(changes):
        patch(changes)
        glance.locations = located(PRIMARY, *OURS)

    glance.patch = patch_in_vain
    with pytest.raises(exceptions.GlanceUnavailable, match="again all the time"):
        service.remove_locations(IMAGE, OURS)


@pytest.mark.parametrize("status", [403, 409])
def test_a_removal_that_glance_refuses(glance, service, status):
    def refuse():
        raise Refusal(status)

    glance.meanwhile = [refuse]
    with pytest.raises(exceptions.GlanceRefused):
        service.remove_locations(IMAGE, OURS)
    assert glance.patches == 1


# Signed locations


def test_signatures_are_for_glance_only(glance, service):
    glance.locations = located(PRIMARY)
    image = service.add_locations(IMAGE, OURS)
    assert glance.urls == [PRIMARY, *(f"{url}{NEW}" for url in OURS)]
    assert image.locations == (PRIMARY, *OURS)
    assert image.given_locations == tuple(glance.urls)
    assert service.get(IMAGE) == image
    assert "md5=" not in repr(image)


def test_location_that_is_tried_is_signed(glance, service):
    tried = []

    def refuse(changes):
        tried.extend(changes)
        raise Refusal(403)

    glance.patch = refuse
    service.try_location(IMAGE, OURS[0])
    assert tried[0]["value"]["url"] == f"{OURS[0]}{NEW}"
    assert tried[-1]["op"] == "remove"


def test_location_with_two_signatures_is_one(glance, service):
    glance.locations = located(PRIMARY, *SIGNED, f"{OURS[0]}{NEW}")
    assert service.get(IMAGE).locations == (PRIMARY, *OURS)


def test_signed_locations_are_removed(glance, service):
    glance.locations = located(PRIMARY, *SIGNED, f"{OURS[0]}{NEW}")
    assert service.remove_locations(IMAGE, OURS) == []
    assert glance.urls == [PRIMARY]


def test_the_last_signed_location_stays(glance, service):
    glance.locations = located(SIGNED[0], f"{OURS[0]}{NEW}")
    assert service.remove_locations(IMAGE, OURS) == OURS[:1]
    assert glance.urls == SIGNED[:1]


def test_signatures_are_replaced_in_one_request(glance, service):
    glance.locations = [*located(PRIMARY, *SIGNED, THEIRS), {"url": "x", "metadata": {}}]
    new = {url: url.replace(OLD, NEW) for url in SIGNED}
    service.replace_locations(IMAGE, new)
    assert glance.locations == [
        *located(PRIMARY, THEIRS), {"url": "x", "metadata": {}}, *located(*new.values())
    ]  # fmt: skip
    assert glance.patches == 1


@pytest.mark.parametrize("there", [SIGNED[:1], [f"{OURS[0]}{NEW}", SIGNED[0]]])
def test_only_location_of_an_image_is_replaced(glance, service, there):
    glance.locations = located(*there)
    service.replace_locations(IMAGE, {SIGNED[0]: f"{OURS[0]}{NEW}"})
    assert glance.urls == [f"{OURS[0]}{NEW}"]


@pytest.mark.parametrize(
    ("there", "left"),
    [([PRIMARY], [PRIMARY]), ([THEIRS, *SIGNED], [THEIRS, SIGNED[1], f"{OURS[0]}{NEW}"])],
    ids=["removed", "moved"],
)
def test_replacement_respects_what_others_do_meanwhile(glance, service, there, left):
    def others_are_faster():
        glance.locations = located(*there)

    glance.locations = located(PRIMARY, *SIGNED)
    glance.meanwhile = [others_are_faster]
    service.replace_locations(IMAGE, {SIGNED[0]: f"{OURS[0]}{NEW}"})
    assert glance.urls == left


def test_signature_in_a_refusal_is_not_quoted(glance, service):
    def refuse():
        raise Refusal(400)

    glance.locations = located(PRIMARY, *SIGNED)
    glance.meanwhile = [refuse] * 10
    with pytest.raises(exceptions.GlanceUnavailable, match=f"not {OURS[1]}") as caught:
        service.replace_locations(IMAGE, {SIGNED[0]: THEIRS})
    assert "md5=" not in str(caught.value)
    assert glance.urls == [PRIMARY, *SIGNED]


# Downloading


def test_a_download_that_breaks_off(glance, service):
    glance.data = (200, b"too little")
    blocks = service.download(IMAGE)
    with pytest.raises(exceptions.GlanceUnavailable):
        list(blocks)


@pytest.mark.parametrize("past_cache", [True, False])
def test_a_download_that_the_image_cache_must_not_answer(glance, service, past_cache):
    glance.data = (200, b"too little")
    with contextlib.closing(service.download(IMAGE, past_cache=past_cache)) as blocks:
        assert next(blocks)
    assert glance.asked_past_cache is past_cache


def test_an_error_that_breaks_off(glance, service):
    glance.data = (503, b"too little")
    with pytest.raises(exceptions.GlanceUnavailable):
        list(service.download(IMAGE))
