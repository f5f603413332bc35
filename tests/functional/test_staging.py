# SPDX-License-Identifier: Apache-2.0
"""What staged uploads leave in the spool, before a writer looks at it."""

import pytest
import requests

from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin, UploadState
from tests.functional.cloud import MIB, Cloud, pieces
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

BODY = image_bytes(2 * MIB + 3)
IMPORT = {"method": {"name": "glance-direct"}}


@pytest.fixture(scope="module")
def quiet(keystone, workdir, require):
    """A cloud whose writer does not run."""
    require(Nginx)
    options = {"replication": {"writer": "external"}}
    with Cloud(workdir("quiet"), keystone, options=options) as cloud:
        yield cloud


@pytest.fixture
def spool(quiet):
    """The spool, emptied before the test."""
    for name in quiet.spool_files():
        (quiet.spool / name).unlink()
    return Spool(str(quiet.spool))


def stage(cloud, image_id, body, **more):
    headers = {"Content-Type": "application/octet-stream"}
    return cloud.request("PUT", f"v2/images/{image_id}/stage", data=body, headers=headers, **more)


@pytest.mark.parametrize(
    ("body", "size"), [(BODY, len(BODY)), (pieces(BODY), None)], ids=["length", "chunked"]
)
def test_staged_bytes_wait_in_the_spool_for_their_import(quiet, spool, body, size):
    image_id = quiet.create_image()
    assert stage(quiet, image_id, body).status_code == 204
    (upload,) = spool.uploads()
    assert (upload.image_id, upload.state) == (image_id, UploadState.STAGED)
    assert (upload.origin, upload.size, upload.received) == (Origin.STAGE, size, len(BODY))
    assert spool.data_path(upload.upload_id).read_bytes() == BODY
    assert spool.take_notes() == []
    answer = quiet.request("POST", f"v2/images/{image_id}/import", json=IMPORT)
    assert answer.status_code == 202
    assert spool.take_notes() == [image_id]
    wait_until(lambda: quiet.image(image_id)["status"] == "active", 60, "the import has ended")
    assert spool.uploads() == [upload]


def test_bytes_that_glance_does_not_stage_leave_nothing(quiet, spool):
    image_id = quiet.new_image(b"an image")
    (upload,) = spool.uploads()
    assert stage(quiet, image_id, BODY).status_code == 409
    assert spool.uploads() == [upload]


def test_a_client_that_leaves_while_it_stages(quiet, spool):
    def broken_off():
        yield BODY
        wait_until(lambda: spool.uploads(), 60, "the first bytes are in the spool")
        (upload,) = spool.uploads()
        assert upload.state is UploadState.STAGING
        raise OSError

    with pytest.raises(requests.ConnectionError):
        stage(quiet, quiet.create_image(), broken_off())
    wait_until(lambda: spool.uploads()[0].state is UploadState.REJECTED, 60, "it is known")
    assert spool.used_bytes() == 0
