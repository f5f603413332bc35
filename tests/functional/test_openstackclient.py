# SPDX-License-Identifier: Apache-2.0
"""What users run, with a real Keystone and Glance: the `openstack` command, and a script."""

import json
import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from oslo_utils import timeutils

from tests.functional.cloud import TOP
from tests.lab.process import clean_environment, wait_until

OPENSTACK = Path(sys.executable).with_name("openstack")
EXAMPLE = TOP / "doc" / "examples" / "boot_at_site.py"
NAME = "image of the client"
BODY = b"some bytes of an image" * 1000


def openstack(environment, *arguments, **streams):
    return run(OPENSTACK, environment, *arguments, **streams)


def run(program, environment, *arguments, stderr=subprocess.PIPE):
    """Run a program in Python; returns the CompletedProcess, whatever its status."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(program), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
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
def catalogue(cloud, keystone):
    keystone.add_service("image", cloud.glance.url)
    yield
    keystone.remove_service("image")


@pytest.fixture(scope="module")
def alice(catalogue, keystone):
    """Runs commands as a user of the project."""
    environment = keystone.client_environment("alice", "demo")
    return lambda *arguments: openstack(environment, "image", "replica", *arguments)


@pytest.fixture(scope="module")
def admin(catalogue, keystone):
    """Runs commands as the administrator."""
    environment = keystone.client_environment()
    return lambda *arguments: openstack(environment, "image", "replica", *arguments)


def test_bash_completion_knows_the_commands():
    completion = openstack(clean_environment(), "complete").stdout
    assert "cmds_image_replica='delete list show sync target'" in completion
    assert "cmds_image_replica_sync='" in completion and "--wait" in completion


def test_list_in_every_format(cloud, alice, image_id):
    formats = ("json", "yaml", "csv", "value", "table")
    with ThreadPoolExecutor() as pool:
        done = pool.map(lambda name: alice("list", NAME, "-f", name), formats)
    as_json, as_yaml, as_csv, as_value, as_table = (each.stdout for each in done)
    for rows in (json.loads(as_json), yaml.safe_load(as_yaml)):
        # A row may be looked at anew between two of the commands.
        assert all(timeutils.parse_isotime(row.pop("Updated At")) for row in rows)
        assert rows == [
            {"Target": target, "Status": "active", "Progress": 1.0, "Size": len(BODY)}
            for target in cloud.targets
        ]
    assert as_csv.startswith('"Target","Status","Progress","Size","Updated At"\n"site-a","active"')
    assert as_value.startswith(f"site-a active 1.0 {len(BODY)} ")
    assert "| site-a | active | 100%     |" in as_table


def test_show_that_waits_on_a_terminal(keystone, catalogue, image_id):
    environment = keystone.client_environment("alice", "demo")
    terminal, stderr = pty.openpty()
    arguments = ("show", image_id, "site-b", "--wait", "30", "-f", "json")
    shown = openstack(environment, "image", "replica", *arguments, stderr=stderr)
    os.close(stderr)
    bar = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert json.loads(shown.stdout)["progress"] == 1
    assert "site-b" in bar and "active" in bar and "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in bar


def test_delete_is_for_administrators_and_sync_for_the_owner(cloud, alice, admin, image_id):
    with ThreadPoolExecutor() as pool:
        refused = pool.submit(alice, "delete", image_id, "site-c")
        deleted = admin("delete", NAME, "site-c")
    assert refused.result().returncode == 1
    assert "(HTTP 403)" in refused.result().stderr
    assert (deleted.returncode, deleted.stdout, deleted.stderr) == (0, "", "")
    wait_until(lambda: cloud.statuses(image_id)["site-c"] == "deleted", 60, "deleted")
    synced = alice("sync", NAME, "site-c", "site-a", "nowhere", "--wait", "60", "-f", "json")
    assert [(row["Target"], row["Status"]) for row in json.loads(synced.stdout)] == [
        ("site-c", "active"),
        ("site-a", "active"),
    ]
    assert synced.returncode == 1
    assert synced.stderr.endswith(": There is no target nowhere. (HTTP 404)\n")
    assert "site-c: active" in synced.stderr
    assert set(cloud.replica_urls(image_id)) == set(cloud.targets)


def test_script_that_a_consumer_would_write(cloud, keystone, catalogue, image_id):
    path = f"v2/images/{image_id}/replicas/site-b"
    assert cloud.request("DELETE", path, user="admin").status_code == 202
    wait_until(lambda: cloud.statuses(image_id)["site-b"] == "deleted", 60, "deleted")
    with ThreadPoolExecutor() as pool:
        environment = keystone.client_environment("alice", "demo")
        booted, nowhere = pool.map(
            lambda site: run(EXAMPLE, environment, image_id, site), ("site-b", "nowhere")
        )
    assert (booted.returncode, booted.stdout, booted.stderr) == (0, "", "")
    url = cloud.replica_urls(image_id)["site-b"]
    assert cloud.object_bytes("site-b", url) == BODY
    assert nowhere.returncode == 1
    assert "There is no target nowhere" in nowhere.stderr


def test_targets(cloud, alice, admin):
    rows = alice("target", "list", "-f", "value").stdout.splitlines()
    assert [row.split()[0] for row in rows] == list(cloud.targets)
    targets = json.loads(admin("target", "list", "--long", "-f", "json").stdout)
    assert targets[0]["URL"] == cloud.targets["site-a"].url


def test_what_is_not_there(alice, image_id):
    nowhere = alice("show", image_id, "nowhere")
    assert nowhere.returncode == 1
    assert "The image has no replica at target nowhere: there is no such target" in nowhere.stderr
    unknown = alice("list", "no such image")
    assert unknown.returncode == 1
    assert "No Image found for no such image" in unknown.stderr
