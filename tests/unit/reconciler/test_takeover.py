# SPDX-License-Identifier: Apache-2.0
"""What becomes of rows whose node is gone."""

import datetime

import pytest
from oslo_utils import timeutils

from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.reconciler.takeover import TakeOver
from glance_repl_mw.spool.upload import Upload, UploadState
from tests.unit.reconciler.target_lab import SITE, Lab, at

UPLOAD = "0" * 32
NAME = "object"


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.set(take_over_after_seconds=60)
    yield lab
    lab.close()


@pytest.fixture
def leave_behind(lab):
    """A node has an image in hand, of which it was last heard so long ago; returns the image."""

    def leave_behind(*statuses, seconds=61, **image):
        image_id = lab.add_image(**image)
        node = ReplicaStore(lab.database, "dead")
        with at(timeutils.utcnow() - datetime.timedelta(seconds=seconds)):
            node.begin(Upload(UPLOAD, image_id, 1, UploadState.ACCEPTED, 0.0), [SITE])
            for status in statuses:
                node.update(UPLOAD, [SITE], status, object_name=NAME)
        return image_id

    return leave_behind


def take_over(lab, image_id):
    TakeOver(lab.tools).run_once()
    row = lab.row(image_id)
    return row.status, row.node, row.next_attempt_at is not None


def test_what_was_under_way_is_made_anew(lab, leave_behind):
    image_id = leave_behind(ReplicaStatus.UPLOADING)
    assert take_over(lab, image_id) == ("error", None, True)
    assert [row.id for row in lab.tools.waiting_for_bytes(9)] == [lab.row(image_id).id]


def test_what_was_stored_only_lacks_its_location(lab, leave_behind):
    image_id = leave_behind(ReplicaStatus.UPLOADING, ReplicaStatus.STORED)
    assert take_over(lab, image_id) == ("stored", None, True)
    assert lab.row(image_id).object_name == NAME


@pytest.mark.parametrize(
    ("statuses", "ended"), [([ReplicaStatus.UPLOADING], "deleting"), ([], "deleted")]
)
def test_upload_that_glance_does_not_have_ends(lab, leave_behind, statuses, ended):
    image_id = leave_behind(*statuses, status="queued")
    assert take_over(lab, image_id)[0] == ended


def test_row_that_changed_a_moment_ago_is_left_alone(lab, leave_behind):
    image_id = leave_behind(ReplicaStatus.UPLOADING, seconds=30)
    assert take_over(lab, image_id) == ("uploading", "dead", False)


def test_nothing_is_taken_over_while_the_other_nodes_are_not_known(lab, leave_behind, monkeypatch):
    image_id = leave_behind(ReplicaStatus.UPLOADING)
    monkeypatch.setattr(type(lab.tools.nodes), "alive", None)
    assert take_over(lab, image_id) == ("uploading", "dead", False)
