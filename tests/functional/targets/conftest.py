# SPDX-License-Identifier: Apache-2.0
"""The kinds of places that every driver's contract is tested on."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glance_repl_mw.targets.base import Remark, Target
from tests.functional.conftest import Require, Workdir
from tests.lab.body import Body
from tests.lab.targets import http_target
from tests.lab.webserver_base import WebServer
from tests.lab.webservers import Apache, Lighttpd, Nginx, WsgiDav

MakeBody = Callable[..., Body]


@dataclasses.dataclass
class Place:
    """A target, and what lies there by the word of the server's own disk.

    :ivar remarks: what check() has to say about it
    """

    target: Target
    root: Path
    remarks: list[Remark]

    def objects(self) -> dict[str, bytes]:
        """All objects by name, finished or not."""
        return {path.name: path.read_bytes() for path in self.root.iterdir() if path.is_file()}

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()


NO_MOVE = Remark("publish=direct: the server has no MOVE")
KINDS = {
    "nginx": (Nginx, {"autoindex": True}, {}, []),
    "nginx-put-delete": (
        Nginx,
        {"autoindex": True, "dav_methods": ("PUT", "DELETE")},
        {},
        [NO_MOVE],
    ),
    "nginx-direct": (Nginx, {"autoindex": True}, {"publish": "direct"}, []),
    "apache": (Apache, {}, {}, []),
    "lighttpd": (Lighttpd, {}, {}, []),
    "wsgidav": (WsgiDav, {}, {}, []),
    "wsgidav-direct": (WsgiDav, {}, {"publish": "direct"}, []),
}


@pytest.fixture(scope="module", params=list(KINDS))
def place(request: pytest.FixtureRequest, workdir: Workdir, require: Require) -> Iterator[Place]:
    server_class, server_options, options, remarks = KINDS[request.param]
    require(server_class)
    server: WebServer
    with server_class(workdir(request.param), **server_options) as server:
        target = http_target(server.url, stall_timeout_seconds=20, **options)
        yield Place(target, server.root, remarks)
        target.close()


@pytest.fixture
def make_body(tmp_path: Path) -> MakeBody:
    """Make the body of an upload: growing, or complete where the content is given."""

    def make(content: bytes | None = None) -> Body:
        return Body(tmp_path / f"body-{len(list(tmp_path.iterdir()))}", content)

    return make
