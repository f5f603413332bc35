# SPDX-License-Identifier: Apache-2.0
"""Glance's other middleware in the same pipeline: image cache, gzip, CORS and osprofiler."""

import json
import uuid

import pytest
from osprofiler import _utils as osprofiler_utils
from redis import Redis

from tests.functional.cloud import MIB, Cloud
from tests.lab.images import image_bytes
from tests.lab.process import HOST, wait_until
from tests.lab.webservers import Nginx

ORIGIN = "http://dashboard.example"
SECRET = "lab-profiler-secret"
# They follow the replication filter, in this order.
FILTERS = {
    "cache": {"paste.filter_factory": "glance.api.middleware.cache:CacheFilter.factory"},
    "cachemanage": {
        "paste.filter_factory": "glance.api.middleware.cache_manage:CacheManageFilter.factory"
    },
    "gzip": {"paste.filter_factory": "glance.api.middleware.gzip:GzipMiddleware.factory"},
}


@pytest.fixture(scope="module")
def full(keystone, workdir, require, redis):
    """A cloud with all of Glance's middleware; `full.cache` is the directory of the cache."""
    require(Nginx)
    directory = workdir("middleware")
    cache = directory / "cache"
    cache.mkdir()
    options = {
        "DEFAULT": {
            "image_cache_dir": str(cache),
            "image_cache_driver": "centralized_db",
        },
        "cors": {"allowed_origin": ORIGIN},
        "profiler": {
            "enabled": "True",
            "hmac_keys": SECRET,
            "connection_string": f"redis://{HOST}:{redis.port}",
        },
    }
    with Cloud(directory, keystone, options=options, paste_filters=FILTERS) as cloud:
        cloud.cache = cache
        yield cloud


def download(cloud, image_id, encoding="identity"):
    # A body that is sent in gzip is none that the cache keeps.
    headers = {"Accept-Encoding": encoding}
    answer = cloud.request("GET", f"v2/images/{image_id}/file", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.content


def reads(cloud, image_id):
    """GET requests for the image at all targets."""
    return [
        path
        for target in cloud.targets.values()
        for method, path, _ in target.requests()
        if method == "GET" and image_id in path
    ]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_cache_hit_stays_a_hit_and_a_delete_empties_the_cache(full, chunked):
    body = image_bytes(2 * MIB + 1)
    image_id = full.new_image(body, chunked=chunked)
    for target, url in full.wait_replicated(image_id).items():
        assert full.object_bytes(target, url) == body
    cached = full.cache / image_id
    assert not cached.exists()
    assert download(full, image_id) == body
    wait_until(cached.exists, 60, "the image is in the cache")
    read_before = reads(full, image_id)
    full.glance.primary_path(image_id).unlink()
    assert download(full, image_id) == body
    assert reads(full, image_id) == read_before
    # Without the cache a replica serves it.
    cached.write_bytes(b"")
    full.request("DELETE", f"v2/cache/{image_id}", user="admin").raise_for_status()
    assert not cached.exists()
    assert download(full, image_id) == body
    assert len(reads(full, image_id)) > len(read_before)
    wait_until(cached.exists, 60, "the image is in the cache again")
    assert full.request("DELETE", f"v2/images/{image_id}").status_code == 204
    assert not cached.exists()
    full.wait_settled()


def test_answers_in_gzip(full):
    image_id = full.new_image(b"some bytes")
    full.wait_replicated(image_id)
    wanted = {"Accept-Encoding": "gzip"}
    record = full.request("GET", f"v2/images/{image_id}", headers=wanted)
    assert record.headers["Content-Encoding"] == "gzip"
    assert record.json()["status"] == "active"
    assert download(full, image_id, "gzip") == b"some bytes"
    replicas = full.request("GET", f"v2/images/{image_id}/replicas", headers=wanted)
    assert {replica["status"] for replica in replicas.json()["replicas"]} == {"active"}


@pytest.mark.parametrize("path", ["", "/replicas", "/file"])
def test_cors_headers_are_on_every_answer(full, path):
    image_id = full.new_image(b"some bytes")
    full.wait_replicated(image_id)
    for headers in ({"Origin": ORIGIN}, {"Origin": "http://elsewhere.example"}):
        answer = full.request("GET", f"v2/images/{image_id}{path}", headers=headers)
        assert answer.status_code == 200
        allowed = answer.headers.get("Access-Control-Allow-Origin")
        assert allowed == (ORIGIN if headers["Origin"] == ORIGIN else None)
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}
    answer = full.request("OPTIONS", f"v2/images/{image_id}{path}", headers=preflight)
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]


def trace(secret):
    """The headers of a request that is traced, if the secret is right, and the trace's name."""
    base_id = str(uuid.uuid4())
    wanted = {"base_id": base_id, "parent_id": base_id}
    info, signature = osprofiler_utils.signed_pack(wanted, secret)
    return {"X-Trace-Info": info.decode(), "X-Trace-HMAC": signature}, base_id


def traced(redis, base_id):
    """Method and path of the requests in the trace."""
    points = map(json.loads, Redis(HOST, redis.port).lrange(f"osprofiler_opt:{base_id}", 0, -1))
    requests = [point["info"]["request"] for point in points if point["name"] == "wsgi-start"]
    return {(request["method"], request["path"]) for request in requests}


def test_a_traced_upload(full, redis):
    headers, base_id = trace(SECRET)
    body = image_bytes(MIB)
    image_id = full.new_image(body, headers=headers)
    for target, url in full.wait_replicated(image_id).items():
        assert full.object_bytes(target, url) == body
    path = f"v2/images/{image_id}/replicas"
    assert len(full.request("GET", path, headers=headers).json()["replicas"]) == 3
    assert traced(redis, base_id) == {("PUT", f"/v2/images/{image_id}/file"), ("GET", f"/{path}")}


def test_an_upload_whose_wish_for_a_trace_is_forged(full, redis):
    headers, base_id = trace("another secret")
    full.wait_replicated(full.new_image(b"some bytes", headers=headers))
    assert traced(redis, base_id) == set()
