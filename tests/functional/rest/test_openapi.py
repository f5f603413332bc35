"""The running service keeps to doc/source/openapi.yaml, whatever it is asked."""

from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection

DOCUMENT = Path(__file__).parents[3] / "doc/source/openapi.yaml"
SETTINGS = hypothesis.settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
schema = schemathesis.openapi.from_path(DOCUMENT)


@pytest.fixture(scope="module")
def image_id(quiet):
    image_id = quiet.new_image(b"some bytes")
    quiet.wait_replicated(image_id, ["site-a"])
    yield image_id
    quiet.forget(image_id)


def validate(case, cloud, user, excluded=()):
    case.call_and_validate(
        base_url=cloud.glance.url.rstrip("/"),
        headers={"X-Auth-Token": cloud.token(user)},
        excluded_checks=list(excluded),
    )


@schema.parametrize()
@SETTINGS
def test_any_request(case, quiet):
    validate(case, quiet, "admin")


@pytest.mark.parametrize("user", ["alice", "admin"])
@schema.include(path_regex="image_id", method=["GET", "PUT"]).parametrize()
@SETTINGS
def test_requests_for_a_replica_that_there_is(case, quiet, image_id, user):
    case.path_parameters["image_id"] = image_id
    if "target" in case.path_parameters:
        case.path_parameters["target"] = "site-a"
    # What made no sense may just have been put right.
    validate(case, quiet, user, [negative_data_rejection])
