# SPDX-License-Identifier: Apache-2.0
"""Odd requests have the answer and the effect that they have without the filter."""

import json
import os
import socket
import threading
from contextlib import suppress

import psutil
import pytest

from tests.functional.cloud import MIB, Cloud, at_once, pieces
from tests.lab.glance import Glance
from tests.lab.gunicorn import GunicornGlance
from tests.lab.process import HOST
from tests.lab.webservers import Nginx

BODY = os.urandom(300_000)
PATCH_TYPE = "Content-Type: application/openstack-images-v2.1-json-patch"
RENAMING = b'[{"op": "replace", "path": "/name", "value": "another"}]'
DATA = "Content-Type: application/octet-stream"
CHUNKED = "Transfer-Encoding: chunked"
TIMEOUT_SECONDS = 30


def in_chunks(body):
    return (
        b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces(body, 65536))
        + b"0\r\n\r\n"
    )


def length(body):
    return f"Content-Length: {len(body)}"


ENCODINGS = {
    "shorter length beside chunks": (["Content-Length: 10", CHUNKED], in_chunks(BODY)),
    "shorter length behind chunks": ([CHUNKED, "Content-Length: 10"], in_chunks(BODY)),
    "no length beside chunks": (["Content-Length: 0", CHUNKED], in_chunks(BODY)),
    "longer length beside chunks": (["Content-Length: 400000", CHUNKED], in_chunks(BODY)),
    "capitals": (["Transfer-Encoding: CHUNKED"], in_chunks(BODY)),
    "two encodings": (["Transfer-Encoding: gzip, chunked"], in_chunks(BODY)),
    "two headers": (["Transfer-Encoding: gzip", CHUNKED], in_chunks(BODY)),
    "chunked twice": ([CHUNKED, CHUNKED], in_chunks(BODY)),
    "identity": (["Transfer-Encoding: identity", length(BODY)], BODY),
    "length that breaks off": ([length(BODY)], BODY[:1000]),
    "chunks that break off": ([CHUNKED], in_chunks(BODY)[:1000]),
}
SIZES = ["9" * 5000, "-5", "1e5", "\u0661", "5_0", "+300000", str(2**63), "10", "300000"]
LENGTHS = ["9" * 5000, "-5", "1e5", "9" * 20]
CHANGES = {
    "change": ("PATCH", "", [PATCH_TYPE, length(RENAMING)], RENAMING),
    "change in chunks": ("PATCH", "", [PATCH_TYPE, CHUNKED], in_chunks(RENAMING)),
    "change without end": ("PATCH", "", [PATCH_TYPE, "Content-Length: 1000"], RENAMING),
    "chunk without end": ("PATCH", "", [PATCH_TYPE, CHUNKED], b"100\r\n" + RENAMING),
    "chunks and a length": ("PATCH", "", [CHUNKED, "Content-Length: 5"], in_chunks(RENAMING)),
    "no change": ("PATCH", "", [PATCH_TYPE], b""),
    "import without end": ("POST", "/import", ["Content-Length: 1000"], b"{}"),
    "import in chunks": ("POST", "/import", [CHUNKED], in_chunks(b"{}")),
    "import of nothing": ("POST", "/import", [], b""),
    "delete in chunks": ("DELETE", "", [CHUNKED], in_chunks(RENAMING)),
    "delete without end": ("DELETE", "", ["Content-Length: 1000"], b"some"),
    "tag in chunks": ("PUT", "/tags/a", [CHUNKED], in_chunks(RENAMING)),
    "tag without end": ("PUT", "/tags/a", ["Content-Length: 1000"], b"some"),
    "deactivation in chunks": ("POST", "/actions/deactivate", [CHUNKED], in_chunks(b"{}")),
}  # fmt: skip


class Pair:
    """The same Glance twice, with the filter and without."""

    def __init__(self, cloud, plain):
        self.cloud = cloud
        self.glances = (cloud.glance, plain)

    def compare(self, method, path, headers, body):
        """Send the same for an image of each, see that both do the same; returns the status."""
        with_filter, without = (
            self._sent(glance, method, path, headers, body) for glance in self.glances
        )
        assert with_filter == without
        return with_filter[0]

    def _sent(self, glance, method, path, headers, body):
        image_id = self.cloud.create_image(glance=glance)
        status = send(glance, self.cloud.token(), method, f"{image_id}{path}", headers, body)
        answer = self.cloud.request("GET", f"v2/images/{image_id}", glance=glance)
        record = answer.json() if answer.ok else {}
        names = ("status", "size", "checksum", "name", "tags")
        return status, answer.status_code, {name: record.get(name) for name in names}


def send(glance, token, method, path, headers, body):
    """The status of the answer, None where there is none; the client sends no more then."""
    lines = [f"{method} /v2/images/{path} HTTP/1.1", f"Host: {HOST}", f"X-Auth-Token: {token}"]
    text = "\r\n".join([*lines, *headers, "", ""]).encode()
    with socket.create_connection((HOST, glance.port), TIMEOUT_SECONDS) as connection:
        # A server may answer and close before it has read all.
        with suppress(OSError):
            connection.sendall(text + body)
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            words = connection.recv(65536).split()
            return int(words[1]) if words else None


@pytest.fixture(scope="module", params=[Glance, GunicornGlance], ids=["uwsgi", "gunicorn"])
def pair(request, keystone, workdir, require):
    require(Nginx)
    keystone.add_user("rita", "lab-rita-password", "demo", ("reader",))
    server = request.param
    cloud = Cloud(workdir("filtered"), keystone, server=server)
    plain = server(
        workdir("plain"),
        keystone,
        target_ports=cloud.glance.target_ports,
        uwsgi_arguments=cloud.glance.uwsgi_arguments,
    )
    try:
        at_once(2, lambda each: each.start(), [cloud, plain])
        yield Pair(cloud, plain)
    finally:
        at_once(2, lambda each: each.stop(), [cloud, plain])


@pytest.mark.parametrize("path", ["/file", "/stage"])
@pytest.mark.parametrize(("headers", "body"), ENCODINGS.values(), ids=ENCODINGS)
def test_how_a_body_is_sent(pair, path, headers, body):
    pair.compare("PUT", path, [DATA, *headers], body)


def test_a_body_is_never_cut(pair):
    headers, body = ENCODINGS["shorter length beside chunks"]
    assert pair.compare("PUT", "/file", [DATA, *headers], body) == 400


@pytest.mark.parametrize("path", ["/file", "/stage"])
@pytest.mark.parametrize("size", SIZES, ids=range(len(SIZES)))
def test_which_size_is_announced(pair, path, size):
    headers = [DATA, f"X-Openstack-Image-Size: {size}"]
    pair.compare("PUT", path, [*headers, length(BODY)], BODY)
    pair.compare("PUT", path, [*headers, CHUNKED], in_chunks(BODY))


@pytest.mark.parametrize("number", LENGTHS, ids=range(len(LENGTHS)))
def test_which_length_is_announced(pair, number):
    pair.compare("PUT", "/file", [DATA, f"Content-Length: {number}"], BODY)


@pytest.mark.parametrize(("method", "path", "headers", "body"), CHANGES.values(), ids=CHANGES)
def test_how_a_change_is_sent(pair, method, path, headers, body):
    pair.compare(method, path, headers, body)


@pytest.mark.parametrize("change", ["DELETE", "PUT /tags/a", "POST /import", "PATCH"])
def test_a_long_body_takes_no_more_memory(pair, change):
    """A reader may send it, whom Glance refuses, if it looks at the body at all."""
    method, _, path = change.partition(" ")
    size = 100 * MIB
    body = b"[" + bytes(size - 2).replace(b"\0", b" ") + b"]"
    with_filter, without = (peak(pair, glance, method, path, body) for glance in pair.glances)
    print(f"{change}: {with_filter >> 20} MiB with the filter, {without >> 20} MiB without")
    assert with_filter < without + size // 3


def peak(pair, glance, method, path, body):
    """The most memory that a process of the server gains."""
    image_id = pair.cloud.create_image(glance=glance)
    token = pair.cloud.keystone.session("rita", "demo").get_token()
    before, most, over = memory(glance), [0], threading.Event()

    def watch():
        while not over.wait(0.02):
            most[0] = max(most[0], memory(glance))

    watching = threading.Thread(target=watch)
    watching.start()
    send(glance, token, method, f"{image_id}{path}", [PATCH_TYPE, length(body)], body)
    over.set()
    watching.join()
    return most[0] - before


def memory(glance):
    return max(psutil.Process(pid).memory_info().rss for pid in glance.worker_pids())


def test_no_change_waits_for_a_client_that_sends_slowly(pair):
    image_id = pair.cloud.create_image()
    with socket.create_connection((HOST, pair.cloud.glance.port), TIMEOUT_SECONDS) as slow:
        lines = [f"PATCH /v2/images/{image_id} HTTP/1.1", f"Host: {HOST}", PATCH_TYPE]
        lines += [f"X-Auth-Token: {pair.cloud.token()}", "Content-Length: 1000", "", ""]
        slow.sendall("\r\n".join(lines).encode() + RENAMING)
        headers = {"Content-Type": PATCH_TYPE.partition(" ")[2]}
        path = f"v2/images/{image_id}"
        changes = json.loads(RENAMING)
        answer = pair.cloud.request("PATCH", path, json=changes, headers=headers, timeout=9)
        assert answer.status_code == 200
