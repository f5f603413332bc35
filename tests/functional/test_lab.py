# SPDX-License-Identifier: Apache-2.0
"""The servers of the lab work, and work together."""

import io
import subprocess
import sys

import psutil
import pytest
import requests
from oslo_utils.imageutils import format_inspector

from tests.lab.certificates import Authority
from tests.lab.glance import Glance
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Apache, Lighttpd, Nginx, WsgiDav

WEB_SERVERS = (Nginx, Apache, Lighttpd, WsgiDav)


def bytes_of_a_disk(size, _random_bytes=None):
    """What chance may make: bytes that end, or go on, with the signature of a boot record."""
    return b"\x55\xaa" * (size // 2)


@pytest.mark.parametrize("server_class", WEB_SERVERS)
def test_web_server_keeps_what_it_is_sent(server_class, workdir, require):
    require(server_class)
    body = image_bytes(100_000)
    with server_class(workdir("web"), username="bob", password="secret") as server:
        url = f"{server.url}object"
        assert requests.put(url, data=body).status_code == 401
        assert requests.put(url, data=body, auth=server.auth).status_code == 201
        assert (server.root / "object").read_bytes() == body
        assert requests.get(url, auth=server.auth).content == body
        assert requests.delete(url, auth=server.auth).status_code == 204
        assert requests.get(url, auth=server.auth).status_code == 404
    assert [request[1:] for request in server.requests() if request.method == "PUT"] == [
        ("/images/object", 401),
        ("/images/object", 201),
    ]


def test_nginx_wants_certificate_and_token(workdir, require):
    require(Nginx)
    authority = Authority(workdir("certificates"))
    client = tuple(map(str, authority.client()))
    with Nginx(
        workdir("nginx"), tls=authority.server(), client_ca=authority.ca_file, token="opensesame"
    ) as nginx:

        def put(**arguments):
            arguments.setdefault("headers", {"Authorization": "Bearer opensesame"})
            url = f"{nginx.url}object"
            return requests.put(url, data=b"x", verify=authority.ca_file, **arguments).status_code

        assert put(cert=client) == 201
        assert put(cert=client, headers={}) == 401
        assert put() == 400


def test_server_ends_with_the_process_that_started_it(workdir):
    program = f"""
import os, pathlib
from tests.lab.webservers import WsgiDav
print(WsgiDav(pathlib.Path({str(workdir("orphan"))!r})).start().pid, flush=True)
os._exit(0)
"""
    pid = int(subprocess.check_output([sys.executable, "-c", program], timeout=60))
    wait_until(lambda: not alive(pid), 60, "the server has ended")


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("stores", [("primary", "second"), None])
def test_glance_serves_an_image_from_its_primary_and_from_a_location(
    stores, keystone, workdir, require
):
    require(Nginx)
    body = image_bytes(1 << 20)
    with (
        Nginx(workdir("nginx")) as nginx,
        Glance(workdir("glance"), keystone, stores=stores, target_ports=[nginx.port]) as glance,
    ):
        alice = glance.client(keystone.credentials("alice", "demo"))
        admin = glance.client(keystone.credentials())
        image = alice.images.create(name="image", disk_format="raw", container_format="bare")
        alice.images.upload(image.id, io.BytesIO(body))
        assert glance.primary_path(image.id).read_bytes() == body

        (nginx.root / image.id).write_bytes(body)
        admin.images.add_location(image.id, f"{nginx.url}{image.id}", {})
        assert len(alice.images.get(image.id).locations) == 2
        glance.primary_path(image.id).unlink()
        glance.reload()
        assert b"".join(alice.images.data(image.id)) == body

        read = ("GET", f"/images/{image.id}", 200)
        wait_until(lambda: read in nginx.requests(), 60, "the target's log has the request")
    assert (f"/v2/images/{image.id}/file", 204) in [request[1:] for request in glance.requests()]


@pytest.mark.parametrize(("make", "found"), [(image_bytes, "raw"), (bytes_of_a_disk, "gpt")])
def test_random_images_are_no_disks(make, found):
    inspector = format_inspector.InspectWrapper(io.BytesIO(make(600, bytes_of_a_disk)))
    inspector.read(600)
    inspector.close()
    assert [str(format_found) for format_found in inspector.formats] == [found]
