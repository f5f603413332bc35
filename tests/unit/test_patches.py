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
