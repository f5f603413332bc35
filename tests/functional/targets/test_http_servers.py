# SPDX-License-Identifier: Apache-2.0
"""What is particular to HTTP: credentials, TLS, missing collections, what check() finds."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from glance_repl_mw.exceptions import TargetRefused, TargetUnavailable, UploadCut
from glance_repl_mw.targets.base import Remark
from tests.lab.certificates import Authority
from tests.lab.process import wait_until
from tests.lab.targets import http_target
from tests.lab.webservers import Apache, Lighttpd, Nginx, WsgiDav

SERVERS = (Nginx, Apache, Lighttpd, WsgiDav)
PASSWORD = "päss:word%40"


class NginxWithoutParents(Nginx):
    """Nginx that makes collections only when it is told to."""

    def config(self):
        return super().config().replace("create_full_put_path on;", "")


@pytest.fixture(scope="module")
def authority(workdir):
    return Authority(workdir("certificates"))


@pytest.fixture
def put(make_body):
    """Write a small object and return what the target says it stored."""

    def put(target, name="object", content=b"abc"):
        with make_body(content).reader() as reader:
            return target.put(name, reader, len(content))

    return put


def texts(error):
    """All that an error could show: its own text and those of its causes."""
    while error is not None:
        yield f"{error} {error!r} {error.args}"
        error = error.__cause__


@pytest.mark.parametrize("server_class", SERVERS)
def test_basic_credentials(server_class, workdir, require, put):
    require(server_class)
    with server_class(workdir("basic"), username="bob", password=PASSWORD) as server:
        target = http_target(server.url, username="bob", password=PASSWORD)
        put(target)
        assert (server.root / "object").read_bytes() == b"abc"
        assert b"".join(target.open("object")) == b"abc"
        target.delete("object")
        target.close()

        for credentials in ({}, {"username": "bob", "password": "wr0ng-secret"}):
            target = http_target(server.url, **credentials)
            with pytest.raises(TargetRefused, match="401") as caught:
                put(target)
            assert "wr0ng-secret" not in " ".join(texts(caught.value))
            target.close()
        assert not list(server.root.iterdir())


@pytest.mark.parametrize("server_class", [Apache, Lighttpd, WsgiDav])
@pytest.mark.parametrize("publish", ["auto", "direct"])
def test_refused_body_does_not_hide_the_answer(server_class, publish, workdir, require, put):
    """The password is changed after the probe, so that the long body meets the refusal."""
    require(server_class)
    content = bytes(20 * 1024**2)
    old = server_class(workdir("old"), username="bob", password="secret")
    target = http_target(old.url, username="bob", password="secret", publish=publish)
    with old:
        put(target)
    new = server_class(workdir("new"), port=old.port, username="bob", password="another")
    with new, pytest.raises(TargetRefused, match="401"):
        put(target, "other", content)
    target.close()


def test_bearer_token(workdir, require, put):
    require(Nginx)
    with Nginx(workdir("bearer"), token="open-sesame") as server:
        target = http_target(server.url, token="open-sesame")
        assert put(target) == target.stat("object")
        target.close()
        target = http_target(server.url, token="wr0ng-secret")
        with pytest.raises(TargetRefused, match="401") as caught:
            put(target)
        assert "wr0ng-secret" not in " ".join(texts(caught.value))
        target.close()


@pytest.mark.parametrize("server_class", [Nginx, Apache])
@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
def test_tls(server_class, known, authority, workdir, require, make_body):
    require(server_class)
    content = bytes(5 * 1024**2 + 1)
    with server_class(workdir("tls"), tls=authority.server()) as server:
        target = http_target(server.url, ca_file=str(authority.ca_file))
        with make_body(content).reader() as reader:
            target.put("object", reader, len(content) if known else None)
        assert (server.root / "object").read_bytes() == content
        target.check()
        target.close()


@pytest.mark.parametrize("server_class", [Nginx, Apache])
@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
def test_cut_upload_over_tls(server_class, known, authority, workdir, require, make_body):
    require(server_class)
    with server_class(workdir("tls-cut"), tls=authority.server()) as server:
        target = http_target(server.url, ca_file=str(authority.ca_file), publish="direct")
        body = make_body()
        with ThreadPoolExecutor() as pool, body.reader() as reader:
            size = 5 * 1024**2 if known else None
            putting = pool.submit(target.put, "object", reader, size)
            body.append(bytes(3 * 1024**2))
            reader.wait_for_offset(body.size)
            body.cut()
            with pytest.raises(UploadCut):
                putting.result()
        assert not list(server.root.iterdir())
        target.close()


def test_certificate_of_an_unknown_authority(authority, workdir, require, put):
    require(Nginx)
    other = Authority(workdir("other"), "Other CA")
    with Nginx(workdir("tls"), tls=authority.server()) as server:
        for options in ({}, {"ca_file": str(other.ca_file)}):
            target = http_target(server.url, **options)
            with pytest.raises(TargetUnavailable, match=r"certificate is not accepted: .*issuer"):
                put(target)
            target.close()


def test_client_certificate(authority, workdir, require, put):
    require(Nginx)
    client = authority.client()
    options = {"ca_file": str(authority.ca_file)}
    with Nginx(workdir("mutual"), tls=authority.server(), client_ca=authority.ca_file) as server:
        target = http_target(
            server.url, **options, cert_file=str(client.certificate), key_file=str(client.key)
        )
        put(target)
        assert b"".join(target.open("object")) == b"abc"
        with pytest.raises(TargetRefused, match=r"check: read back: .*without credentials"):
            target.check()
        target.close()
        target = http_target(server.url, **options)
        with pytest.raises(TargetRefused, match="400"):
            put(target)
        target.close()


@pytest.mark.parametrize("server_class", [NginxWithoutParents, Apache, Lighttpd, WsgiDav])
@pytest.mark.parametrize("publish", ["auto", "direct"])
def test_missing_collection_is_made(server_class, publish, workdir, require, put):
    require(server_class)
    with server_class(workdir("mkcol")) as server:
        target = http_target(f"{server.url}a%20b/c", publish=publish)
        if server_class is not NginxWithoutParents:
            assert not list(target.list())
        put(target)
        collection = server.root / "a b" / "c"
        assert (collection / "object").read_bytes() == b"abc"

        target.delete("object")
        collection.rmdir()
        with pytest.raises(TargetUnavailable):
            put(target)
        put(target)
        assert (collection / "object").read_bytes() == b"abc"
        target.close()


def test_missing_move_is_refused_where_it_is_wanted(workdir, require, put):
    require(Nginx)
    with Nginx(workdir("put-delete"), dav_methods=("PUT", "DELETE")) as server:
        target = http_target(server.url, publish="move")
        with pytest.raises(TargetRefused, match="405 to MOVE"):
            put(target)
        assert not list(server.root.iterdir())
        target.close()


def test_location_url_is_where_replicas_are_read_without_credentials(workdir, require, put):
    require(Nginx)
    with Nginx(workdir("write"), username="bob", password="secret") as writable:
        readable = Nginx(workdir("read"), dav_methods=())
        readable.document_root = writable.document_root
        with readable:
            target = http_target(
                writable.url, location_url=readable.url, username="bob", password="secret"
            )
            assert put(target).location_url == f"{readable.url}object"
            assert b"".join(target.open("object")) == b"abc"
            wait_until(lambda: ("GET", "/images/object", 200) in readable.requests(), 60, "a GET")
            assert Remark("url: credentials are sent without TLS") in target.check()
            target.close()


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({"dav_methods": ()}, "check: write"),
        ({"dav_methods": ("PUT", "MOVE")}, "check: delete"),
        ({"username": "bob", "password": "secret"}, "check: read back"),
    ],
)
def test_check_names_the_step_that_fails(options, step, workdir, require):
    require(Nginx)
    with Nginx(workdir("check"), **options) as server:
        credentials = {key: options[key] for key in ("username", "password") if key in options}
        target = http_target(server.url, **credentials)
        with pytest.raises(TargetRefused) as caught:
            target.check()
        assert caught.value.operation == step
        target.close()


class LimitedNginx(Nginx):
    most_body_bytes = 100 * 1024**2


class LimitedApache(Apache):
    """As Apache is from 2.4.54 on, unless it is told otherwise."""

    most_body_bytes = 1024**3


@pytest.mark.parametrize(
    ("server_class", "is_limited"),
    [
        (LimitedNginx, True),
        (LimitedApache, True),
        (Nginx, False),
        (Apache, False),
        (Lighttpd, False),
        (WsgiDav, False),
    ],
)
def test_check_warns_of_a_limit_above_what_it_writes(server_class, is_limited, workdir, require):
    require(server_class)
    with server_class(workdir("limit")) as server:
        target = http_target(server.url)
        warnings = [remark.text for remark in target.check() if remark.remedy]
        assert ["takes no body of 1 TiB" in text for text in warnings] == [True] * is_limited
        # Nor does what was announced leave anything, or what the server writes to at first.
        assert not list(server.root.iterdir())
        target.close()


def test_server_without_a_listing(workdir, require):
    require(Nginx)
    with Nginx(workdir("no-listing")) as server:
        target = http_target(server.url)
        with pytest.raises(TargetRefused, match="autoindex_format json"):
            list(target.list())
        assert any("does not list" in remark.text for remark in target.check())
        target.close()


def test_server_that_comes_back(workdir, require, put):
    """Connections that were kept from before its restart fail nothing."""
    require(Nginx)
    with Nginx(workdir("restarted")) as server:
        target = http_target(server.url)
        put(target)
        server.stop()
        with pytest.raises(TargetUnavailable, match="refused"):
            target.stat("object")
        server.start()
        put(target, "second")
        assert target.stat("object").size == target.stat("second").size == 3
        target.close()
