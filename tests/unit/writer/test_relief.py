# SPDX-License-Identifier: Apache-2.0
"""What leaves a crowded spool, and in which order."""

import fcntl
import time
import types

import pytest

from glance_repl_mw.reconciler.tools import Shortage
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin, Upload, UploadState
from glance_repl_mw.writer.relief import Relief

MINUTES = 60


class Job:
    """An upload that is accepted; `ends` says whether it ends at once when it is handed over."""

    def __init__(self, spool, upload, waits, ends):
        self.upload = upload
        self.only_waits_for_retries = waits
        self.is_accepted = True
        self.done = False
        self._spool = spool
        self._ends = ends

    def hand_over(self):
        self.is_accepted = False
        if self._ends:
            self.done = True
            self._spool.remove(self.upload.upload_id)


class ReliefLab:
    """A spool of 1000 bytes, of which 800 may be taken."""

    def __init__(self, directory, conf):
        conf.set_override("spool_hand_over_percent", 80, group="replication")
        self.spool = Spool(str(directory), max_bytes=1000)
        self.spool.prepare()
        self.shortage = Shortage()
        self.jobs = {}
        crew = types.SimpleNamespace(conf=conf, spool=self.spool)
        self.relief = Relief(crew, self.shortage, self.jobs)

    def add(self, name, size, state=UploadState.ACCEPTED, minutes_ago=0):
        created_at = time.time() - minutes_ago * MINUTES
        origin = Origin.UPLOAD if state is UploadState.ACCEPTED else Origin.STAGE
        upload = Upload(name, name, size, state, created_at, size, origin=origin)
        self.spool.data_path(name).write_bytes(bytes(size))
        self.spool.write_sidecar(upload)
        return upload

    def stage(self, name, size, minutes_ago=0):
        self.add(name, size, UploadState.STAGED, minutes_ago)

    def push(self, name, size, *, waits, ends=True, minutes_ago=0):
        upload = self.add(name, size, minutes_ago=minutes_ago)
        self.jobs[name] = Job(self.spool, upload, waits, ends)

    def left(self):
        """What is in the spool once relief has looked."""
        self.relief.tick()
        return {upload.upload_id for upload in self.spool.uploads()}


@pytest.fixture
def lab(tmp_path, conf):
    return ReliefLab(tmp_path / "relief", conf)


def test_nothing_leaves_while_there_is_room(lab):
    lab.stage("staged", 400, 60)
    lab.push("waiting", 400, waits=True, minutes_ago=60)
    assert lab.left() == {"staged", "waiting"}


def test_staged_images_that_nobody_imports_go_first_as_many_as_needed(lab):
    for number in range(4):
        lab.stage(f"staged {number}", 150, 100 - number)
    lab.push("waiting", 200, waits=True, minutes_ago=1000)
    lab.shortage.demand("image", 300)
    assert lab.left() == {"staged 2", "staged 3", "waiting"}


def test_what_a_dead_process_had_staged_goes_with_the_staged_images(lab):
    lab.add("abandoned", 400, UploadState.STAGING, minutes_ago=60)
    lab.add("being staged", 400, UploadState.STAGING, minutes_ago=60)
    with lab.spool.data_path("being staged").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lab.shortage.demand("image", 700)
        assert lab.left() == {"being staged"}


def test_fresh_staged_images_go_after_what_waits_for_a_target(lab):
    lab.stage("staged", 300)
    lab.push("waiting", 300, waits=True)
    lab.shortage.demand("image", 300)
    assert lab.left() == {"staged"}
    lab.shortage.demand("image", 600)
    assert lab.left() == set()


def test_demand_that_stands_makes_room_at_each_look(lab):
    lab.shortage.demand("image", 500)
    for number in range(5):
        lab.stage(f"staged {number}", 400)
        assert lab.left() == set()


def test_demand_cuts_no_push_that_runs(lab):
    lab.push("running", 700, waits=False)
    lab.shortage.demand("image", 700)
    assert lab.left() == {"running"}


def test_pushes_that_run_are_cut_for_uploads_one_at_a_time(lab):
    for number in range(3):
        lab.push(f"running {number}", 300, waits=False, ends=False, minutes_ago=9 - number)
    assert lab.left() == {"running 0", "running 1", "running 2"}
    assert [job.is_accepted for job in lab.jobs.values()] == [False, True, True]


def test_room_that_is_about_to_come_is_waited_for(lab):
    lab.push("ending", 500, waits=True, ends=False, minutes_ago=9)
    lab.push("waiting", 400, waits=True)
    lab.stage("staged", 50)
    assert lab.left() == {"ending", "waiting", "staged"}
    assert [job.is_accepted for job in lab.jobs.values()] == [False, True]
