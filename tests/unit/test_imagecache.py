# SPDX-License-Identifier: Apache-2.0
"""Glance's image cache, and the requests that it must not answer."""

import threading

import pytest
from glance import image_cache

from glance_repl_mw.imagecache import passed_by


@pytest.fixture
def cache(monkeypatch):
    """Glance's class of that name, which has every image."""
    monkeypatch.setattr(image_cache.ImageCache, "is_cached", lambda self, image_id: True)
    return object.__new__(image_cache.ImageCache)


def test_nothing_is_cached_for_who_passes_by(cache):
    assert cache.is_cached("one")
    with passed_by():
        assert not cache.is_cached("one")
    assert cache.is_cached("one")


def test_others_see_the_cache_meanwhile(cache):
    found = []
    with passed_by():
        other = threading.Thread(target=lambda: found.append(cache.is_cached("one")))
        other.start()
        other.join()
    assert found == [True]


def test_glance_is_wrapped_once(cache):
    with passed_by():
        once = image_cache.ImageCache.is_cached
    with passed_by():
        assert image_cache.ImageCache.is_cached is once
