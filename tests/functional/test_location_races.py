# SPDX-License-Identifier: Apache-2.0
"""Several clients change the locations of one image at the same moment, and nobody loses one."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.cloud import Cloud, at_once
from tests.lab.images import image_bytes
from tests.lab.process import HOST
from tests.lab.webservers import Nginx

ROUNDS = 80
AT_ONCE = 6
BODY = image_bytes(10_000)
PATCH_TYPE = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
# Glance answers so to one of two requests that meet in its database; clients try again.
TRY_AGAIN = (409, 500, 503)


@pytest.fixture(scope="module")
def racing(keystone, workdir, require):
    """A cloud that adds each location as soon as it is proven."""
    require(Nginx)
    options = {"replication": {"location_batch_seconds": "0"}}
    with Cloud(workdir("racing"), keystone, options=options) as cloud:
        yield cloud


def patch(cloud, image_id, *changes, glance=None):
    """Change an image as the administrator, again until Glance takes it."""
    path = f"v2/images/{image_id}"
    while True:
        answer = cloud.request(
            "PATCH", path, user="admin", headers=PATCH_TYPE, json=changes, glance=glance
        )
        if answer.status_code not in TRY_AGAIN:
            return answer


def add_location(cloud, image_id, url, glance=None):
    change = {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}}
    answer = patch(cloud, image_id, change, glance=glance)
    # Of several tries one that was answered 500 may have been the one that counts.
    assert answer.status_code == 200 or "already exists" in answer.text, answer.text


def come_and_go(cloud, image_id, url, glance=None):
    """Add a location and remove it again; its place is looked up anew for each try."""
    add_location(cloud, image_id, url, glance)
    path = f"v2/images/{image_id}"
    while url in (urls := cloud.locations(image_id)):
        change = {"op": "remove", "path": f"/locations/{urls.index(url)}"}
        answer = cloud.request(
            "PATCH", path, user="admin", headers=PATCH_TYPE, json=[change], glance=glance
        )
        assert answer.status_code in (200, *TRY_AGAIN), answer.text


def rename(cloud, image_id, name, glance=None):
    change = {"op": "replace", "path": "/name", "value": name}
    answer = patch(cloud, image_id, change, glance=glance)
    assert answer.status_code == 200, answer.text


def foreign_urls(server, number, *names):
    """Make objects that replication knows nothing of; returns their URLs."""
    directory = server.document_root / "foreign"
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / f"{number}-{name}").write_bytes(BODY)
    return [f"http://{HOST}:{server.port}/foreign/{number}-{name}" for name in names]


def at_the_same_moment(*calls):
    """Make each call in a thread of its own; raises what one of them has raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for running in [pool.submit(*call) for call in calls]:
            running.result()


def test_no_location_is_lost_while_replicas_are_added(racing):
    """Other clients add a location, add one and remove it again, and rename, in each round."""

    def race(number):
        urls = stays, goes = foreign_urls(racing.targets["site-a"], number, "stays", "goes")
        image_id = racing.new_image(BODY)
        at_the_same_moment(
            (add_location, racing, image_id, stays),
            (come_and_go, racing, image_id, goes),
            (rename, racing, image_id, "another name"),
        )
        return image_id, *urls

    rounds = at_once(AT_ONCE, race, range(ROUNDS))
    racing.wait_settled()
    wrong = Counter()
    for image_id, stays, goes in rounds:
        racing.wait_replicated(image_id)
        image = racing.image(image_id)
        urls = [location["url"] for location in image["locations"]]
        wrong["lost location"] += stays not in urls
        wrong["returned location"] += goes in urls
        wrong["lost name"] += image["name"] != "another name"
    assert wrong.total() == 0, f"in {ROUNDS} rounds: {wrong}"
