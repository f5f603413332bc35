# SPDX-License-Identifier: Apache-2.0
"""The running service keeps to doc/source/reference/openapi.yaml, whatever it is asked."""

from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.lab.process import wait_until

DOCUMENT = Path(__file__).parents[3] / "doc/source/reference/openapi.yaml"
SETTINGS = hypothesis.settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
# With those of test_hostile, at least 2,000.
REQUESTS = 400
REPLICAS = "/v2/images/{image_id}/replicas"
REPLICA = f"{REPLICAS}/{{target}}"
LISTING = "/v2/replication/replicas"
schema = schemathesis.openapi.from_path(DOCUMENT)


@pytest.fixture(scope="module")
def image_id(quiet):
    image_id = quiet.new_image(b"some bytes")
    quiet.wait_replicated(image_id, ["site-a"])
    yield image_id
    quiet.forget(image_id)


@pytest.fixture(scope="module")
def sent():
    """The statuses of all answers."""
    found = []
    yield found
    print("answers that were validated:", len(found))


def validate(case, cloud, user, sent, excluded=()):
    answer = case.call_and_validate(
        base_url=cloud.glance.url.rstrip("/"),
        headers={"X-Auth-Token": cloud.token(user)},
        excluded_checks=list(excluded),
    )
    sent.append(answer.status_code)


@schema.parametrize()
@SETTINGS
def test_any_request(case, quiet, sent):
    validate(case, quiet, "admin", sent)


@pytest.mark.parametrize("user", ["alice", "admin"])
@schema.include(path_regex="image_id", method=["GET", "PUT"]).parametrize()
@SETTINGS
def test_requests_for_a_replica_that_there_is(case, quiet, sent, image_id, user):
    case.path_parameters["image_id"] = image_id
    if "target" in case.path_parameters:
        case.path_parameters["target"] = "site-a"
    # What made no sense may just have been put right.
    validate(case, quiet, user, sent, [negative_data_rejection])


def test_there_were_enough_requests(sent):
    if not sent:
        pytest.skip("nothing was sent")
    assert len(sent) >= REQUESTS


@pytest.fixture
def failed_replica(quiet):
    """An image whose replica at site-b is in error."""
    server = quiet.targets["site-b"]
    server.stop()
    try:
        image_id = quiet.new_image(b"some bytes")
        wait_until(lambda: quiet.statuses(image_id).get("site-b") == "error", 60, "it fails")
        yield image_id
    finally:
        server.start()
    quiet.forget(image_id)


def ask(cloud, method, path, user="admin", query=None, **names):
    """The answer, which keeps to the schema."""
    case = schema[path][method].Case(path_parameters=names or None, query=query)
    url, headers = cloud.glance.url.rstrip("/"), {"X-Auth-Token": cloud.token(user)}
    answer = case.call(base_url=url, headers=headers)
    case.validate_response(answer)
    return answer


def test_answers_about_a_replica_in_error_and_to_a_delete(quiet, failed_replica):
    names = {"image_id": failed_replica, "target": "site-b"}

    def is_shown():
        shown = ask(quiet, "GET", REPLICA, **names).json()
        return (shown["status"], bool(shown["error"])) == ("error", True)

    def is_listed():
        listed = ask(quiet, "GET", REPLICAS, image_id=failed_replica).json()["replicas"]
        return "error" in {each["status"] for each in listed}

    def is_found():
        page = ask(quiet, "GET", LISTING, query={"status": "error", "target": "site-b"}).json()
        return failed_replica in {each["image_id"] for each in page["replicas"]}

    # During an attempt it is another status.
    for look in (is_shown, is_listed, is_found):
        wait_until(look, 60, look.__name__)
    assert ask(quiet, "GET", REPLICA, "alice", **names).json()["error"] is None
    made = ask(quiet, "PUT", REPLICA, "alice", **names)
    assert (made.status_code, made.json()["image_id"]) == (202, failed_replica)
    # The writer keeps the bytes for its next attempt.
    refused = ask(quiet, "DELETE", REPLICA, **names)
    assert (refused.status_code, "retry-after" in refused.headers) == (409, True)
    quiet.wait_replicated(failed_replica, ["site-a"])
    deleted = ask(quiet, "DELETE", REPLICA, **{**names, "target": "site-a"})
    assert deleted.status_code == 202
    assert deleted.json()["status"] in ("deleting", "deleted")
