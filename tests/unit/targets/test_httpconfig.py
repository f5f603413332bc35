# SPDX-License-Identifier: Apache-2.0
"""Wrong options are named, and secrets are not."""

import pytest

from glance_repl_mw.targets.httpconfig import normalized
from tests.lab.certificates import Authority
from tests.lab.targets import http_target

URL = "https://a.example/images/"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"url": None}, "url: is missing"),
        ({"url": ""}, "url: is missing"),
        ({"url": "a.example/images"}, "url: is not a URL"),
        ({"url": "ftp://a.example/"}, "url: is not a URL"),
        ({"url": "http://"}, "url: is not a URL"),
        ({"url": "http://a.example:port/"}, "url: is not a URL"),
        ({"url": "http://a.example/b c"}, "url: is not a URL"),
        ({"url": "http://[::1/"}, "url: is not a URL"),
        ({"url": "http://h\\evil/x/"}, "url: its host is neither"),
        ({"url": "http://*.example/x/"}, "url: its host is neither"),
        ({"url": "http://a%2Eexample/"}, "url: its host is neither"),
        ({"url": "http://a,b/"}, "url: its host is neither"),
        ({"url": "http://-a.example/"}, "url: its host is neither"),
        ({"url": "http://[::1]a.example/"}, "url: its host is neither"),
        ({"location_url": 'http://a"b/'}, "location_url: its host is neither"),
        ({"url": "http://bob:s3cret@a.example/"}, "url: must not hold credentials"),
        ({"url": "http://bob:s3cret#@a.example/"}, "url: is not a URL"),
        ({"url": "http://bob:s3cret/@a.example/"}, "url: is not a URL"),
        ({"url": "http://bob:[s3cret]@a.example/"}, "url: is not a URL"),
        ({"url": "http://a.example/?s3cret"}, "url: must have neither query"),
        ({"url": "http://a.example/#"}, "url: must have neither query"),
        ({"location_url": "nowhere"}, "location_url: is not a URL"),
        ({"location_url": "http://s3cret@a.example/"}, "location_url: must not hold credentials"),
        ({"location_signing_key": "s3cret"}, "location_signing_key: is not 16"),
        ({"location_signing_key": "s3cret with many blanks"}, "location_signing_key: is not 16"),
        ({"password": "s3cret"}, "password: needs username"),
        ({"token": "s3cret", "username": "bob"}, "token: cannot be combined"),
        ({"token": "s3cret\n"}, "token: holds blanks"),
        ({"username": "bob:s3cret"}, "username: must not hold a colon"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file: /nowhere/ca.pem does not exist"),
        ({"cert_file": "/nowhere/c.pem"}, "cert_file: /nowhere/c.pem does not exist"),
        ({"key_file": "/nowhere/c.key"}, "key_file: needs cert_file"),
        ({"ca_file": __file__}, "ca_file: .* is not usable"),
        ({"cert_file": __file__}, "cert_file: .* is not usable"),
    ],
)
def test_wrong_option_is_named(options, error):
    with pytest.raises(ValueError, match=f"^{error}") as caught:
        http_target(**{"url": URL, **options})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    ["a", "site_a.example", "a-1.example.:80", "127.0.0.1:8080", "[::1]", "[fe80::1%25eth0]:80"],
)
def test_host_may_be_a_name_or_an_address(host):
    target = http_target(f"http://{host}/images/")
    assert target._collection.location("x") == f"http://{host}/images/x"
    target.close()


def test_missing_slash_is_added():
    target = http_target("https://a.example/images")
    assert target._collection.location("x") == "https://a.example/images/x"
    target.close()


def test_certificates_are_read_at_once(tmp_path):
    authority = Authority(tmp_path)
    client = authority.client()
    options = {"ca_file": str(authority.ca_file), "cert_file": str(client.certificate)}
    http_target(URL, **options, key_file=str(client.key)).close()
    with pytest.raises(ValueError, match=r"^cert_file: .* is not usable"):
        http_target(URL, **options, key_file=str(authority.server().key))


def test_capitals_in_scheme_and_host_work_and_the_path_stays():
    target = http_target("HTTP://Site-A.Example/Images", location_url="HTTPS://[2001:DB8::A]:8/B")
    assert target._collection.address("x") == "http://site-a.example/Images/x"
    assert target._collection.location("x") == "https://[2001:db8::a]:8/B/x"
    assert target.object_name("https://[2001:db8::a]:8/B/x") == "x"
    target.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/images/b~c/",
        "http://a.example/images/b~c",
        "http://a.example/images/b~c//",
        "http://a.example:80/images/b~c/",
        "http://a.example./images/b~c/",
        "HTTP://A.example/images/b~c/",
        "http://a.example/images/b%7ec/",
        "http://a.example/im%61ges/b%7Ec/",
        "http://a.example/./images/x/../b~c/.",
        "http://a.example/../images/b~c/",
    ],
)
def test_forms_of_one_url_are_equal(url):
    assert normalized(url) == "http://a.example/images/b~c/"


def test_different_urls_stay_different():
    urls = (
        "http://a.example/",
        "https://a.example/",
        "http://b.example/",
        "http://a.example:8080/",
        "http://a.example/images/",
        "http://a.example/Images/",
        "http://a.example/images%2Fb/",
        "http://a.example/images/b/",
        "http://[::1]/",
        "http://[::1]:8080/",
    )
    assert [normalized(url) for url in urls] == list(urls)
