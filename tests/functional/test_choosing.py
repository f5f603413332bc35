# SPDX-License-Identifier: Apache-2.0
"""Images go to the targets whose options want them, and to no others."""

import json

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.functional.test_location_races import PATCH_TYPE
from tests.functional.test_manage import manage
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

FORMATS = "(container_format:docker and not disk_format:raw) or disk_format:vhd"
TARGETS = {
    "site-a": {"replicate_if": "visibility:public and size:<=1MiB"},
    "site-b": {"replicate_if": f"tag:golden or property:os_distro=debian or {FORMATS}"},
    "site-c": {"mode": "lazy"},
}
OPTIONS = {
    "replication": {
        "image_property_targets": "true",
        "retry_initial_seconds": "0.2",
        "retry_max_seconds": "1",
        "probe_interval_seconds": "0.3",
    }
}
# Those of the documentation.
PROTECTIONS = """
[^replication_targets$]
create = admin
read = @
update = admin
delete = admin
[.*]
create = @
read = @
update = @
delete = @
"""


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    require(Nginx)
    directory = workdir("chosen")
    protections = directory / "property-protections.conf"
    protections.write_text(PROTECTIONS)
    options = {**OPTIONS, "DEFAULT": {"property_protection_file": str(protections)}}
    owner = keystone.session("replicator", "service").get_project_id()
    site_a = {"replicate_if": f"{TARGETS['site-a']['replicate_if']} or owner:{owner}"}
    target_options = {**TARGETS, "site-a": site_a}
    with Cloud(directory, keystone, target_options=target_options, options=options) as cloud:
        cloud.owner = owner
        yield cloud


def new_image(cloud, body, *, chunked=False, **properties):
    """An image of the administrator, who may make it public; returns its id."""
    image_id = cloud.create_image(user="admin", **{"visibility": "private", **properties})
    answer = cloud.upload(image_id, body, chunked=chunked, user="admin")
    assert answer.status_code == 204, answer.text
    return image_id


def assert_only_at(cloud, image_id, body, *targets):
    """Wait until the writer has done with the image, and see where it is."""
    if targets:
        cloud.wait_replicated(image_id, targets)
    cloud.wait_settled()
    urls = cloud.replica_urls(image_id)
    assert set(urls) == set(cloud.objects(image_id)) == set(targets)
    assert [cloud.object_bytes(*place) == body for place in urls.items()] == [True] * len(urls)
    assert set(cloud.statuses(image_id)) == set(targets)


def run(cloud, *arguments):
    process = manage("--config-file", cloud.glance.config_file, *arguments)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


SMALL, LARGE = MIB, MIB + 1
# Stands for the project that site-a takes all images of.
OWNER = "the owner"
FRESH = {
    "nothing holds": (SMALL, {}, ()),
    "public and small": (SMALL, {"visibility": "public"}, ("site-a",)),
    "public and large": (LARGE, {"visibility": "public"}, ()),
    "a tag": (LARGE, {"tags": ["silver", "golden"]}, ("site-b",)),
    "a property": (SMALL, {"os_distro": "debian"}, ("site-b",)),
    # Glance looks into none of these formats.
    "a container": (SMALL, {"container_format": "docker", "disk_format": "iso"}, ("site-b",)),
    "a container of raw": (SMALL, {"container_format": "docker", "disk_format": "raw"}, ()),
    "a disk format": (SMALL, {"container_format": "ovf", "disk_format": "vhd"}, ("site-b",)),
    "an owner": (LARGE, {"owner": OWNER}, ("site-a",)),
    "both": (SMALL, {"tags": ["golden"], "visibility": "public"}, ("site-a", "site-b")),
    "it names a lazy one": (SMALL, {"replication_targets": "site-c"}, ("site-c",)),
    "it names none": (SMALL, {"tags": ["golden"], "replication_targets": "none"}, ()),
    "it names all": (
        LARGE,
        {"visibility": "public", "tags": ["golden"], "replication_targets": "all"},
        ("site-b", "site-c"),
    ),
}


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("case", FRESH)
def test_fresh_upload_goes_where_it_is_wanted(cloud, case, chunked):
    size, properties, targets = FRESH[case]
    body = image_bytes(size)
    owner = {"owner": cloud.owner} if "owner" in properties else {}
    image_id = new_image(cloud, body, chunked=chunked, **{**properties, **owner})
    assert_only_at(cloud, image_id, body, *targets)
    assert cloud.downloads(image_id) == [], "the spool had the bytes"


def test_property_protections_rule_who_names_targets(cloud):
    image_id = cloud.create_image(os_version="12")
    change = [{"op": "add", "path": "/replication_targets", "value": "all"}]
    path = f"v2/images/{image_id}"
    assert cloud.request("PATCH", path, json=change, headers=PATCH_TYPE).status_code == 403
    patch(cloud, image_id, "add", "replication_targets", "all")


def test_image_that_changes_goes_where_it_is_wanted_now(cloud):
    body = image_bytes(SMALL)
    image_id = new_image(cloud, body)
    assert_only_at(cloud, image_id, body)
    patch(cloud, image_id, "replace", "visibility", "public")
    assert_only_at(cloud, image_id, body, "site-a")
    tag = f"v2/images/{image_id}/tags/golden"
    assert cloud.request("PUT", tag, user="admin").status_code == 204
    assert_only_at(cloud, image_id, body, "site-a", "site-b")
    patch(cloud, image_id, "add", "replication_targets", "site-c")
    assert_only_at(cloud, image_id, body, "site-a", "site-b", "site-c")


def patch(cloud, image_id, operation, name, value):
    change = [{"op": operation, "path": f"/{name}", "value": value}]
    path = f"v2/images/{image_id}"
    answer = cloud.request("PATCH", path, json=change, headers=PATCH_TYPE, user="admin")
    assert answer.status_code == 200, answer.text


def test_image_that_changes_while_a_target_is_down_goes_where_it_is_wanted_now(cloud):
    body = image_bytes(SMALL)
    cloud.targets["site-a"].stop()
    try:
        image_id = new_image(cloud, body, visibility="public")
        wait_until(lambda: cloud.statuses(image_id).get("site-a") == "error", 60, "it failed")
        patch(cloud, image_id, "add", "os_distro", "debian")
        cloud.wait_replicated(image_id, ["site-b"])
    finally:
        cloud.targets["site-a"].start()
    assert_only_at(cloud, image_id, body, "site-a", "site-b")
    assert cloud.downloads(image_id) == [], "the spool had the bytes"


def test_lazy_target_is_filled_on_demand(cloud):
    body = image_bytes(SMALL)
    image_id = new_image(cloud, body, visibility="public")
    assert_only_at(cloud, image_id, body, "site-a")
    lines = run(cloud, "sync", image_id, "--target", "site-c", "--wait").splitlines()
    assert (lines[0], lines[-1]) == ("site-c: is made now", "site-c: active")
    assert_only_at(cloud, image_id, body, "site-a", "site-c")
    assert cloud.downloads(image_id) == [], "it was read from site-a"
    assert (
        run(cloud, "sync", image_id).splitlines()[0].startswith("site-b: left out: replicate_if")
    )


def test_users_are_given_what_they_ask_for_where_the_rules_allow_it(cloud):
    body = image_bytes(SMALL)
    image_id = cloud.new_image(body)
    replicas = f"v2/images/{image_id}/replicas"
    answer = cloud.request("PUT", f"{replicas}/site-b")
    assert answer.status_code == 409
    assert "replicate_if: (tag:golden or" in answer.text
    assert cloud.request("PUT", f"{replicas}/site-c").status_code == 202
    assert_only_at(cloud, image_id, body, "site-c")


def test_explain_tells_why(cloud):
    image_id = new_image(cloud, b"some bytes", visibility="public")
    assert_only_at(cloud, image_id, b"some bytes", "site-a")
    lines = json.loads(run(cloud, "explain", image_id, "--format", "json"))
    told = {line["target"]: (line["wanted"], line["replica"], line["next"]) for line in lines}
    assert told == {
        "site-a": (True, "active", "nothing"),
        "site-b": (False, None, "nothing"),
        "site-c": (False, None, "nothing; glance-repl-manage sync makes it"),
    }
    table = run(cloud, "explain", image_id)
    for words in ("replicate_if holds", "tag:golden or", "mode is lazy"):
        assert words in table
