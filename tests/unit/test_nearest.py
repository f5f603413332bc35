# SPDX-License-Identifier: Apache-2.0
"""Glance's order of locations, and what a request prefers to it."""

import threading

import pytest
from glance.common import utils

from glance_repl_mw.nearest import preferring, wrap_glance

LOCATIONS = [
    {"url": "file:///primary/x"},
    {"url": "http://there/x"},
    {"url": "http://here/x?md5=abc&expires=1900000000"},
]
HERE = "http://here/x"


@pytest.fixture(autouse=True)
def wrapped(monkeypatch):
    """Glance's function turns the list round."""
    monkeypatch.setattr(utils, "sort_image_locations", lambda found: found[::-1])
    wrap_glance()


def order():
    return [LOCATIONS.index(each) for each in utils.sort_image_locations(LOCATIONS)]


def test_preferred_location_comes_first_and_others_stay_in_order():
    with preferring("http://there/x"):
        assert order() == [1, 2, 0]
    with preferring(HERE):
        assert order() == [2, 1, 0]
    with preferring("http://elsewhere/x"):
        assert order() == [2, 1, 0]
    assert order() == [2, 1, 0]


def test_signature_does_not_matter(monkeypatch):
    monkeypatch.setattr(utils, "sort_image_locations", list)
    wrap_glance()
    with preferring(HERE):
        assert order() == [2, 0, 1]


def test_preference_is_that_of_one_thread():
    found = []
    with preferring("http://there/x"):
        other = threading.Thread(target=lambda: found.append(order()))
        other.start()
        other.join()
    assert found == [[2, 1, 0]]


def test_glance_is_wrapped_once():
    before = utils.sort_image_locations
    wrap_glance()
    assert utils.sort_image_locations is before


def test_glance_without_the_function_keeps_its_order(monkeypatch):
    monkeypatch.delattr(utils, "sort_image_locations")
    wrap_glance()
    assert not hasattr(utils, "sort_image_locations")
