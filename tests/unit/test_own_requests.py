# SPDX-License-Identifier: Apache-2.0
"""Which requests are known as our own."""

import stat
import time

import pytest
from oslo_config import cfg

from glance_repl_mw import opts, own_requests
from glance_repl_mw.own_requests import HEADER, SECRET_FILE, OwnRequests

PATH = "/v2/images/6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
PASSWORD = """
auth_type = password
auth_url = http://keystone
username = replicator
password = {}
"""


@pytest.fixture
def node(tmp_path):
    """What signs on a node of this name, with this configuration."""

    def make(name, more=""):
        spool = tmp_path / name
        spool.mkdir(exist_ok=True)
        file = tmp_path / f"{name}.conf"
        file.write_text(f"[replication]\nspool_dir = {spool}\n{more}")
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[str(file)])
        opts.register_opts(conf)
        return OwnRequests(conf)

    return make


def environ(headers, method="PATCH", path=PATH):
    (value,) = headers.values()
    variable = f"HTTP_{HEADER.upper().replace('-', '_')}"
    return {"REQUEST_METHOD": method, "PATH_INFO": path, variable: value}


def test_nodes_with_the_same_secret_know_each_other(node):
    one, other, stranger = (
        node(name, PASSWORD.format(secret))
        for name, secret in (("a", "hunter2"), ("b", "hunter2"), ("c", "guessed"))
    )
    sent = one.headers("PATCH", f"{PATH}?limit=1")
    received = environ(sent)
    assert other.recognise(received)
    assert HEADER not in {name.removeprefix("HTTP_").title() for name in received}
    assert len(received) == 2, "nobody behind the filter sees the signature"
    assert not stranger.recognise(environ(sent))
    assert "hunter2" not in str(sent)


def test_a_signature_is_for_one_request(node):
    own = node("a", PASSWORD.format("hunter2"))
    sent = own.headers("PATCH", PATH)
    assert own.recognise(environ(sent))
    assert not own.recognise(environ(sent, "DELETE"))
    assert not own.recognise(environ(sent, path=f"{PATH}/file"))


@pytest.mark.parametrize("seconds", [-310, 310])
def test_a_signature_does_not_last(node, monkeypatch, seconds):
    own = node("a", PASSWORD.format("hunter2"))
    sent = own.headers("PATCH", PATH)
    now = time.time()
    monkeypatch.setattr(own_requests.time, "time", lambda: now + seconds)
    assert not own.recognise(environ(sent))


@pytest.mark.parametrize(
    "value", ["", ".", "1", "9" * 5000, "\u0661.x", "-1.x", "\xff.\xff", "1e5."]
)
def test_nonsense_is_nobody_s(node, value):
    own = node("a", PASSWORD.format("hunter2"))
    assert not own.recognise(environ({HEADER: value}))
    assert not own.recognise({"REQUEST_METHOD": "GET", "PATH_INFO": "/"})


def test_without_a_secret_the_node_has_one(node, tmp_path):
    writer, filter_, other = (node(name, "auth_type = none\n") for name in ("a", "a", "b"))
    sent = writer.headers("PATCH", PATH)
    assert filter_.recognise(environ(sent))
    assert not other.recognise(environ(sent))
    file = tmp_path / "a" / SECRET_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "a").iterdir()] == [SECRET_FILE]


def test_without_a_spool_nothing_is_signed(node, tmp_path):
    own = node("a")
    (tmp_path / "a").rmdir()
    assert own.headers("PATCH", PATH) == {}
    assert not own.recognise(environ({HEADER: f"{int(time.time())}.00"}))
