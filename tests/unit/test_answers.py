# SPDX-License-Identifier: Apache-2.0
"""Answers of Glance that are none never pass for an image, nor for "not there"."""

import json

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.answers import image_of, listing_of, locations_of

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
OTHER = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a12"
RECORD = {
    "id": IMAGE,
    "status": "active",
    "size": 5,
    "checksum": "0" * 32,
    "os_hash_algo": "sha512",
    "os_hash_value": "0" * 128,
    "locations": [{"url": "file:///x", "metadata": {}}],
    "tags": ["golden"],
    "updated_at": "2026-01-01T00:00:00Z",
    "a_field_of_a_later_release": {"deep": []},
}
NONE = [None, [], "text", 5, {}]
CHANGES = [
    {"id": None},
    {"id": 5},
    {"id": ""},
    {"id": "a\nforged line"},
    {"status": "\x1b[31mactive"},
    {"status": "x" * 5000},
    {"status": None},
    {"status": ["active"]},
    {"size": "5"},
    {"size": -1},
    {"size": True},
    {"size": 1.5},
    {"size": 2**63},
    {"size": 10**400},
    {"checksum": 5},
    {"os_hash_algo": ["sha512"]},
    {"os_hash_value": {}},
    {"owner": 7},
    {"locations": None},
    {"locations": 5},
    {"locations": ["file:///x"]},
    {"locations": [{"metadata": {}}]},
    {"locations": [{"url": 5}]},
    {"tags": 5},
    {"tags": [[]]},
    {"updated_at": "yesterday"},
    {"updated_at": 5},
    {"created_at": "0001-01-01T00:00:00+01:00"},
    {"updated_at": "9999-12-31T23:59:59-01:00"},
]


def without(name):
    return {key: value for key, value in RECORD.items() if key != name}


def test_record_is_read_and_unknown_fields_are_no_obstacle():
    image = image_of(RECORD, IMAGE)
    assert (image.image_id, image.size, image.locations) == (IMAGE, 5, ("file:///x",))


@pytest.mark.parametrize("body", NONE)
def test_what_is_no_record(body):
    with pytest.raises(exceptions.GlanceUnavailable):
        image_of(body)


@pytest.mark.parametrize("name", ["id", "status"])
def test_record_that_lacks_what_every_image_has(name):
    with pytest.raises(exceptions.GlanceUnavailable):
        image_of(without(name))


@pytest.mark.parametrize("change", CHANGES, ids=json.dumps)
def test_fields_of_wrong_types(change):
    with pytest.raises(exceptions.GlanceUnavailable):
        image_of({**RECORD, **change})


@pytest.mark.parametrize("name", ["checksum", "os_hash_algo", "os_hash_value", "owner", "name"])
@pytest.mark.parametrize("value", ["", "a\nforged line", "\x1b[31m", "x" * 70_000])
def test_text_of_a_user_makes_no_record_a_wrong_one(name, value):
    assert image_of({**RECORD, name: value}).image_id == IMAGE


def test_record_of_another_image():
    with pytest.raises(exceptions.GlanceUnavailable, match=OTHER):
        image_of({**RECORD, "id": OTHER}, IMAGE)
    with pytest.raises(exceptions.GlanceUnavailable):
        locations_of({**RECORD, "id": OTHER}, IMAGE)


def test_capitals_are_the_same_image():
    assert image_of({**RECORD, "id": IMAGE.upper()}, IMAGE).image_id == IMAGE.upper()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"images": None},
        {"images": {}},
        {"images": "text"},
        {"images": [None]},
        {"images": [RECORD, RECORD]},
        {"images": [RECORD, {**RECORD, "id": IMAGE.upper()}]},
        {"images": [{**RECORD, "id": OTHER}]},
        {"images": [RECORD, without("status")]},
    ],
    ids=json.dumps,
)
def test_lists_that_are_not_what_was_asked_for(body):
    with pytest.raises(exceptions.GlanceUnavailable):
        listing_of(body, 10, [IMAGE])


def test_more_images_than_were_asked_for():
    with pytest.raises(exceptions.GlanceUnavailable):
        listing_of({"images": [RECORD, {**RECORD, "id": OTHER}]}, 1, None)


@pytest.mark.parametrize(("following", "has_more"), [({}, False), ({"next": "/v2/images"}, True)])
def test_list_says_whether_it_goes_on(following, has_more):
    listing = listing_of({"images": [RECORD], **following}, 10, [IMAGE.upper()])
    assert ([image.image_id for image in listing.images], listing.has_more) == ([IMAGE], has_more)
