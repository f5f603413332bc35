# SPDX-License-Identifier: Apache-2.0
"""No credential is ever seen: not in a log, row, location, sidecar, answer or exception."""

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib import parse

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.lab import commands
from tests.lab.process import HOST, wait_until
from tests.lab.webservers import Nginx

USER = "lab-writer"
BASIC_PASSWORD = "lab-basic/p@ss+word"
WRONG_PASSWORD = "lab-basic/wr@ng+word"
TOKEN = "lab-bearer.token/1"
QUOTED_TOKEN = "lab-quoted.token/2"
SERVICE_PASSWORD = "lab-service/p@ss+word"
WRONG_SERVICE_PASSWORD = "lab-service/wr@ng+word"

GOOD = ("basic", "token")
BAD = ("wrong", "quoting")


def basic(password):
    return base64.b64encode(f"{USER}:{password}".encode()).decode()


SECRETS = [
    BASIC_PASSWORD,
    basic(BASIC_PASSWORD),
    WRONG_PASSWORD,
    basic(WRONG_PASSWORD),
    TOKEN,
    QUOTED_TOKEN,
    SERVICE_PASSWORD,
    WRONG_SERVICE_PASSWORD,
]
NEVER_SHOWN = {secret.encode() for secret in SECRETS} | {
    parse.quote(secret, safe="").encode() for secret in SECRETS
}
# A token of Keystone, as every one of them begins; what is shown of it is a hash.
KEYSTONE_TOKEN = b"gAAAAA"
# The configuration itself, and what the servers were given.
KEPT_IN = ("glance-api.conf", "nginx.conf", "htpasswd")


class Quoting(BaseHTTPRequestHandler):
    """Fails, and tells the client what it had sent."""

    def do_PUT(self):
        text = f"cannot serve: {self.headers['Authorization']}".encode()
        self.send_response(500, f"not with {self.headers['Authorization']}")
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_DELETE = do_MKCOL = do_PUT

    def do_GET(self):
        """It has no marker yet, so that one is to be written."""
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        pass


class QuotingServer:
    """The server of a target that answers every write with its own credentials."""

    def __init__(self):
        self._server = ThreadingHTTPServer((HOST, 0), Quoting)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port = self._server.server_address[1]
        self.url = f"http://{HOST}:{self.port}/images/"

    @property
    def running(self):
        return self._thread.is_alive()

    def start(self):
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


def reader_of(server, directory):
    """A server of the same files that lets everybody read, for Glance has no credentials."""
    reader = Nginx(directory, dav_methods=())
    reader.document_root, reader.root = server.document_root, server.root
    return reader


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """Good and bad credentials side by side; Glance and the writer tell all that they can."""
    require(Nginx)
    directory = workdir("secrets")
    targets = {
        "basic": Nginx(directory / "basic", username=USER, password=BASIC_PASSWORD),
        "token": Nginx(directory / "token", token=TOKEN),
        "wrong": Nginx(directory / "wrong", username=USER, password=BASIC_PASSWORD),
        "quoting": QuotingServer(),
    }
    readers = {name: reader_of(targets[name], directory / f"{name}-reader") for name in GOOD}
    keystone.add_user("secretive", SERVICE_PASSWORD, "service", ("admin",))
    service = {**keystone.credentials("secretive", "service"), "password": WRONG_SERVICE_PASSWORD}
    retry = {"retry_initial_seconds": "0.2", "retry_max_seconds": "1"}
    cloud = Cloud(
        directory,
        keystone,
        targets=targets,
        target_options={
            "basic": {
                "username": USER,
                "password": BASIC_PASSWORD,
                "location_url": readers["basic"].url,
            },
            "token": {"token": TOKEN, "location_url": readers["token"].url},
            "wrong": {"username": USER, "password": WRONG_PASSWORD},
            "quoting": {"token": QUOTED_TOKEN},
        },
        options={"replication": {**retry, **service}, "DEFAULT": {"debug": "True"}},
    )
    cloud.glance.target_ports = [server.port for server in (*targets.values(), *readers.values())]
    try:
        for reader in readers.values():
            reader.start()
        with cloud:
            yield cloud
    finally:
        for reader in readers.values():
            reader.stop()


def finds(data):
    return sorted(secret for secret in NEVER_SHOWN if secret in data)


def assert_nothing_is_shown(cloud):
    looked_at = set()
    for path in cloud.directory.rglob("*"):
        if path.is_file() and path.name not in KEPT_IN:
            looked_at.add(path.name)
            assert (str(path), finds(path.read_bytes())) == (str(path), [])
    assert {"glance.log", "glance.sqlite", "replication.sqlite"} <= looked_at
    assert any(name.endswith(".json") for name in looked_at), "a sidecar was looked at"
    assert KEYSTONE_TOKEN not in cloud.glance.log.read_bytes()
    shown = "\n".join(f"{row.error} {row.location_url}" for row in cloud.rows())
    assert finds(shown.encode()) == []


def rows_of(cloud, image_id):
    return {row.target: row for row in cloud.rows(image_id)}


@pytest.fixture(scope="module")
def image_id(cloud):
    """An image that went through every credential, the bad ones first."""
    image_id = cloud.new_image(b"x" * MIB)
    wait_until(
        lambda: [row for row in cloud.rows(image_id) if row.error],
        60,
        "the wrong service password is noticed",
    )
    assert_nothing_is_shown(cloud)
    cloud.glance.stop()
    cloud.glance.options["replication"]["password"] = SERVICE_PASSWORD
    cloud.glance.write_config()
    cloud.glance.start()

    def done():
        cloud.request("GET", "v2/images").raise_for_status()
        rows = rows_of(cloud, image_id)
        return (
            all(rows[name].status == "active" for name in GOOD)
            and all(rows[name].attempts > 0 for name in BAD)
            and rows
        )

    rows = wait_until(done, 60, "good targets are active, bad ones have failed")
    assert "401" in rows["wrong"].error
    assert "500" in rows["quoting"].error and "***" in rows["quoting"].error
    return image_id


def test_files_and_databases(cloud, image_id):
    assert "glance_repl_mw" in cloud.glance.log.read_text()
    assert " DEBUG " in cloud.glance.log.read_text()
    assert_nothing_is_shown(cloud)


@pytest.mark.parametrize("user", ["admin", "alice"])
def test_answers_of_glance(user, cloud, image_id):
    for path in (f"v2/images/{image_id}", f"v2/images/{image_id}/replicas", "v2/images"):
        answer = cloud.request("GET", path, user=user)
        assert answer.status_code == 200, path
        assert finds(answer.content) == []
    for name in (*GOOD, *BAD):
        answer = cloud.request("GET", f"v2/images/{image_id}/replicas/{name}", user=user)
        assert finds(answer.content + repr(answer.headers).encode()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "IMAGE"],
        ["status", "--format", "json"],
        ["check"],
    ],
    ids=" ".join,
)
def test_output_of_glance_repl_manage(arguments, cloud, image_id):
    words = [image_id if word == "IMAGE" else word for word in arguments]
    ended = commands.manage("--config-file", cloud.glance.config_file, *words)
    assert ended.stdout
    shown = (ended.stdout + ended.stderr).encode()
    assert finds(shown) == []
    assert KEYSTONE_TOKEN not in shown


def test_command_line_of_the_writer(cloud, image_id):
    assert finds("\n".join(cloud.writer().cmdline()).encode()) == []
