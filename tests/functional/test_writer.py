# SPDX-License-Identifier: Apache-2.0
"""The writer process: how many there are, how it dies, how it ends, what it finds at its start."""

import dataclasses
import datetime
import fcntl
import json
import os
import queue
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Self

import pytest
from oslo_utils import timeutils

from glance_repl_mw.db import schema
from glance_repl_mw.db.states import TargetStates
from tests.functional.cloud import MIB, Cloud, at_once
from tests.lab.faults import DOWN, HEALTHY, Fault, FaultyProxy, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import Server, wait_until
from tests.lab.uwsgi import PATIENT_SQLITE
from tests.lab.webservers import Nginx, WsgiDav

HALF_WAY = Fault(hang_after=MIB)
NICE = 3
RETRY = {"retry_initial_seconds": "0.2", "retry_max_seconds": "1"}
# After so long nobody relies on what a writer has said.
SILENT = datetime.timedelta(seconds=60)
PATIENCE = {"stall_timeout_seconds": "60"}

kernel_groups_sessions = pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="the kernel groups no sessions"
)


class Writer(Server):
    """The service glance-repl-writer of a cloud whose filter starts none."""

    def __init__(self, cloud: Cloud, name: str = "writer") -> None:
        super().__init__(cloud.directory, name)
        self._config_file = cloud.glance.config_file
        self._begun_before = 0

    def start(self) -> Self:
        self._begun_before = self._begun()
        return super().start()

    def command(self) -> list[str]:
        program = Path(sys.executable).with_name("glance-repl-writer")
        return [sys.executable, str(program), "--config-file", str(self._config_file)]

    def ready(self) -> bool:
        return self._begun() > self._begun_before

    def _begun(self) -> int:
        return self.log.read_text().count("The writer begins") if self.log.exists() else 0

    def end(self) -> int:
        """Send SIGTERM; returns the exit status."""
        self.signal(signal.SIGTERM)
        # A push that hangs would hold it for a minute.
        wait_until(lambda: not self.running, 40, f"{self.name} has ended")
        status = self._process.returncode
        self.stop()
        return status


class Uploader:
    """Sends a body piece by piece, as the test says, and tells what Glance answered."""

    def __init__(self, cloud, **upload):
        self.image_id = cloud.create_image()
        self.body = b""
        self._pieces = queue.SimpleQueue()
        self._answer = None
        self._thread = threading.Thread(target=self._run, args=(cloud, upload), daemon=True)
        self._thread.start()

    def send(self, count):
        piece = image_bytes(count)
        self.body += piece
        self._pieces.put(piece)

    def finish(self):
        self._pieces.put(b"")
        self._thread.join(150)
        assert self._answer.status_code == 204, self._answer.text

    def _run(self, cloud, upload):
        body = iter(self._pieces.get, b"")
        self._answer = cloud.upload(self.image_id, body, **upload)


def make_cloud(directory, keystone, replication=None, **arguments):
    """A healthy Nginx, and an Nginx and a WsgiDAV whose connections the test rules."""
    targets = {
        "site-a": Nginx(directory / "site-a"),
        "nginx": FaultyTarget(Nginx(directory / "nginx")),
        "wsgidav": FaultyTarget(WsgiDav(directory / "wsgidav")),
    }
    return Cloud(
        directory,
        keystone,
        targets=targets,
        target_options={"nginx": PATIENCE, "wsgidav": PATIENCE},
        options={"replication": {**RETRY, **(replication or {})}},
        **arguments,
    )


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    for server in (Nginx, WsgiDav):
        require(server)
    cloud = make_cloud(workdir("embedded"), keystone, processes=3, threads=2)
    cloud.way_to_glance = FaultyProxy(cloud.glance)
    with cloud.way_to_glance:
        cloud.glance.options["replication"]["endpoint_override"] = cloud.way_to_glance.url
        cloud.glance.options["replication"]["writer_nice"] = str(NICE)
        with cloud:
            yield cloud


@pytest.fixture
def faulty(cloud):
    """The two targets that can be held, with every connection reset at the end."""
    targets = [cloud.targets["nginx"], cloud.targets["wsgidav"]]
    yield targets
    switch(targets, HEALTHY)


def switch(targets, fault):
    for target in targets:
        target.switch(fault)


def hold_pushes(cloud, faulty, body):
    """Upload an image and return once both faulty targets have half of it."""
    cloud.wait_settled()
    switch(faulty, HALF_WAY)
    image_id = cloud.new_image(body)
    wait_until(lambda: all(t.received_bytes >= MIB for t in faulty), 60, "half is sent")
    wait_until(lambda: "wsgidav" in cloud.objects(image_id), 60, "WsgiDAV shows a partial object")
    return image_id


def kill_writer(cloud):
    """Kill the writer as the kernel would, and return once another runs."""
    killed = cloud.writer()
    killed.kill()
    wait_until(lambda: killed not in cloud.writers(), 60, "the writer is dead")
    assert cloud.writer().pid != killed.pid


def start_again(cloud):
    """Start Glance, whose filter starts the writer with the first request that it sees."""
    cloud.glance.start()
    cloud.request("GET", "v2/images").raise_for_status()


# Embedded


def test_one_writer_serves_all_api_processes(cloud):
    at_once(16, lambda _: cloud.request("GET", "v2/images").raise_for_status(), range(64))
    image_ids = at_once(4, cloud.new_image, [image_bytes(MIB) for _ in range(12)])
    assert len(cloud.glance.worker_pids()) == 3
    (writer,) = cloud.writers()
    for image_id in image_ids:
        cloud.wait_replicated(image_id)
    assert cloud.writers() == [writer]
    assert cloud.glance.log.read_text().count("The writer begins") <= 1


def test_every_thread_of_the_writer_gives_way(cloud):
    cloud.assert_replicated(cloud.new_image(b"some bytes"), b"some bytes")
    (writer,) = cloud.writers()
    threads = [thread.id for thread in writer.threads()]
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {NICE}


@kernel_groups_sessions
def test_an_embedded_writer_shares_its_processors_with_glance_alone(cloud):
    cloud.wait_replicated(cloud.new_image(b"seen by a writer"))
    processes = [cloud.writer().pid, *cloud.glance.worker_pids()]
    assert len({Path(f"/proc/{pid}/autogroup").read_text() for pid in processes}) == 1


def test_threads_that_hash_and_send_have_spare_time_only(cloud):
    cloud.assert_replicated(cloud.new_image(b"some bytes"), b"some bytes")
    policies = Counter(os.sched_getscheduler(each.id) for each in cloud.writer().threads())
    assert policies[os.SCHED_IDLE] >= 1 + len(cloud.targets)
    assert policies[os.SCHED_OTHER] >= 2


def test_killed_writer_is_replaced_and_finishes_its_pushes(cloud, faulty):
    body = image_bytes(4 * MIB)
    image_id = hold_pushes(cloud, faulty, body)
    kill_writer(cloud)
    switch(faulty, HEALTHY)
    cloud.assert_replicated(image_id, body)


def test_writer_is_killed_again_and_again(cloud, faulty):
    body = image_bytes(4 * MIB)
    image_id = hold_pushes(cloud, faulty, body)
    for _ in range(2):
        kill_writer(cloud)
        switch(faulty, HALF_WAY)
        wait_until(lambda: all(t.received_bytes >= MIB for t in faulty), 60, "half is sent")
    switch(faulty, HEALTHY)
    cloud.assert_replicated(image_id, body)


def test_writer_is_killed_while_the_upload_is_received(cloud, faulty):
    cloud.wait_settled()
    switch(faulty, HEALTHY)
    for upload in ({}, {"announce": 6 * MIB}):
        uploader = Uploader(cloud, **upload)
        uploader.send(3 * MIB)
        wait_until(lambda: all(t.received_bytes >= 2 * MIB for t in faulty), 60, "half is sent")
        kill_writer(cloud)
        uploader.send(3 * MIB)
        uploader.finish()
        cloud.assert_replicated(uploader.image_id, uploader.body)
        switch(faulty, HEALTHY)


def test_what_a_killed_writer_left_goes_also_when_the_target_was_down(cloud, faulty):
    body = image_bytes(4 * MIB)
    image_id = hold_pushes(cloud, faulty, body)
    switch(faulty, DOWN)
    kill_writer(cloud)
    wait_until(
        lambda: all(cloud.row(image_id, name).attempts >= 2 for name in ("nginx", "wsgidav")),
        60,
        "the new writer has tried",
    )
    cloud.wait_replicated(image_id, ["site-a"])
    assert set(cloud.replica_urls(image_id)) == {"site-a"}
    switch(faulty, HEALTHY)
    cloud.assert_replicated(image_id, body)


def test_bytes_of_a_dead_writer_that_arrive_late_leave_no_object(cloud, faulty):
    """The kernel goes on sending what it has when a process dies, here the whole rest."""
    body = image_bytes(400_000)
    cloud.wait_settled()
    switch(faulty, Fault(bytes_per_second=40_000))
    image_id = cloud.new_image(body)

    def all_in_the_kernel():
        rows = cloud.rows(image_id)
        return all(row.bytes_sent == len(body) for row in rows) and len(rows) == 3

    wait_until(all_in_the_kernel, 60, "everything is sent")
    assert all(target.received_bytes < len(body) for target in faulty)
    kill_writer(cloud)
    cloud.assert_replicated(image_id, body)


def test_refused_upload_of_a_killed_writer_leaves_nothing(cloud, faulty):
    cloud.wait_settled()
    switch(faulty, HEALTHY)
    image_id = cloud.create_image(disk_format="qcow2")
    answers = []

    def pieces():
        yield image_bytes(3 * MIB)
        wait_until(lambda: all(t.received_bytes >= 2 * MIB for t in faulty), 60, "half is sent")
        kill_writer(cloud)
        yield image_bytes(MIB)

    answers.append(cloud.upload(image_id, pieces()).status_code)
    assert answers == [415]
    cloud.assert_no_trace(image_id)


def test_api_processes_are_replaced_while_pushes_run(cloud, faulty):
    body = image_bytes(4 * MIB)
    image_id = hold_pushes(cloud, faulty, body)
    uploader = Uploader(cloud)
    uploader.send(2 * MIB)
    wait_until(lambda: cloud.rows(uploader.image_id), 60, "the second upload is in hand")
    cloud.glance.signal(signal.SIGHUP)
    uploader.send(2 * MIB)
    uploader.finish()
    cloud.glance.wait_ready()
    switch(faulty, HEALTHY)
    cloud.assert_replicated(image_id, body)
    cloud.assert_replicated(uploader.image_id, uploader.body)
    assert_one_writer(cloud)


def test_reload_with_another_configuration_replaces_the_writer(cloud, faulty):
    """Also a writer that still has work in hand, which the next one finishes."""
    body = image_bytes(4 * MIB)
    image_id = hold_pushes(cloud, faulty, body)
    (before,) = cloud.writers()
    cloud.glance.options = {
        **cloud.glance.options,
        "replication": {**cloud.glance.options["replication"], "location_batch_seconds": "0.3"},
    }
    cloud.glance.write_config()
    cloud.glance.reload()

    def replaced():
        cloud.request("GET", "v2/images").raise_for_status()
        return [writer.pid for writer in cloud.writers()] not in ([], [before.pid])

    wait_until(replaced, 60, "another writer runs")
    switch(faulty, HEALTHY)
    cloud.assert_replicated(image_id, body)
    assert_one_writer(cloud)


def assert_one_writer(cloud):
    """For a moment there may be none: one ends with the last of the earlier processes."""
    assert len(wait_until(cloud.writers, 60, "a writer runs")) == 1


def test_killed_api_processes_take_no_accepted_upload_with_them(cloud, faulty):
    body = image_bytes(4 * MIB)
    image_id = hold_pushes(cloud, faulty, body)
    for pid in cloud.glance.worker_pids():
        os.kill(pid, signal.SIGKILL)
    cloud.glance.wait_ready()
    switch(faulty, HEALTHY)
    cloud.assert_replicated(image_id, body)
    assert_one_writer(cloud)


def test_writer_finishes_what_is_in_hand_and_ends_with_the_last_api_process(cloud, faulty):
    body = image_bytes(1_000_000)
    cloud.wait_settled()
    switch(faulty, Fault(bytes_per_second=80_000))
    image_id = cloud.new_image(body)
    cloud.wait_replicated(image_id, ["site-a"])
    cloud.glance.stop()
    assert "uploading" in {cloud.row(image_id, name).status for name in ("nginx", "wsgidav")}
    wait_until(lambda: not cloud.writers(), 60, "the writer has ended")
    assert {cloud.row(image_id, name).status for name in ("nginx", "wsgidav")} == {"stored"}
    assert [status for _, status in cloud.puts(image_id, "nginx")] == [201]
    switch(faulty, HEALTHY)
    start_again(cloud)
    cloud.assert_replicated(image_id, body)
    assert [status for _, status in cloud.puts(image_id, "nginx")] == [201]


def test_writer_ends_although_glance_can_prove_nothing_any_more(cloud, faulty):
    """The tail of a body waits for the proof; nobody will give it once Glance has stopped."""
    cloud.wait_settled()
    switch(faulty, HEALTHY)
    cloud.way_to_glance.switch(DOWN)
    uploader = Uploader(cloud)
    uploader.send(MIB)
    wait_until(lambda: pushing(cloud, uploader.image_id), 60, "the pushes run")
    uploader.finish()
    wait_until(
        lambda: all(row.error for row in cloud.rows(uploader.image_id)),
        60,
        "the proof has failed",
    )
    assert pushing(cloud, uploader.image_id)
    cloud.glance.stop()
    # Less than the time that it has for pushes which can be finished.
    wait_until(lambda: not cloud.writers(), 25, "the writer has ended")
    assert cloud.objects(uploader.image_id) == {}
    cloud.way_to_glance.switch(HEALTHY)
    start_again(cloud)
    cloud.assert_replicated(uploader.image_id, uploader.body)


def pushing(cloud, image_id):
    """Whether a push to each target is under way."""
    return list(cloud.statuses(image_id).values()) == ["uploading"] * len(cloud.targets)


def test_recycled_api_processes_lose_nothing(keystone, workdir, require):
    """uWSGI ends a process after a few requests, and another takes its place."""
    require(Nginx)
    bodies = [image_bytes(MIB) for _ in range(16)]
    few_requests = ("--max-requests", "10", "--min-worker-lifetime", "1")
    with Cloud(
        workdir("recycled"), keystone, uwsgi_arguments=(*PATIENT_SQLITE, *few_requests)
    ) as recycled:
        before = recycled.glance.worker_pids()
        image_ids = at_once(4, recycled.new_image, bodies)
        recycled.wait_settled()
        for image_id, body in zip(image_ids, bodies, strict=True):
            urls = recycled.wait_replicated(image_id)
            assert all(recycled.object_bytes(*place) == body for place in urls.items())
        assert not set(before) & set(recycled.glance.worker_pids())
        assert len(recycled.writers()) == 1


# External


@pytest.fixture(scope="module")
def external(keystone, workdir, require):
    for server in (Nginx, WsgiDav):
        require(server)
    options = {"writer": "external", "writer_grace_seconds": "4", "writer_nice": str(NICE)}
    with make_cloud(workdir("external"), keystone, options) as cloud:
        yield cloud


@pytest.fixture
def held(external):
    targets = [external.targets["nginx"], external.targets["wsgidav"]]
    yield targets
    switch(targets, HEALTHY)


def test_spool_waits_for_the_writer(external):
    bodies = [image_bytes(MIB) for _ in range(3)]
    image_ids = [external.new_image(body) for body in bodies]
    assert len(external.spool_files()) == 2 * len(bodies)
    assert external.writers() == []
    assert external.objects() == {}
    with Writer(external):
        for image_id, body in zip(image_ids, bodies, strict=True):
            external.assert_replicated(image_id, body)


def test_asked_to_stop_the_writer_leaves_what_hangs_to_the_next(external, held):
    body = image_bytes(4 * MIB)
    writer = Writer(external).start()
    image_id = hold_pushes(external, held, body)
    external.wait_replicated(image_id, ["site-a"])
    started = time.monotonic()
    assert writer.end() == 0
    assert time.monotonic() - started > 3
    assert len(external.spool_files()) == 2
    switch(held, HEALTHY)
    with writer:
        external.assert_replicated(image_id, body)
    assert [status for _, status in external.puts(image_id, "site-a")] == [201]


def test_asked_to_stop_the_writer_finishes_what_can_be_finished(external, held):
    body = image_bytes(200_000)
    writer = Writer(external).start()
    switch(held, Fault(bytes_per_second=100_000))
    image_id = external.new_image(body)
    # More than is sent before the writer knows that Glance has accepted the upload.
    wait_until(lambda: all(t.received_bytes > 150_000 for t in held), 60, "the tail is sent")
    assert writer.end() == 0
    assert set(external.statuses(image_id).values()) <= {"stored", "active"}
    switch(held, HEALTHY)
    with writer:
        external.assert_replicated(image_id, body)


@kernel_groups_sessions
def test_a_writer_with_a_session_of_its_own_gives_way_as_a_session(external):
    with Writer(external) as writer:
        autogroup = Path(f"/proc/{writer.pid}/autogroup").read_text()
    assert autogroup.split()[-2:] == ["nice", str(NICE)]


def test_idle_writer_stops_at_once(external):
    for number in (signal.SIGTERM, signal.SIGINT):
        writer = Writer(external).start()
        writer.signal(number)
        wait_until(lambda writer=writer: not writer.running, 60, "the writer has ended")
        assert writer._process.returncode == 0
        writer.stop()


def test_health_of_the_targets_is_unknown_when_no_writer_tells_of_it(external):
    database = schema.open_database(external.connection)
    schema.upgrade(database)
    states = TargetStates(database)

    def health():
        listed = external.request("GET", "v2/replication/targets", user="admin").json()["targets"]
        return {(target["health"], len(target["nodes"])) for target in listed}

    # What an earlier writer has said would be taken for the word of the next one.
    states.forget(timeutils.utcnow())
    with Writer(external):
        wait_until(lambda: health() == {("up", 1)}, 60, "all are up")
    now = timeutils.utcnow()
    said = states.since(now - SILENT)
    # As if it were a while ago.
    long_ago = [dataclasses.replace(each, seen_at=each.seen_at - SILENT) for each in said]
    states.report(said[0].node, long_ago)
    assert health() == {("unknown", 0)}
    with Writer(external):
        wait_until(lambda: health() == {("up", 1)}, 60, "all are up again")


def test_writer_hands_back_an_upload_that_is_still_received(external, held):
    switch(held, HEALTHY)
    writer = Writer(external).start()
    uploader = Uploader(external, announce=6 * MIB)
    uploader.send(3 * MIB)
    wait_until(lambda: all(t.received_bytes >= 2 * MIB for t in held), 60, "half is sent")
    assert writer.end() == 0
    with writer:
        uploader.send(3 * MIB)
        uploader.finish()
        external.assert_replicated(uploader.image_id, uploader.body)


def test_second_writer_waits_for_the_first(external):
    first = Writer(external, "first").start()
    second = Writer(external, "second")
    thread = threading.Thread(target=second.start)
    thread.start()
    try:
        wait_until(lambda: waits_for_lock(second), 60, "the second waits")
        assert f"Waits for the writer with process id {first.pid} to end" in second.log.read_text()
        assert "BlockingIOError" not in second.log.read_text()
        image_id = external.new_image(b"x" * MIB)
        external.wait_replicated(image_id)
        assert waits_for_lock(second)
        assert not second.ready()
        assert first.end() == 0
        thread.join(60)
        assert second.running and second.ready()
    finally:
        first.stop()
        thread.join()
        second.stop()


def test_reloaded_writer_has_the_new_configuration_and_loses_nothing(external, held):
    with Writer(external) as writer:
        uploader = Uploader(external)
        uploader.send(2 * MIB)
        process = writer.pid
        config = external.glance.config_file
        text = config.read_text()
        try:
            config.write_text(
                text.replace("retry_max_seconds = 1\n", "retry_max_seconds = soon\n")
            )
            writer.signal(signal.SIGHUP)
            wait_until(
                lambda: "retry_max_seconds" in writer.log.read_text(), 60, "the error is told"
            )
            assert "the old one is kept" in writer.log.read_text()
            begun = writer._begun()
            config.write_text(text.replace("[replication]\n", "[replication]\nlog_marker = x\n"))
            for _ in range(2):
                writer.signal(signal.SIGHUP)
            wait_until(lambda: writer._begun() > begun, 60, "it begins once more")
            assert (writer.running, writer.pid) == (True, process)
            assert os.getpriority(os.PRIO_PROCESS, process) == NICE
        finally:
            config.write_text(text)
        uploader.finish()
        external.assert_replicated(uploader.image_id, uploader.body)
        assert writer.end() == 0


def waits_for_lock(server):
    """Whether the process sleeps in flock()."""
    if not server.running:
        return False
    return f" {server.pid} " in "".join(
        line for line in Path("/proc/locks").read_text().splitlines(keepends=True) if "->" in line
    )


def leave_behind(cloud, image_id, body):
    """Make what an API process leaves that dies before it records Glance's answer."""
    upload_id = uuid.uuid4().hex
    sidecar = {
        "upload_id": upload_id,
        "image_id": image_id,
        "size": None,
        "state": "receiving",
        "created_at": time.time(),
        "received": None,
        "error": None,
    }
    (cloud.spool / f"{upload_id}.data").write_bytes(body)
    (cloud.spool / f"{upload_id}.json").write_text(json.dumps(sidecar))


def upload_unseen(cloud, body):
    """An active image of which the spool knows nothing."""
    image_id = cloud.new_image(body)
    wait_until(lambda: len(cloud.spool_files()) == 2, 60, "spooled")
    for name in cloud.spool_files():
        (cloud.spool / name).unlink()
    return image_id


@pytest.mark.parametrize("size", [200_000, 3 * MIB])
def test_upload_whose_api_process_died_after_glance_had_accepted(size, external):
    body = image_bytes(size)
    image_id = upload_unseen(external, body)
    leave_behind(external, image_id, body)
    with Writer(external):
        external.assert_replicated(image_id, body)


def test_upload_whose_api_process_died_before_glance_had_accepted(external):
    image_id = external.create_image()
    leave_behind(external, image_id, image_bytes(3 * MIB))
    with Writer(external):
        external.assert_no_trace(image_id)
    assert external.image(image_id)["status"] == "queued"


@pytest.mark.parametrize("change", ["shorter", "other bytes"])
def test_left_behind_bytes_that_glance_does_not_have_are_no_replica(change, external):
    body = image_bytes(3 * MIB)
    image_id = upload_unseen(external, body)
    leave_behind(external, image_id, body[:-1] if change == "shorter" else body[:-1] + b"x")
    with Writer(external):
        external.assert_replicated(image_id, body)


def test_upload_that_is_still_received_is_left_alone(external, held):
    """Its lock is held, however long the uploader pauses."""
    with Writer(external):
        uploader = Uploader(external)
        uploader.send(2 * MIB)
        wait_until(lambda: external.rows(uploader.image_id), 60, "in hand")
        (data,) = external.spool.glob("*.data")
        with data.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        uploader.finish()
        external.assert_replicated(uploader.image_id, uploader.body)
