# SPDX-License-Identifier: Apache-2.0
"""Targets that join, are drained, removed, restored, or are taken out of the configuration."""

import json
import signal
import subprocess
import sys

import pytest

from glance_repl_mw.targets.guarded import MARKER
from tests.functional.cloud import Cloud, at_once
from tests.functional.test_manage import manage
from tests.lab.images import image_bytes
from tests.lab.process import clean_environment, wait_until
from tests.lab.webservers import Nginx

QUICK = {
    "reconcile_interval_seconds": "1",
    "probe_interval_seconds": "0.2",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
}
ALL = ("site-a", "site-b", "site-c")
OTHERS = ("site-a", "site-b")
WAIT_SECONDS = 90


class Operator:
    """Changes the configuration of a cloud, and runs commands."""

    def __init__(self, cloud):
        self.cloud = cloud

    def run(self, *arguments):
        return manage("--config-file", self.cloud.glance.config_file, *arguments)

    def done(self, *arguments):
        """Run a command that must succeed; returns what it printed."""
        process = self.run(*arguments)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    def targets(self):
        listed = json.loads(self.done("target", "list", "--format", "json"))
        return {line["target"]: line for line in listed}

    def configure(self, *targets, **options):
        """Let Glance and its writer begin anew with these targets and options."""
        names = ",".join(f"{name}:http" for name in targets)
        wanted = {**QUICK, "enabled_targets": names, **options}
        replication = self.cloud.glance.options["replication"]
        before = dict(replication)
        replication.pop("automatic_backfill", None)
        replication.update(wanted)
        if replication != before:
            self.cloud.glance.write_config()
            self.restart()

    def restart(self):
        self.cloud.glance.stop()
        wait_until(lambda: not self.cloud.writers(), WAIT_SECONDS, "the writer ends")
        self.cloud.glance.start()
        self.cloud.request("GET", "v2/images?limit=1")
        self.cloud.writer()

    def upload(self, number, targets):
        """Make so many images and wait for their replicas; returns the bodies by image id."""
        bodies = [image_bytes(50_000) for _ in range(number)]
        images = dict(zip(at_once(4, self.cloud.new_image, bodies), bodies, strict=True))
        for image_id in images:
            self.cloud.wait_replicated(image_id, targets)
        return images

    def holds(self, image_id, target):
        """Whether the target has an object of the image."""
        return target in self.cloud.objects(image_id)


@pytest.fixture(scope="module")
def running(keystone, workdir, require):
    require(Nginx)
    with Cloud(workdir("leaving"), keystone, options={"replication": QUICK}) as cloud:
        yield cloud


@pytest.fixture
def operator(running):
    """All three targets, none with a wish, and no image."""
    operator = Operator(running)
    operator.configure(*ALL)
    yield operator
    for server in running.targets.values():
        if not server.running:
            server.start()
    for target in running.targets:
        operator.run("target", "restore", target)
    images = running.request("GET", "v2/images?visibility=all&limit=100", user="admin").json()
    for image in images["images"]:
        running.request("DELETE", f"v2/images/{image['id']}", user="admin")
    wait_until(
        lambda: all(row.status == "deleted" for row in running.rows()),
        WAIT_SECONDS,
        "all replicas are deleted",
    )
    for server in running.targets.values():
        for path in server.root.iterdir():
            if path.name != MARKER:
                path.unlink()


def assert_intact(cloud, images, targets):
    """Each image has these locations besides its own, and no others, each with its bytes."""
    for image_id, body in images.items():
        urls = cloud.replica_urls(image_id)
        assert set(urls) == set(targets)
        assert len(cloud.locations(image_id)) == 1 + len(targets)
        for target, url in urls.items():
            assert cloud.object_bytes(target, url) == body


def test_target_that_joins_is_backfilled_by_itself(operator):
    cloud = operator.cloud
    operator.configure(*OTHERS)
    images = operator.upload(3, OTHERS)
    assert set(cloud.objects()) == set(OTHERS)
    operator.configure(*ALL)
    for image_id in images:
        cloud.wait_replicated(image_id, ALL, WAIT_SECONDS)
    assert_intact(cloud, images, ALL)


def test_without_automatic_backfill_it_is_done_by_command(operator):
    cloud = operator.cloud
    operator.configure(*OTHERS)
    images = operator.upload(4, OTHERS)
    operator.configure(*ALL, automatic_backfill="False")
    fresh = operator.upload(1, ALL)
    listed = operator.done("backfill", "--target", "site-c", "--dry-run").splitlines()
    assert set(listed[:-1]) == {f"{image_id} 50000" for image_id in images}
    assert listed[-1] == "Images that target site-c lacks: 4; bytes: 200000."
    assert set(cloud.objects()["site-c"]) == {
        cloud.row(image_id, "site-c").object_name for image_id in fresh
    }

    printed = operator.done("backfill", "--target", "site-c", "--limit", "3")
    assert "Images planned for target site-c: 3; bytes: 150000." in printed
    chosen = [image_id for image_id in images if cloud.row(image_id, "site-c")]
    assert len(chosen) == 3
    for image_id in chosen:
        cloud.wait_replicated(image_id, ALL, WAIT_SECONDS)
    assert "lacks: 1;" in operator.done("backfill", "--target", "site-c", "--dry-run")
    assert len(cloud.objects()["site-c"]) == 4


def test_drained_target_loses_locations_then_objects_and_restore_brings_them_back(operator):
    cloud = operator.cloud
    images = operator.upload(5, ALL)
    draining = start(operator, "target", "drain", "site-c")
    while draining.poll() is None:
        for image_id in images:
            if not operator.holds(image_id, "site-c"):
                assert "site-c" not in cloud.replica_urls(image_id)
    printed, _ = draining.communicate()
    assert draining.returncode == 0, printed
    # The writer may have begun before the command looks.
    assert "Replicas left: " in printed
    assert printed.splitlines()[-1] == "Target site-c is empty."
    assert "site-c" not in cloud.objects()
    assert_intact(cloud, images, OTHERS)
    assert operator.targets()["site-c"]["wish"] == "drained"

    images |= operator.upload(1, OTHERS)
    cloud.wait_settled()
    assert_intact(cloud, images, OTHERS)
    assert "site-c" not in cloud.objects()
    refused = operator.run("backfill", "--target", "site-c")
    assert refused.returncode == 2
    assert "target restore" in refused.stderr
    (finding,) = [
        line for line in operator.run("check").stdout.splitlines() if "being drained" in line
    ]
    assert finding.startswith("warning: site-c: ")

    operator.done("target", "restore", "site-c")
    for image_id in images:
        cloud.wait_replicated(image_id, ALL, WAIT_SECONDS)
    assert_intact(cloud, images, ALL)


def test_dead_target_is_drained_of_locations_at_once_and_of_objects_when_it_is_back(operator):
    cloud = operator.cloud
    images = operator.upload(3, ALL)
    cloud.targets["site-c"].stop()
    draining = start(operator, "target", "drain", "site-c")
    for image_id in images:
        wait_until(
            lambda image_id=image_id: set(cloud.replica_urls(image_id)) == set(OTHERS),
            WAIT_SECONDS,
            "the location is gone",
        )
    draining.send_signal(signal.SIGINT)
    printed, _ = draining.communicate()
    assert draining.returncode == 130
    assert "It goes on in the background" in printed
    line = operator.targets()["site-c"]
    assert (line["wish"], line["answers"]) == ("draining", False)
    assert all(operator.holds(image_id, "site-c") for image_id in images)

    cloud.targets["site-c"].start()
    wait_until(lambda: "site-c" not in cloud.objects(), WAIT_SECONDS, "the objects are gone")
    wait_until(
        lambda: operator.targets()["site-c"]["wish"] == "drained", WAIT_SECONDS, "it is drained"
    )
    assert_intact(cloud, images, OTHERS)


def test_removed_target_is_forgotten_although_it_is_dead(operator):
    cloud = operator.cloud
    images = operator.upload(3, ALL)
    cloud.targets["site-c"].stop()
    refused = operator.run("target", "remove", "site-c")
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    printed = operator.done("target", "remove", "site-c", "--force")
    assert printed.splitlines()[-1] == "Target site-c is empty."
    assert_intact(cloud, images, OTHERS)
    assert {str(cloud.row(image_id, "site-c").status) for image_id in images} == {"deleted"}
    assert all(operator.holds(image_id, "site-c") for image_id in images)
    line = operator.targets()["site-c"]
    assert (line["wish"], line["replicas"], line["answers"]) == ("removed", {}, None)
    images |= operator.upload(1, OTHERS)
    assert_intact(cloud, images, OTHERS)


def test_target_taken_out_of_the_configuration_is_reported_and_can_be_removed(operator):
    cloud = operator.cloud
    images = operator.upload(2, ALL)
    operator.configure(*OTHERS)
    report = "site-c is not configured, but has replicas: 2"
    wait_until(
        lambda: report in cloud.glance.log.read_text(), WAIT_SECONDS, "the writer reports it"
    )
    check = operator.run("check")
    assert check.returncode == 1, check.stdout
    assert any(
        line.startswith("warning: site-c: is not configured, but has replicas: 2; ")
        for line in check.stdout.splitlines()
    )
    line = operator.targets()["site-c"]
    assert (line["configured"], line["error"]) == (False, "not configured")
    assert line["replicas"] == {"active": 2}
    assert_intact(cloud, images, ALL)
    refused = operator.run("target", "drain", "site-c")
    assert refused.returncode == 2

    operator.done("target", "remove", "site-c", "--force")
    assert_intact(cloud, images, OTHERS)
    wait_until(lambda: "site-c" not in operator.targets(), WAIT_SECONDS, "it is forgotten")
    left = [line for line in operator.run("check").stdout.splitlines() if "site-c" in line]
    assert [line for line in left if "not in enabled_targets" not in line] == []


def test_only_location_of_an_image_stays_and_is_named(operator):
    cloud = operator.cloud
    operator.configure("site-c")
    (image_id,) = operator.upload(1, ("site-c",))
    answer = cloud.request(
        "PATCH",
        f"v2/images/{image_id}",
        user="admin",
        json=[{"op": "remove", "path": "/locations/0"}],
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
    )
    assert answer.status_code == 200, answer.text
    ended = operator.run("target", "drain", "site-c")
    assert ended.returncode == 1, ended.stdout
    reason = "cannot leave: it is the only location of the image"
    assert f"image {image_id} {reason}" in ended.stdout
    (stays,) = operator.targets()["site-c"]["cannot_leave"]
    assert stays == {"image_id": image_id, "error": reason}
    assert set(cloud.replica_urls(image_id)) == {"site-c"}
    assert operator.holds(image_id, "site-c")


def start(operator, *arguments):
    """Run a command beside the test."""
    config = str(operator.cloud.glance.config_file)
    return subprocess.Popen(
        [sys.executable, "-m", "glance_repl_mw.cmd.manage", "--config-file", config, *arguments],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background ignores SIGINT, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
