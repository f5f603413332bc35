# SPDX-License-Identifier: Apache-2.0
"""Signatures are those that nginx checks, and are renewed in time."""

import datetime
import subprocess
from unittest import mock

import pytest
from oslo_utils import timeutils

from glance_repl_mw.signing import Signer, without_signatures

KEY = "a-key-of-a-test-0123"
URL = "https://a.example/images/x.1"
BEGIN = datetime.datetime(2030, 1, 1, 12, 0, 30)
VALID = 800
STEP = 100


def sign(url, seconds=0, *, key=KEY, valid=VALID):
    """What a signer makes of the URL so many seconds after the beginning."""
    moment = BEGIN + datetime.timedelta(seconds=seconds)
    with mock.patch.object(timeutils, "utcnow", return_value=moment):
        return Signer(key, valid).signed(url)


def seconds_left(url):
    begin = BEGIN.replace(tzinfo=datetime.UTC).timestamp()
    return int(url.rpartition("=")[2]) - begin


@pytest.mark.parametrize(
    ("url", "path"),
    [(URL, "/images/x.1"), ("http://[::1]:8080/a%20b/%C3%A4/x", "/a b/ä/x")],
)
def test_signature_as_the_manual_of_nginx_makes_it(url, path):
    signed = sign(url)
    expires = signed.rpartition("=")[2]
    script = (
        "printf '%s' \"$1\" | openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d =\n"
    )  # fmt: skip
    words = ["sh", "-c", script, "sh", f"{expires}{path} {KEY}"]
    digest = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    assert signed == f"{url}?md5={digest}&expires={expires}"


def test_lifetime():
    left = [seconds_left(sign(URL, seconds)) - seconds for seconds in range(2 * STEP)]
    assert min(left) >= VALID and max(left) <= VALID + STEP


def test_what_is_signed_at_the_same_time_is_the_same():
    assert sign(URL) == sign(URL, 1)


@pytest.mark.parametrize("seconds", [0, 1, VALID // 2])
def test_signature_that_lasts_is_kept(seconds):
    signed = sign(URL)
    assert sign(signed, seconds) == signed


@pytest.mark.parametrize("seconds", [VALID / 2 + STEP + 1, VALID + STEP, 10 * VALID])
def test_signature_that_ends_soon_is_renewed(seconds):
    renewed = sign(sign(URL), seconds)
    assert without_signatures(renewed) == URL
    assert seconds_left(renewed) >= seconds + VALID


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"key": "another-key-0123456789"}, {}),
        ({"valid": 10 * VALID}, {}),
        ({}, {"valid": 10 * VALID}),
        ({"seconds": 2 * VALID}, {}),
    ],
    ids=["key", "shorter", "longer", "clock"],
)
def test_signature_that_is_not_what_is_wanted_now_is_made_anew(before, now):
    old = sign(URL, **before)
    assert sign(old, **now) == sign(URL, **now) != old


def test_other_url_with_that_signature_is_signed_anew():
    stolen = sign(URL).replace("x.1", "x.2")
    assert sign(stolen) == sign(URL.replace("x.1", "x.2")) != stolen


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (URL, URL),
        (f"{URL}?md5=0aZ_-&expires=1", URL),
        ("GET /images/x?md5=0aZ&expires=12: 403", "GET /images/x: 403"),
        ("<a>http://a/x?md5=0aZ&amp;expires=12</a>", "<a>http://a/x</a>"),
        (r'{"url": "http://a/x?md5=0aZ\u0026expires=12"}', '{"url": "http://a/x"}'),
        ("http://a/x?md5=0aZ", "http://a/x?md5=0aZ"),
    ],
)
def test_without_signatures(text, left):
    assert without_signatures(text) == left
