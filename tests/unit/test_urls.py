"""What is told of URLs, whose passwords end wherever a parser thinks."""

import pytest

from glance_repl_mw import urls


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://bob:pw@host/x", "http://***@host/x"),
        ("http://bob:p@w@host/x", "http://***@host/x"),
        ("http://bob:p#w@host/x", "http://***@host/x"),
        ("http://bob:p/w@host/x", "http://***@host/x"),
        ("http://bob:1/w?@host/x", "http://bob:1/w?@host/x"),
        ("see https://bob@host:1/ and a@b", "see https://***@host:1/ and a@b"),
        ("http://host/a@b", "http://host/a@b"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
    ],
)
def test_user_and_password_are_not_shown(text, shown):
    """Nothing tells a password that looks like a port and a path from these."""
    assert urls.without_user_info(text) == shown


@pytest.mark.parametrize(
    ("url", "is_url"),
    [
        ("http://host", True),
        ("http://host:80/path?a=b@c", True),
        ("http://u:p%23w@[::1]:80", True),
        ("zookeeper://host?hosts=a@b", True),
        ("file:///var/lib/a@b", True),
        ("host", False),
        ("http://u:hunter2#@host", False),
        ("http://u:hunter2?@host", False),
        ("http://u:12/34@host", False),
        ("http://u:[hunter2]@host", False),
        ("http://host:port", False),
    ],
)
def test_what_is_a_url(url, is_url):
    assert urls.is_url(url) is is_url


def test_parts_of_a_password_are_secret():
    secrets = urls.secrets_in("redis://bob:hunter2#in:a@big%20house/w@host.example:1/0")
    assert {"hunter2", "hunter2#in:a@big house/w"} <= secrets
    assert not {"bob", "host.example", "in", "a", ""} & secrets
    for url in ("redis://host:6379", "redis://bob@host", "no url", "pass@word"):
        assert urls.secrets_in(url) == set()
