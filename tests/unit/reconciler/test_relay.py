# SPDX-License-Identifier: Apache-2.0
"""Images that are too large for the spool, copied straight to a target."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.model import Priority, Stored
from glance_repl_mw.reconciler.relay import Relay
from tests.unit.reconciler.target_lab import BODY, SITE, Lab, url_of

POOL = "the threads of the target"


class RelayLab(Lab):
    """Its target can be written, by the threads that are noted in `writers`."""

    def __init__(self, directory, pool):
        super().__init__(directory)
        self.tools = dataclasses.replace(self.tools, pools={SITE: pool})
        self.images.download = self._download
        self.target.put = self._put
        self.writers = []
        self.meanwhile = None

    def _download(self, image_id, *, past_cache=False):
        yield from (BODY[:500], BODY[500:])

    def _put(self, name, reader, size):
        self.writers.append(threading.current_thread().name)
        body = b"".join(iter(reader.read, b""))
        assert size == len(body)
        if self.meanwhile:
            self.meanwhile()
        self.target.objects[name] = body
        return Stored(url_of(name), len(body))

    def plan(self):
        image_id = self.add_image()
        self.survey.plan(image_id, [SITE], Priority.REPAIR, len(BODY))
        return image_id

    def relay(self, image_id):
        Relay(self.tools, self.image(image_id), [self.row(image_id)]).run([self.row(image_id)])


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1, thread_name_prefix=POOL) as pool:
        yield pool


@pytest.fixture
def lab(tmp_path, pool):
    lab = RelayLab(tmp_path, pool)
    yield lab
    lab.close()


def test_image_is_copied_and_its_location_is_due(lab):
    image_id = lab.plan()
    lab.relay(image_id)
    row = lab.row(image_id)
    assert (row.status, row.size, row.node) == ("stored", len(BODY), None)
    assert row.location_url == url_of(row.object_name)
    assert row.next_attempt_at is not None
    assert lab.target.objects == {row.object_name: BODY}


def test_it_is_one_of_the_pushes_that_the_target_has_at_once(lab, pool):
    """While others have all of its connections, it waits."""
    image_id = lab.plan()
    has_begun, is_free = threading.Event(), threading.Event()
    others = pool.submit(lambda: has_begun.set() or is_free.wait())
    has_begun.wait()
    relay = threading.Thread(target=lab.relay, args=[image_id])
    relay.start()
    try:
        while not pool._work_queue.qsize():
            assert not lab.writers
            relay.join(0.01)
    finally:
        is_free.set()
        relay.join()
    assert others.result()
    assert [name.startswith(POOL) for name in lab.writers] == [True]
    assert lab.row(image_id).status == "stored"


def test_failure_is_tried_again_later(lab):
    def fail():
        raise exceptions.TargetUnavailable(target=SITE, hint="disk full")

    image_id = lab.plan()
    lab.meanwhile = fail
    lab.relay(image_id)
    row = lab.row(image_id)
    assert (row.status, row.attempts, row.node) == ("error", 1, None)
    assert "disk full" in row.error
    assert row.next_attempt_at > row.updated_at


def test_former_object_stays_until_the_new_one_is_active(lab):
    image_id = lab.plan()
    lab.target.objects["former"] = b"broken"
    lab.survey.change(lab.row(image_id), object_name="former")
    lab.relay(image_id)
    assert set(lab.target.objects) == {"former", lab.name(image_id)}
    assert lab.row(image_id).object_names == [lab.name(image_id), "former"]


def test_copy_goes_where_another_node_has_taken_the_replica_over(lab):
    image_id = lab.plan()
    lab.meanwhile = lambda: lab.survey.change(
        lab.row(image_id), node="another", object_name="its own attempt"
    )
    lab.relay(image_id)
    assert (lab.row(image_id).node, lab.target.objects) == ("another", {})


def test_copy_stays_while_the_row_that_another_node_has_taken_tells_of_it(lab):
    """That node may be about to make it a location; else it goes with its earlier attempts."""
    image_id = lab.plan()
    lab.meanwhile = lambda: lab.survey.change(lab.row(image_id), node="another")
    lab.relay(image_id)
    assert list(lab.target.objects) == [lab.row(image_id).object_name]
