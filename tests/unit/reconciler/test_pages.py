# SPDX-License-Identifier: Apache-2.0
"""Going through all images while some of them are deleted."""

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image
from glance_repl_mw.reconciler import pages as pages_module
from glance_repl_mw.reconciler.pages import pages


class Images:
    """Images by id in Glance's order; a marker that is not there is refused, as Glance does."""

    def __init__(self, shown, hidden=()):
        self.lists = {False: list(shown), True: list(hidden)}

    def page(self, after, limit, *, hidden=False):
        ids = self.lists[hidden]
        if after is not None and after not in ids:
            raise exceptions.GlanceRefused(after, None, "list images", "no such marker")
        start = ids.index(after) + 1 if after else 0
        return [Image(each, "active", 1, None, None, None, ()) for each in ids[start:][:limit]]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(pages_module, "_PAGE", 2)


def ids(page):
    return [image.image_id for image in page]


def test_every_image_comes_once_the_hidden_ones_last():
    assert [ids(page) for page in pages(Images("abcde", "xyz"))] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
        ["x", "y"],
        ["z"],
    ]


def test_images_that_are_deleted_meanwhile_do_not_end_it():
    images = Images("abcd")
    walk = pages(images)
    assert ids(next(walk)) == ["a", "b"]
    images.lists[False].remove("b")
    assert ids(next(walk)) == ["c", "d"]


def test_page_that_vanished_altogether_is_an_error_and_no_early_end():
    images = Images("abcd")
    walk = pages(images)
    next(walk)
    images.lists[False] = ["c", "d"]
    with pytest.raises(exceptions.GlanceRefused, match="no such marker"):
        next(walk)
