# SPDX-License-Identifier: Apache-2.0
"""PUT and DELETE /v2/images/{image_id}/replicas/{target}: made now, deleted, made again."""

import pytest

from tests.functional.cloud import at_once
from tests.functional.test_manage import manage
from tests.lab.process import wait_until

BODY = b"some bytes" * 1000


@pytest.fixture(scope="module")
def image_id(quiet):
    image_id = quiet.new_image(BODY)
    quiet.wait_replicated(image_id)
    yield image_id
    quiet.forget(image_id)


def ask(cloud, method, image_id, target, user="admin", **arguments):
    path = f"v2/images/{image_id}/replicas/{target}"
    return cloud.request(method, path, user=user, **arguments)


def targets(cloud):
    return cloud.request("GET", "v2/replication/targets", user="admin").json()["targets"]


def wait_for(cloud, image_id, target, status):
    wait_until(lambda: cloud.statuses(image_id).get(target) == status, 60, status)


def test_active_replica_is_there_already(quiet, image_id):
    answer = ask(quiet, "PUT", image_id, "site-a", "alice")
    assert (answer.status_code, answer.json()["status"]) == (200, "active")
    assert answer.json()["location_url"] is None


def test_replica_is_deleted_and_made_again(quiet, image_id):
    """Its location goes, then its object; it does not come back before it is asked for."""
    url = quiet.replica_urls(image_id)["site-b"]
    answer = ask(quiet, "DELETE", image_id, "site-b")
    # The writer may be quick.
    assert answer.status_code == 202
    assert answer.json()["status"] in ("deleting", "deleted")
    wait_for(quiet, image_id, "site-b", "deleted")
    assert "site-b" not in quiet.objects(image_id)
    assert url not in quiet.locations(image_id)
    assert ask(quiet, "DELETE", image_id, "site-b").status_code == 404
    made = at_once(4, lambda _: ask(quiet, "PUT", image_id, "site-b", "alice"), range(4))
    assert {answer.status_code for answer in made} <= {200, 202}
    quiet.assert_replicated(image_id, BODY)
    assert quiet.replica_urls(image_id)["site-b"] != url


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("PUT", "nowhere", 404), ("DELETE", "nowhere", 404), ("POST", "site-a", 405)],
)
def test_what_cannot_be(quiet, image_id, method, target, status):
    answer = ask(quiet, method, image_id, target)
    assert answer.status_code == status
    if status == 405:
        assert answer.headers["Allow"] == "DELETE, GET, HEAD, PUT"


def test_image_without_data(quiet):
    queued = quiet.create_image()
    answer = ask(quiet, "PUT", queued, "site-a", "alice")
    assert answer.status_code == 409
    assert "no data" in answer.text
    assert ask(quiet, "DELETE", queued, "site-a").status_code == 404


def test_empty_image(quiet):
    empty = quiet.new_image(b"")
    assert ask(quiet, "PUT", empty, "site-a").status_code == 409


def test_deactivated_image(quiet, image_id):
    quiet.request("POST", f"v2/images/{image_id}/actions/deactivate", user="admin")
    try:
        statuses = [ask(quiet, each, image_id, "site-a").status_code for each in ("PUT", "DELETE")]
    finally:
        quiet.request("POST", f"v2/images/{image_id}/actions/reactivate", user="admin")
    assert statuses == [409, 409]


def test_target_that_is_drained(quiet, image_id):
    config = quiet.glance.config_file
    assert manage("--config-file", config, "target", "drain", "site-c").returncode == 0
    try:
        assert ask(quiet, "PUT", image_id, "site-c").status_code == 409
        (target,) = [each for each in targets(quiet) if each["name"] == "site-c"]
        assert target["wish"] == "drain"
    finally:
        assert manage("--config-file", config, "target", "restore", "site-c").returncode == 0


def test_body_is_not_expected(quiet, image_id):
    for method in ("PUT", "DELETE"):
        assert ask(quiet, method, image_id, "site-a", data=b"{}").status_code == 400
        assert ask(quiet, method, image_id, "site-a", data=iter([b"{}"])).status_code == 400


def test_owner_may_synchronise_but_not_delete(quiet, image_id):
    assert ask(quiet, "PUT", image_id, "site-a", "alice").status_code == 200
    assert ask(quiet, "DELETE", image_id, "site-a", "alice").status_code == 403
