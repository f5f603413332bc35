# SPDX-License-Identifier: Apache-2.0
"""GET /v2/images/{image_id}/replicas: who sees what."""

import pytest

UNKNOWN = "7f2f2b5e-0c7f-4f3b-9d4c-000000000001"
FIELDS = {
    "image_id",
    "target",
    "status",
    "size",
    "bytes_sent",
    "progress",
    "location_url",
    "checksum",
    "attempts",
    "error",
    "next_attempt_at",
    "created_at",
    "updated_at",
}


@pytest.fixture(scope="module")
def image_id(cloud):
    image_id = cloud.new_image(b"some bytes")
    cloud.wait_replicated(image_id)
    yield image_id
    cloud.forget(image_id)


def get(cloud, path, user="alice"):
    return cloud.request("GET", f"v2/images/{path}", user=user)


def test_owner_sees_the_state_but_no_urls(cloud, image_id):
    answer = get(cloud, f"{image_id}/replicas")
    assert answer.status_code == 200
    replicas = answer.json()["replicas"]
    assert [replica["target"] for replica in replicas] == list(cloud.targets)
    for replica in replicas:
        assert set(replica) == FIELDS
        assert (replica["status"], replica["size"], replica["progress"]) == ("active", 10, 1.0)
        assert replica["location_url"] is None
        assert replica["checksum"] == cloud.image(image_id)["checksum"]


def test_administrator_sees_the_urls(cloud, image_id):
    replicas = get(cloud, f"{image_id}/replicas", "admin").json()["replicas"]
    assert {replica["location_url"] for replica in replicas} == set(
        cloud.replica_urls(image_id).values()
    )


def test_one_replica(cloud, image_id):
    target = next(iter(cloud.targets))
    answer = get(cloud, f"{image_id}/replicas/{target}")
    assert (answer.status_code, answer.json()["target"]) == (200, target)
    assert get(cloud, f"{image_id}/replicas/nowhere").status_code == 404


@pytest.mark.parametrize(("user", "status"), [("alice", 404), ("admin", 404), (None, 401)])
def test_unseen_image_gets_glances_own_answer(cloud, user, status):
    ours, glances = (get(cloud, path, user) for path in (f"{UNKNOWN}/replicas", UNKNOWN))
    assert (ours.status_code, ours.text) == (glances.status_code, glances.text)
    assert ours.status_code == status


def test_image_of_another_project_is_not_there(cloud):
    record = {"name": "theirs", "disk_format": "raw", "container_format": "bare"}
    image_id = cloud.request("POST", "v2/images", user="admin", json=record).json()["id"]
    assert get(cloud, f"{image_id}/replicas").status_code == 404
    assert get(cloud, f"{image_id}/replicas", "admin").json() == {"replicas": []}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_not_allowed(cloud, image_id, method):
    answer = cloud.request(method, f"v2/images/{image_id}/replicas")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"
