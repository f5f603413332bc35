# SPDX-License-Identifier: Apache-2.0
"""Nodes at real coordinators, of which several kinds are in use."""

import subprocess
import sys
import threading
import time

import pytest

from glance_repl_mw.coordination import CoordinatedNodes, SharedImageLocks, look
from tests.functional.cloud import TOP
from tests.lab.coordinators import Etcd, Redis
from tests.lab.process import wait_until

SECONDS = 60
OTHER_NODE = """
import sys, threading, time
from glance_repl_mw.coordination import CoordinatedNodes
CoordinatedNodes(sys.argv[1], "other").start(threading.Event())
time.sleep(600)
"""


@pytest.fixture(params=[Redis, Etcd], ids=["redis", "etcd"])
def coordinator(request, workdir, require):
    require(request.param)
    with request.param(workdir("coordinator"), "coordinator") as server:
        yield server


@pytest.fixture
def node(coordinator):
    """A node in this process."""
    stopping = threading.Event()
    node = CoordinatedNodes(coordinator.url, "this")
    node.start(stopping)
    wait_until(lambda: node.alive, SECONDS, "the node is known")
    yield node
    stopping.set()


def test_nodes_come_and_die_and_share_the_images(coordinator, node):
    assert len(node.share()) == 256
    command = [sys.executable, "-W", "ignore", "-c", OTHER_NODE, coordinator.url]
    with subprocess.Popen(command, cwd=TOP) as other:
        try:
            wait_until(lambda: node.alive == {"this", "other"}, SECONDS, "both are known")
            assert 0 < len(node.share()) < 256
            assert look(coordinator.url) == {"this", "other"}
        finally:
            other.kill()
    wait_until(lambda: node.alive == {"this"}, SECONDS, "the dead one is noticed")
    assert len(node.share()) == 256


def test_coordinator_that_dies_and_returns(coordinator, node):
    coordinator.kill()
    wait_until(lambda: node.alive is None, SECONDS, "the loss is noticed")
    assert node.share() == frozenset()
    coordinator.start()
    wait_until(lambda: node.alive == {"this"}, SECONDS, "the node is back")
    assert len(node.share()) == 256


def test_one_at_a_time_holds_the_lock(coordinator):
    first, second = (SharedImageLocks(coordinator.url, name, 0.5) for name in ("a", "b"))
    with first.hold("a0b1") as held, second.hold("A0B1") as held_twice:
        assert (held, held_twice) == (True, False)
    with second.hold("a0b1") as held:
        assert held


def test_without_a_coordinator_no_lock_is_held_and_nobody_waits_for_long(coordinator):
    """The driver for Redis itself would try for a minute."""
    locks = SharedImageLocks(coordinator.url, "a", 0.5)
    with locks.hold("a0b1") as held:
        assert held
    coordinator.kill()
    begun = time.monotonic()
    for _ in range(20):
        with locks.hold("a0b1") as held:
            assert not held
    assert time.monotonic() - begun < SECONDS / 2
    coordinator.start()

    def is_held_again():
        with locks.hold("a0b1") as held:
            return held

    wait_until(is_held_again, SECONDS, "locks are there again")
