# SPDX-License-Identifier: Apache-2.0
"""A target that signs: how it reads, and what it says of a server that does not play along."""

import pytest

from glance_repl_mw.exceptions import SignatureRefused, TargetRefused
from glance_repl_mw.targets.base import given_location

KEY = "a-key-of-a-test-0123"


@pytest.fixture
def target(web, make_target):
    """It writes and looks with a password, and its replicas are read with a signature."""
    return make_target(
        location_url=web.url.replace("127.0.0.1", "localhost"),
        location_signing_key=KEY,
        username="writer",
        password="secret",
    )


@pytest.fixture
def web(web):
    web.faults["PROPFIND"] = lambda handler: handler.answer(405)
    return web


def is_allowed(handler):
    return "md5=" in handler.path or "Authorization" in handler.headers


def protect(web):
    """Nothing is read without a signature or the password."""

    def read(handler):
        if is_allowed(handler):
            handler.get()
        else:
            handler.answer(403)

    web.faults_of_probes = web.faults
    web.faults["GET"] = web.faults["HEAD"] = read


def test_signature_and_not_the_password_opens_a_replica(web, target):
    protect(web)
    web.objects["x"] = b"abc"
    assert b"".join(target.open("x")) == b"abc"
    target.probe("x")
    target.probe(None)


def test_location_is_known_by_its_plain_url(web, target, put):
    stored = put(target)
    assert "?" not in stored.location_url
    given = given_location([target], stored.location_url)
    assert given.startswith(f"{stored.location_url}?md5=")
    assert target.location(given) == given
    assert given_location([target], "http://elsewhere/x") == "http://elsewhere/x"


def test_signature_is_taken_off_where_there_is_no_key(web, make_target):
    assert make_target().location(f"{web.url}x?md5=a&expires=1") == f"{web.url}x"


@pytest.mark.parametrize("name", ["x", None])
def test_refused_signature_is_explained(web, target, name):
    web.objects["x"] = b"abc"
    web.faults_of_probes = {"GET": lambda handler: handler.answer(403)}
    web.faults["GET"] = web.faults_of_probes["GET"]
    with pytest.raises(SignatureRefused, match="location_signing_key") as caught:
        target.probe(name)
    assert "403" in str(caught.value) and "md5=" not in str(caught.value)
    with pytest.raises(TargetRefused, match=r"location_signing_key") as caught:
        target.check()
    assert "md5=" not in str(caught.value)


def test_check_of_a_server_that_keeps_strangers_out(web, target):
    protect(web)
    assert not [remark for remark in target.check() if remark.remedy]


def test_check_warns_of_what_anybody_can_read(web, target):
    warnings = [remark.text for remark in target.check() if remark.remedy]
    assert [text.partition(":")[0] for text in warnings] == ["location_url", "url"]
