# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.lab.body import Body
from tests.lab.targets import http_target
from tests.unit.targets.web import web_server


@pytest.fixture
def web():
    with web_server() as server:
        yield server


@pytest.fixture
def make_target(web):
    """Make a target of the server with short timeouts."""
    made = []

    def make(url=None, **options):
        defaults = {"connect_timeout_seconds": 2, "stall_timeout_seconds": 0.5}
        made.append(http_target(url or web.url, **{**defaults, **options}))
        return made[-1]

    yield make
    web.released.set()
    for target in made:
        target.close()


@pytest.fixture
def put(tmp_path):
    """Write an object and return what the target says it stored."""

    def put(target, content=b"abc", size=-1, name="object"):
        with Body(tmp_path / "body", content).reader() as reader:
            return target.put(name, reader, len(content) if size == -1 else size)

    return put
