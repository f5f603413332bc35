"""What a node knows of the others; a real coordinator is in tests/functional/test_nodes.py."""

import pytest

from glance_repl_mw import coordination, exceptions
from glance_repl_mw.coordination import CoordinatedNodes


def test_node_that_does_not_know_the_others_looks_after_none():
    nodes = CoordinatedNodes("redis://127.0.0.1:1", "me")
    assert (nodes.alive, nodes.share()) == (None, frozenset())
    assert not nodes.looks_after("a0b1")


def test_nodes_share_all_images_and_each_has_some():
    members = frozenset({"one", "two", "three"})
    shares = []
    for name in sorted(members):
        nodes = CoordinatedNodes("redis://127.0.0.1:1", name)
        nodes._know(members)
        shares.append(set(nodes.share()))
    assert len(set().union(*shares)) == sum(len(share) for share in shares) == 256
    assert min(len(share) for share in shares) > 30


@pytest.mark.parametrize("url", ["nonsense://host", "host"])
def test_url_that_tooz_does_not_know(url):
    with pytest.raises(exceptions.ConfigError, match=r"\[replication\] coordination_url"):
        coordination.check_url(url)


def test_url_of_no_driver_shows_no_secret():
    with pytest.raises(exceptions.ConfigError) as raised:
        coordination.check_url("nonsense://user:hunter2@host")
    assert "hunter2" not in str(raised.value)
