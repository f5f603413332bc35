"""Other ways to serve Glance than uWSGI: bodies reach the filter there, too."""

import os

import pytest

from tests.functional.cloud import Cloud
from tests.lab.gunicorn import GunicornGlance
from tests.lab.webservers import Nginx


@pytest.fixture(scope="module")
def served(keystone, workdir, require):
    require(Nginx)
    with Cloud(workdir("gunicorn"), keystone, server=GunicornGlance) as cloud:
        yield cloud


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("announced", [False, True], ids=["", "announced"])
@pytest.mark.parametrize("size", [1, 64 << 10, 5 * (1 << 20) + 1])
def test_uploads_under_gunicorn(served, size, chunked, announced):
    body = os.urandom(size)
    image_id = served.new_image(body, chunked=chunked, announce=size if announced else None)
    urls = served.wait_replicated(image_id)
    assert set(urls) == set(served.targets)
    for target, url in urls.items():
        assert served.object_bytes(target, url) == body


def test_one_writer_serves_all_workers(served):
    assert len(served.glance.worker_pids()) == 2
    assert len(served.writers()) == 1
