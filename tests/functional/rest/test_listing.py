# SPDX-License-Identifier: Apache-2.0
"""GET /v2/replication/replicas: the replicas of all images, page by page."""

import pytest

PATH = "v2/replication/replicas"


@pytest.fixture(scope="module")
def image_ids(quiet):
    image_ids = [quiet.new_image(b"some bytes") for _ in range(3)]
    for image_id in image_ids:
        quiet.wait_replicated(image_id, ["site-a"])
    yield image_ids
    for image_id in image_ids:
        quiet.forget(image_id)


def get(cloud, query="", user="admin"):
    return cloud.request("GET", f"{PATH}{query}", user=user)


def pages(cloud, query):
    path = f"{PATH}{query}"
    while path:
        body = cloud.request("GET", path.lstrip("/"), user="admin").json()
        yield body
        path = body.get("next")


def test_all_pages_together_hold_each_replica_once(quiet, image_ids):
    found = list(pages(quiet, "?limit=2&status=active&target=site-a"))
    replicas = [replica for page in found for replica in page["replicas"]]
    ours = [each["image_id"] for each in replicas if each["image_id"] in image_ids]
    assert sorted(ours) == sorted(image_ids)
    assert {(each["target"], each["status"]) for each in replicas} == {("site-a", "active")}
    assert all(each["location_url"] for each in replicas)
    assert all(len(page["replicas"]) <= 2 for page in found)
    assert found[1]["first"] == f"/{PATH}?status=active&target=site-a&limit=2"


def test_page_without_an_end(quiet, image_ids):
    body = get(quiet, "?limit=0").json()
    assert body == {"replicas": [], "first": f"/{PATH}?limit=0"}
    assert "next" not in get(quiet, "?limit=999").json()
    assert get(quiet, "?status=error").json()["replicas"] == []


def test_only_administrators_may(quiet):
    assert get(quiet, user="alice").status_code == 403
    assert get(quiet, user=None).status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        "?limit=-1",
        "?limit=x",
        "?limit=NaN",
        "?limit=1e3",
        "?limit=1&limit=2",
        "?marker=",
        "?marker=-1",
        f"?marker={'9' * 30}",
        "?marker=%00",
        "?status=lost",
        "?status=",
        "?target=a%00b",
        "?target=%ff",
        f"?target={'a' * 300}",
        "?colour=blue",
        "?%ff=%ff",
    ],
)
def test_what_makes_no_sense(quiet, query):
    assert get(quiet, query).status_code == 400
