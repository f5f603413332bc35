# SPDX-License-Identifier: Apache-2.0
"""A request that Glance sends on to another node holds no lock of the image meanwhile."""

import pytest
from glance.api.v2.images import ImagesController

from glance_repl_mw import proxying
from glance_repl_mw.locking import NodeImageLocks

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
(METHOD,) = (name for name in proxying._METHODS if hasattr(ImagesController, name))


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Glance's own method, in whose place the other node takes the lock for the same request."""

    def other_node(_controller, image_id):
        with NodeImageLocks(tmp_path, wait_seconds=0.0).hold(image_id) as is_held:
            return is_held

    monkeypatch.setattr(ImagesController, METHOD, other_node)
    return lambda: getattr(ImagesController, METHOD)(None, IMAGE)


def test_node_that_is_asked_can_have_the_lock(tmp_path, ask):
    locks = NodeImageLocks(tmp_path)
    with locks.hold(IMAGE) as is_held:
        assert is_held
        assert not ask(), "the test is of no use"
    proxying.wrap_glance()
    with locks.hold(IMAGE) as is_held:
        assert is_held
        assert ask()


def test_glance_is_wrapped_once(ask):
    proxying.wrap_glance()
    wrapped = getattr(ImagesController, METHOD)
    proxying.wrap_glance()
    assert getattr(ImagesController, METHOD) is wrapped
