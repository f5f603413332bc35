# SPDX-License-Identifier: Apache-2.0
"""One hostile target beside two good ones: it harms nobody, and is told for what it is."""

import re
import time

import psutil
import pytest

from tests.functional.cloud import MIB, Cloud
from tests.lab import hostile
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

GOOD = ("site-a", "site-b")
MOST_GROWTH = 150 * MIB
QUICK = {
    "reconcile_interval_seconds": "1",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
    "probe_interval_seconds": "0.5",
    "orphan_interval_seconds": "1",
}
# What it does, the seconds between two parts of it, and what its error says.
MANNERS = {
    "gzip-bomb": (hostile.gzip_bomb, 0, "207"),
    "endless-error": (hostile.endless_error, 0, "500 Out of order"),
    "dripping-error": (hostile.dripping_error, 0.3, "500 Slow"),
    "dripping-head": (hostile.dripping_head, 0.3, "no answer for"),
    "endless-headers": (hostile.endless_headers, 0, "more than 100 headers"),
    "mad-retry-after": (hostile.mad_retry_after, 0, "503 Mad"),
    "endless-interim": (hostile.endless_interim, 0, "interim answers|no answer for"),
    "endless-redirect": (hostile.endless_redirect, 0, "302|no connection"),
}


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    require(Nginx)
    directory = workdir("hostile")
    targets = {name: Nginx(directory / name) for name in GOOD}
    targets["bad"] = hostile.HostileTarget(directory / "bad")
    options = {"stall_timeout_seconds": "1", "connect_timeout_seconds": "1"}
    with Cloud(
        directory,
        keystone,
        targets=targets,
        target_options={"bad": options},
        options={"replication": QUICK},
    ) as cloud:
        yield cloud


class Memory:
    """The most that a process has held since now, in bytes."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._reset()
        self.before = self.most

    def _reset(self) -> None:
        with open(f"/proc/{self._process.pid}/clear_refs", "w") as file:
            file.write("5")

    @property
    def most(self) -> int:
        """VmHWM: the kernel keeps it, so that no peak is missed between two looks."""
        with open(f"/proc/{self._process.pid}/status") as file:
            (line,) = [line for line in file if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024


@pytest.fixture
def memory(cloud):
    cloud.wake()
    memory = Memory(cloud.writer())
    yield memory
    assert memory.most - memory.before < MOST_GROWTH
    assert cloud.writer().pid == memory._process.pid


def state_of(cloud, target):
    listed = cloud.request("GET", "v2/replication/targets", user="admin").json()["targets"]
    return next(each for each in listed if each["name"] == target)


def assert_clean(text):
    assert text.isprintable(), text
    assert len(text) < 1000
    assert not re.search(r"object at 0x|[A-Z]\w*(Connection|Pool|Error)\(", text), text


@pytest.mark.parametrize("name", MANNERS)
def test_hostile_answers_harm_nobody_else(name, cloud, memory):
    manner, pause, match = MANNERS[name]
    bad = cloud.targets["bad"]
    bad.behave(manner, pause)
    bodies = [image_bytes(MIB) for _ in range(3)]
    ids = [cloud.new_image(body) for body in bodies]
    for image_id, body in zip(ids, bodies, strict=True):
        urls = cloud.wait_replicated(image_id, GOOD)
        assert [cloud.object_bytes(*place) == body for place in urls.items()] == [True, True]

    def told():
        row = cloud.row(ids[0], "bad")
        return row.error if row.status == "error" and re.search(match, row.error or "") else None

    error = wait_until(told, 60, "its error is told")
    assert_clean(error)
    wait_until(lambda: state_of(cloud, "bad")["health"] == "down", 60, "it is told to be down")
    for node in state_of(cloud, "bad")["nodes"]:
        assert_clean(node["error"])
    assert {state_of(cloud, each)["health"] for each in GOOD} == {"up"}
    bad.behave(hostile.serve_well)
    for image_id in ids:
        cloud.wait_replicated(image_id)


def test_endless_listing(cloud, memory):
    bad = cloud.targets["bad"]
    bad.behave(hostile.endless_listing)
    begin = time.monotonic()
    body = image_bytes(MIB)
    image_id = cloud.new_image(body)
    cloud.wait_replicated(image_id)
    wait_until(lambda: "PROPFIND" in bad.asked, 90, "it is asked for its objects")
    asked = time.monotonic()
    wait_until(lambda: time.monotonic() - asked > 8, 30, "the listing has gone on for a while")
    assert time.monotonic() - begin < 150
    assert memory.most - memory.before < MOST_GROWTH
    second = cloud.new_image(body)
    cloud.wait_replicated(second)
    bad.behave(hostile.serve_well)
