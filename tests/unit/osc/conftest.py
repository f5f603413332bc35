# SPDX-License-Identifier: Apache-2.0
"""The image proxy of openstacksdk with a Glance in a thread of the test, that tells a story."""

import json
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session
from openstack.connection import Connection

IMAGE = "7f2f2b5e-0c7f-4f3b-9d4c-000000000001"


def replica(target="site-a", status="active", **values):
    """A replica as the service shows it to whoever may see everything."""
    return {
        "image_id": IMAGE,
        "target": target,
        "status": status,
        "size": 100,
        "bytes_sent": 0,
        "progress": 1.0 if status in ("active", "stored") else 0.0,
        "location_url": None,
        "checksum": None,
        "attempts": 0,
        "error": None,
        "next_attempt_at": None,
        "created_at": "2026-11-23T10:00:00Z",
        "updated_at": "2026-11-23T10:00:00Z",
        **values,
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def serve(self):
        path, _, query = self.path.partition("?")
        server = self.server
        server.requests.append((self.command, path, query))
        answers = server.answers.get((self.command, path), [(404, {"message": "Not here."})])
        status, body, *headers = answers.pop(0) if len(answers) > 1 else answers[0]
        content = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        named = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in {**named, **(headers[0] if headers else {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_DELETE = serve

    def log_message(self, *_arguments):
        pass


class FakeGlance(ThreadingHTTPServer):
    """
    :ivar answers: by method and path: (status, body[, headers]) one after the other, the last for
        good
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        image = {"id": IMAGE, "name": "cirros", "status": "active"}
        self.url = f"http://127.0.0.1:{self.server_port}"
        links = [{"rel": "self", "href": f"{self.url}/v2/"}]
        version = {"id": "v2.16", "status": "CURRENT", "links": links}
        self.answers = {
            ("GET", "/"): [(300, {"versions": [version]})],
            ("GET", f"/v2/images/{IMAGE}"): [(200, image)],
        }
        self.requests = []

    def tells(self, method, path, *answers):
        self.answers[method, f"/v2{path}"] = list(answers)

    def becomes(self, target, *replicas):
        """What GET shows of a replica, one after the other."""
        path = f"/images/{IMAGE}/replicas/{target}"
        self.tells("GET", path, *((200, each) for each in replicas))

    def asked(self, method):
        return [(path, query) for each, path, query in self.requests if each == method]


@pytest.fixture
def glance():
    with FakeGlance() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def session():
    session = Session(auth=NoAuth())
    yield session
    session.session.close()


@pytest.fixture
def app(glance, session):
    """What commands see of openstackclient."""
    connection = Connection(session=session, image_endpoint_override=glance.url)
    client_manager = types.SimpleNamespace(image=connection.image)
    yield types.SimpleNamespace(client_manager=client_manager)
    connection.close()
