# SPDX-License-Identifier: Apache-2.0
"""Which requests are about locations."""

import json

import pytest

from glance_repl_mw import patches

LOCATION = {"url": "http://site/object", "metadata": {}}
NAME = {"op": "replace", "path": "/name", "value": "/locations"}


@pytest.mark.parametrize(
    "change",
    [
        {"op": "add", "path": "/locations/-", "value": LOCATION},
        {"op": "replace", "path": "/locations", "value": [LOCATION]},
        {"op": "remove", "path": "/locations/0"},
        {"op": "remove", "path": "/ locations /0"},
        {"add": "/locations/-", "value": LOCATION},
        {"remove": "/locations/1"},
    ],
)
def test_what_changes_locations(change):
    for changes in ([change], [NAME, change], [change, NAME]):
        assert patches.changes_locations(json.dumps(changes).encode())


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([NAME]),
        json.dumps([{"op": "add", "path": "/locations_of_mine", "value": "a"}]),
        json.dumps([{"op": "add", "path": "/my/locations", "value": "a"}]),
        json.dumps({"op": "remove", "path": "/locations/0"}),
        json.dumps(["/locations", 1, None, {"path": 2}]),
        "",
        "no JSON",
        "[" * 100_000,
    ],
)
def test_what_changes_no_locations(body):
    assert not patches.changes_locations(body.encode())
    assert not patches.changes_locations(body.encode() + b"\xff")


PRIMARY, A, B = "file:///primary", "http://a/x", "http://b/x"


def left(urls, removed, *, proven_up=(), up=(), proven=None):
    """The URLs that are left of these; what is not of a target is taken for readable."""
    readability = patches.Readability(
        is_known=lambda url: url == PRIMARY or url in proven_up,
        may_be=lambda url: url == PRIMARY or url in (*proven_up, *up),
    )
    found = [{"url": url, "metadata": {}} for url in urls]
    for change in patches.removals(found, removed, readability, proven):
        del found[int(change["path"].rpartition("/")[2])]
    return [each["url"] for each in found]


@pytest.mark.parametrize(
    ("there", "known", "expected"),
    [
        pytest.param([PRIMARY, A], {"up": [A]}, [PRIMARY], id="the primary one is left"),
        pytest.param([A, B], {"proven_up": [B]}, [B], id="the other target is up"),
        pytest.param([A, B], {"up": [A, B]}, [A, B], id="nobody has seen the other one yet"),
        pytest.param([A, B], {"up": [A, B], "proven": B}, [B], id="the other one was just read"),
        pytest.param([A, B], {"up": [B]}, [B], id="its own target is down"),
        pytest.param([A], {"proven": B}, [A], id="what was read is no location any more"),
    ],
)
def test_last_location_that_may_be_readable_stays(there, known, expected):
    assert left(there, [A], **known) == expected
