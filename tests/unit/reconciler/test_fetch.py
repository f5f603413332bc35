# SPDX-License-Identifier: Apache-2.0
"""From a source into the spool."""

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.model import Priority
from glance_repl_mw.reconciler.fetch import Fetched, fetch
from glance_repl_mw.spool.upload import Origin, UploadState
from tests.unit.reconciler.target_lab import BODY, SITE, Lab

ANOTHER = "site-b"


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.images.download = lambda image_id: iter(lab.from_glance)
    lab.from_glance = [BODY]
    opened = lab.target.open
    lab.target.open = lambda name, offset=0: iter([b"".join(opened(name))[offset:]])
    yield lab
    lab.close()


def planned(lab):
    """An image with a replica, and another that waits."""
    image_id = lab.add()
    lab.survey.plan(image_id, [ANOTHER], Priority.REPAIR, len(BODY))
    return image_id


def fetched(lab, image_id):
    rows = lab.survey.of_images([image_id])[image_id]
    waiting = [row for row in rows if row.target == ANOTHER]
    return fetch(lab.tools, lab.image(image_id), rows, waiting)


def test_bytes_are_accepted(lab):
    assert fetched(lab, planned(lab)) == Fetched()
    (upload,) = lab.tools.spool.uploads()
    assert (upload.state, upload.origin) == (UploadState.ACCEPTED, Origin.REPLICA)
    assert upload.targets == (ANOTHER,)
    assert lab.tools.spool.data_path(upload.upload_id).read_bytes() == BODY


def test_wrong_bytes_do_not_stay_and_the_next_upload_has_another_source(lab):
    image_id = planned(lab)
    replica = lab.survey.of_images([image_id])[image_id][0]
    lab.target.objects[replica.object_name] = BODY[:-1] + b"x"
    found = fetched(lab, image_id)
    (upload,) = lab.tools.spool.uploads()
    assert found.begin_again_after == upload.upload_id
    assert [each.target for each in found.suspects] == [SITE]
    assert upload.state is UploadState.REJECTED
    assert lab.tools.spool.used_bytes() == 0
    assert fetched(lab, image_id) == Fetched()
    accepted = lab.tools.spool.uploads()[-1]
    assert accepted.upload_id != upload.upload_id
    assert lab.tools.spool.data_path(accepted.upload_id).read_bytes() == BODY


def test_nothing_begins_again_where_no_source_is_left(lab):
    image_id = planned(lab)
    lab.target.objects.clear()
    lab.from_glance = [b"x" * len(BODY)]
    assert fetched(lab, image_id).begin_again_after is None
    (upload,) = lab.tools.spool.uploads()
    assert (upload.state, upload.error.partition(":")[0]) == ("rejected", f"image {image_id}")


def test_image_that_is_gone_leaves_a_rejected_upload(lab):
    image_id = planned(lab)
    lab.target.objects.clear()

    def gone(image_id):
        raise exceptions.ImageGone(image_id)

    lab.images.download = gone
    with pytest.raises(exceptions.ImageGone):
        fetched(lab, image_id)
    (upload,) = lab.tools.spool.uploads()
    assert upload.state is UploadState.REJECTED
