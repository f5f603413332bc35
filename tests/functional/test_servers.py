# SPDX-License-Identifier: Apache-2.0
"""Every way to serve Glance: bodies reach the filter, and restarts lose nothing."""

import contextlib
import socket
import uuid

import pytest

from tests.functional.cloud import MIB, Cloud, at_once
from tests.functional.rawupload import Upload
from tests.lab.apache import HttpProxiedGlance, ModWsgiGlance, UwsgiProxiedGlance
from tests.lab.eventlet_glance import EventletGlance
from tests.lab.glance import Glance
from tests.lab.gunicorn import GunicornGlance
from tests.lab.images import image_bytes
from tests.lab.process import HOST, wait_until
from tests.lab.webservers import Nginx

SERVERS = {
    "uwsgi": Glance,
    "uwsgi behind mod_proxy_uwsgi": UwsgiProxiedGlance,
    "uwsgi behind mod_proxy_http": HttpProxiedGlance,
    "mod_wsgi": ModWsgiGlance,
    "gunicorn": GunicornGlance,
    "glance-api": EventletGlance,
}
SIZES = (1, 64 << 10, 2 * MIB + 1)
CAP = 8 * MIB
LARGE = image_bytes(6 * MIB)


@pytest.fixture(scope="module", params=SERVERS.values(), ids=SERVERS)
def served(request, keystone, workdir, require):
    """Glance under one of the servers; pushes to site-a take a while."""
    require(Nginx)
    server = request.param
    if server is EventletGlance and server.available():
        pytest.skip(server.available())
    if hasattr(server, "available"):
        require(server)
    with Cloud(
        workdir("served"),
        keystone,
        server=server,
        options={"DEFAULT": {"image_size_cap": str(CAP)}},
        target_options={"site-a": {"max_bytes_per_second": str(4 * MIB)}},
    ) as cloud:
        yield cloud


@pytest.fixture(params=[False, True], ids=["length", "chunked"])
def chunked(request, served):
    if request.param and type(served.glance) is UwsgiProxiedGlance:
        pytest.skip("mod_proxy_uwsgi passes no chunked body on")
    return request.param


def begin(cloud, image_id, chunked, body):
    length = None if chunked else len(body)
    return Upload(cloud.glance, image_id, length, token=cloud.token())


def check_replicated(cloud, image_id, body):
    for target, url in cloud.wait_replicated(image_id, list(cloud.targets)).items():
        assert cloud.object_bytes(target, url) == body


def test_uploads_side_by_side(served, chunked):
    def upload(size):
        body = image_bytes(size)
        announce = size if size % 2 else None
        return served.new_image(body, chunked=chunked, announce=announce), body

    for image_id, body in at_once(6, upload, 2 * SIZES):
        check_replicated(served, image_id, body)
    served.wait_settled()


def test_a_chunked_body_that_the_server_refuses_leaves_nothing(served):
    if type(served.glance) is not UwsgiProxiedGlance:
        pytest.skip("this server passes chunked bodies on")
    image_id = served.create_image()
    assert served.upload(image_id, LARGE, chunked=True).status_code == 411
    assert served.image(image_id)["status"] == "queued"
    served.assert_no_trace(image_id)


def test_refused_uploads_leave_nothing(served, chunked):
    unknown = str(uuid.uuid4())
    body = b"some bytes"
    # Each has its own connection: Apache may close it after an answer that left the body unread.
    answer = begin(served, unknown, chunked, body).send(body).finish()
    assert answer is not None
    assert answer.status == 404
    too_large = served.create_image()
    body = image_bytes(CAP + 2 * MIB)
    answer = begin(served, too_large, chunked, body).send(body).finish()
    # A proxy that cannot send the rest of the body may not look at uWSGI's answer.
    assert answer is None or answer.status in (413, 502, 503)
    for image_id in (unknown, too_large):
        served.assert_no_trace(image_id)
    assert served.image(too_large)["status"] == "queued"


def test_a_client_that_leaves_leaves_nothing(served, chunked):
    image_id = served.create_image()
    upload = begin(served, image_id, chunked, LARGE).send(LARGE[: 3 * MIB])
    wait_until(lambda: served.rows(image_id), 60, "the upload is followed")
    upload.leave()
    wait_until(lambda: served.image(image_id)["status"] == "queued", 60, "Glance gives up")
    served.assert_no_trace(image_id)


def test_one_writer_serves_all_workers_and_has_nothing_of_theirs(served):
    assert len(served.glance.worker_pids()) == 2
    writer = served.writer()
    assert served.writers() == [writer]
    assert [c for c in writer.net_connections("tcp") if c.status == "LISTEN"] == []
    inside = str(served.glance.directory)
    files = {file.path for file in writer.open_files()}
    assert {path for path in files if path.startswith(inside) and ".log" not in path} == set()


def test_an_upload_goes_on_while_the_server_reloads(served):
    chunked = type(served.glance) is not UwsgiProxiedGlance
    image_id = served.create_image()
    upload = begin(served, image_id, chunked, LARGE).send(LARGE[: 3 * MIB])
    wait_until(lambda: served.rows(image_id), 60, "the upload is followed")
    old = set(served.glance.worker_pids())
    served.glance.begin_reload()
    wait_until(lambda: old - set(served.glance.worker_pids()), 60, "the reload has begun")
    answer = upload.send(LARGE[3 * MIB :]).finish()
    served.glance.wait_reloaded(old)
    if isinstance(served.glance, ModWsgiGlance) and (answer is None or answer.status == 500):
        # Apache ends the processes of mod_wsgi without regard to requests, filter or not.
        served.assert_no_trace(image_id)
        image_id = served.new_image(LARGE)
    else:
        assert answer is not None
        assert answer.status == 204
    check_replicated(served, image_id, LARGE)
    # Where the server ends all workers before it starts others, the writer ends as well.
    wait_until(lambda: len(served.writers()) == 1, 60, "one writer runs")


def test_an_upload_is_whole_or_gone_after_a_graceful_stop(served):
    """Servers differ in what they do with an upload that is under way."""
    chunked = type(served.glance) is not UwsgiProxiedGlance
    image_id = served.create_image()
    upload = begin(served, image_id, chunked, LARGE).send(LARGE[: 3 * MIB])
    wait_until(lambda: served.rows(image_id), 60, "the upload is followed")
    served.glance.begin_stop()
    wait_until(served.glance.is_stopping, 60, "the stop has begun")
    answer = upload.send(LARGE[3 * MIB :]).finish()
    served.glance.stop()
    wait_until(lambda: not served.writers(), 60, "the writer ends after Glance")
    served.glance.start()
    served.wake()
    if answer is not None and answer.status == 204:
        assert served.image(image_id)["status"] == "active"
        check_replicated(served, image_id, LARGE)
        served.wait_settled()
    else:
        assert answer is None or answer.status >= 500
        served.assert_no_trace(image_id)


def test_headers_without_end_are_refused_before_the_filter(served):
    """uWSGI by itself has no answer, and closes the connection."""
    refusals = (None,) if type(served.glance) is Glance else (400, 431)
    for kib in (100, 10 << 10):
        assert status_of_long_headers(served, kib << 10) in refusals
    assert served.request("GET", "v2/replication/targets").status_code == 200


def status_of_long_headers(cloud, size):
    """The status of the answer, None where there is none; requests would not look for it."""
    head = f"GET /v2/replication/targets HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {'a' * size}\r\n\r\n"
    with socket.create_connection((HOST, cloud.glance.port), 60) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head.encode())
        with contextlib.suppress(OSError):
            words = connection.recv(1 << 16).split()
            return int(words[1]) if words else None
    return None


def test_a_stop_loses_no_push(served):
    # The push to site-a takes longer than the upload, unless that is slow.
    image_id = served.new_image(LARGE)
    served.glance.stop()
    wait_until(lambda: not served.writers(), 60, "the writer ends after Glance")
    served.glance.start()
    # The first request starts the next writer.
    assert served.image(image_id)["status"] == "active"
    check_replicated(served, image_id, LARGE)
    served.wait_settled()
