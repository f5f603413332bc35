"""What is most urgent comes first: asked-for replicas, then repairs, then the backfill."""

import os

import pytest

from glance_repl_mw.db import schema
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.model import Priority
from tests.functional.cloud import MIB, Cloud
from tests.functional.test_writer import Writer, upload_unseen
from tests.lab.webservers import Nginx

OPTIONS = {"writer": "external", "repair_concurrency": "1"}


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """One target, and a writer that runs when a test says so and fetches one image at a time."""
    require(Nginx)
    directory = workdir("order")
    targets = {"site-a": Nginx(directory / "site-a")}
    with Cloud(directory, keystone, targets=targets, options={"replication": OPTIONS}) as cloud:
        yield cloud


def test_urgent_replicas_are_fetched_first(cloud):
    with Writer(cloud):
        pass
    body = os.urandom(MIB)
    images = [upload_unseen(cloud, body) for _ in range(6)]
    survey = ReplicaSurvey(schema.open_database(cloud.connection))
    backfill, repair, sync = images[:2], images[2:4], images[4:]
    for image_ids, priority in (
        (backfill, Priority.BACKFILL),
        (repair, Priority.REPAIR),
        (sync, Priority.SYNC),
    ):
        for image_id in image_ids:
            survey.plan(image_id, ["site-a"], priority, len(body))
    with Writer(cloud):
        for image_id in images:
            cloud.assert_replicated(image_id, body)
    paths = [request.path for request in cloud.glance.requests() if request.method == "GET"]
    read = [image_id for path in paths for image_id in images if path.endswith(f"{image_id}/file")]
    assert read == sync + repair + backfill
