"""The real `openstack` command with a real Keystone and Glance."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.process import clean_environment

OPENSTACK = Path(sys.executable).with_name("openstack")
NAME = "image of the client"
BODY = b"some bytes of an image" * 1000


def openstack(environment, *arguments):
    """Run the command; returns the CompletedProcess, whatever its status."""
    return subprocess.run(
        [sys.executable, str(OPENSTACK), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def image_id(cloud):
    image_id = cloud.create_image(name=NAME)
    assert cloud.upload(image_id, BODY).status_code == 204
    cloud.wait_replicated(image_id)
    yield image_id
    cloud.forget(image_id)


@pytest.fixture(scope="module")
def alice(cloud, keystone):
    """Runs commands as a user of the project."""
    keystone.add_service("image", cloud.glance.url)
    environment = keystone.client_environment("alice", "demo")
    yield lambda *arguments: openstack(environment, "image", "replica", *arguments)
    keystone.remove_service("image")


def test_bash_completion_knows_the_commands():
    completion = openstack(clean_environment(), "complete").stdout
    assert "cmds_image_replica='delete list show sync target'" in completion
    assert "cmds_image_replica_sync='" in completion and "--wait" in completion


def test_list_in_every_format(cloud, alice, image_id):
    formats = ("json", "csv", "value", "table")
    with ThreadPoolExecutor() as pool:
        done = pool.map(lambda name: alice("list", NAME, "-f", name), formats)
    as_json, as_csv, as_value, as_table = (each.stdout for each in done)
    assert [(row["Target"], row["Status"], row["Size"]) for row in json.loads(as_json)] == [
        (target, "active", len(BODY)) for target in cloud.targets
    ]
    assert as_csv.startswith('"Target","Status","Progress","Size","Updated At"\n"site-a","active"')
    assert as_value.startswith(f"site-a active 1.0 {len(BODY)} ")
    assert "| site-a | active | 100%     |" in as_table


def test_show_that_waits(alice, image_id):
    shown = alice("show", image_id, "site-b", "--wait", "30", "-f", "json")
    assert (shown.returncode, shown.stderr) == (0, "site-b: active\n")
    assert json.loads(shown.stdout)["progress"] == 1


def test_what_is_not_there(alice, image_id):
    nowhere = alice("show", image_id, "nowhere")
    assert nowhere.returncode == 1
    assert "The image has no replica at target nowhere. (HTTP 404)" in nowhere.stderr
    unknown = alice("list", "no such image")
    assert unknown.returncode == 1
    assert "No Image found for no such image" in unknown.stderr
