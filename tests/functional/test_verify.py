# SPDX-License-Identifier: Apache-2.0
"""Replicas that go bad at a target, and objects that nobody accounts for."""

import json
import os
import uuid

import pytest

from tests.functional.cloud import Cloud, at_once
from tests.functional.test_manage import manage
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

QUICK = {
    "reconcile_interval_seconds": "1",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
}
SCRUBBING = {
    **QUICK,
    "scrub_interval_seconds": "1",
    "scrub_bytes_per_second": str(64 << 20),
    "orphan_interval_seconds": "1",
    "missing_image_delay_seconds": "2",
}
ALL = ("site-a", "site-b", "site-c")
IMAGES = 9
SIZE = 300_000
WAIT_SECONDS = 90
FOREIGN = "of-someone-else.iso"


def truncate(path):
    os.truncate(path, SIZE - 1)


def remove(path):
    path.unlink()


def flip_a_bit(path):
    body = bytearray(path.read_bytes())
    body[SIZE // 2] ^= 1
    path.write_bytes(body)


DAMAGES = [truncate, remove, flip_a_bit]


def new_cloud(directory, keystone, options):
    """Its targets can be listed."""
    targets = {name: Nginx(directory / name, autoindex=True) for name in ALL}
    return Cloud(directory, keystone, targets=targets, options={"replication": options})


def new_images(cloud, number):
    """So many replicated images; returns their bodies by id."""
    bodies = [image_bytes(SIZE) for _ in range(number)]
    images = dict(zip(at_once(4, cloud.new_image, bodies), bodies, strict=True))
    for image_id in images:
        cloud.wait_replicated(image_id)
    return images


def path_of(cloud, image_id, target):
    return cloud.targets[target].root / cloud.row(image_id, target).object_name


def put_orphan(cloud, target, suffix=""):
    """A file that an upload of an image which is gone might have left; returns its path."""
    name = f"{uuid.uuid4()}.{uuid.uuid4().hex}.1{suffix}"
    path = cloud.targets[target].root / name
    path.write_bytes(b"left over")
    return path


def assert_intact(cloud, image_id, body):
    """Every target has a replica that is a location, with the image's bytes and nothing else."""
    urls = cloud.wait_replicated(image_id, seconds=WAIT_SECONDS)
    for target, url in urls.items():
        assert cloud.object_bytes(target, url) == body
    assert len(cloud.locations(image_id)) == 1 + len(ALL)
    cloud.wait_settled()
    assert {
        target: len(names) for target, names in cloud.objects(image_id).items()
    } == dict.fromkeys(ALL, 1)


# By the command, while no writer runs


class Operator:
    """Runs `verify`; `images` are left for tests to spoil, each for one."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.images = new_images(cloud, IMAGES)
        self.bodies = dict(self.images)
        wait_until(
            lambda: all(row.verified_at for row in cloud.rows()),
            WAIT_SECONDS,
            "the scrub has verified all once",
        )
        self.set_writer("external")

    def set_writer(self, writer):
        """Begin anew with the embedded writer or, if it is external, with none."""
        self.cloud.glance.stop()
        wait_until(lambda: not self.cloud.writers(), WAIT_SECONDS, "the writer ends")
        self.cloud.glance.options["replication"]["writer"] = writer
        self.cloud.glance.write_config()
        self.cloud.glance.start()

    def take_image(self):
        return self.images.popitem()[0]

    def run(self, *arguments):
        return manage("--config-file", self.cloud.glance.config_file, "verify", *arguments)

    def lines(self, status, *arguments):
        """What the command answers, which ends with this exit status."""
        process = self.run(*arguments, "--format", "json")
        assert (process.returncode, process.stderr) == (status, ""), process.stdout
        return json.loads(process.stdout)

    def verdicts(self, status, *arguments):
        """The verdict words by image and target."""
        lines = self.lines(status, *arguments)
        return {(line["image_id"], line["target"]): line["verdict"] for line in lines}


@pytest.fixture(scope="module")
def operator(keystone, workdir, require):
    require(Nginx)
    with new_cloud(workdir("verify"), keystone, QUICK) as cloud:
        yield Operator(cloud)


def good(image_id, *targets):
    return {(image_id, target): "good" for target in targets}


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_replica_is_found_and_loses_its_location(operator, damage):
    cloud, image_id = operator.cloud, operator.take_image()
    assert operator.verdicts(0, image_id) == good(image_id, *ALL)
    damage(path_of(cloud, image_id, "site-b"))
    if damage is flip_a_bit:
        assert operator.verdicts(0, image_id) == good(image_id, *ALL)
    arguments = ["--read-back"] if damage is flip_a_bit else []
    assert operator.verdicts(1, image_id, *arguments) == {
        **good(image_id, "site-a", "site-c"),
        (image_id, "site-b"): "bad",
    }
    assert set(cloud.replica_urls(image_id)) == {"site-a", "site-c"}
    row = cloud.row(image_id, "site-b")
    assert (row.status, row.next_attempt_at is None) == ("error", False)
    assert row.object_name in row.error
    assert operator.verdicts(0, image_id)[image_id, "site-b"] == "skipped"


def test_target_that_is_down_is_not_known_to_be_bad(operator):
    cloud, image_id = operator.cloud, operator.take_image()
    cloud.targets["site-c"].stop()
    try:
        verdicts = operator.verdicts(1, "--target", "site-c")
    finally:
        cloud.targets["site-c"].start()
    assert set(verdicts.values()) == {"unknown"}
    assert set(cloud.replica_urls(image_id)) == set(ALL)


def test_sample_and_table(operator):
    verdicts = operator.verdicts(0, "--sample", "2", "--target", "site-a", "--read-back")
    assert list(verdicts.values()) == ["good", "good"]
    process = operator.run("--sample", "1")
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.splitlines()[-1] == "3 good"
    for target in ALL:
        assert target in process.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "site-x"), ("site-x", "site-a, site-b, site-c")),
        (("no-such-image",), ("no-such-image", "no replica")),
        (("--delete",), ("--orphans",)),
        (("--orphans", "--read-back"), ("--orphans",)),
    ],
)
def test_what_cannot_be_done_is_said(operator, arguments, words):
    process = operator.run(*arguments)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.count("\n") == 1
    for word in words:
        assert word in process.stderr


def test_orphans_are_listed_and_deleted(operator):
    cloud = operator.cloud
    orphans = [put_orphan(cloud, "site-a"), put_orphan(cloud, "site-a", ".partial")]
    foreign = cloud.targets["site-a"].root / FOREIGN
    foreign.write_text("of someone else")
    before = cloud.objects()
    found = {path.name: "orphan" for path in orphans}

    def states(status, *arguments):
        lines = operator.lines(status, "--orphans", *arguments)
        assert {line["target"] for line in lines} <= {"site-a"}
        return {line["object_name"]: line["state"] for line in lines}

    assert states(1) == {**found, FOREIGN: "foreign"}
    assert states(0, "--target", "site-b") == {}
    assert cloud.objects() == before
    assert states(0, "--delete") == {**dict.fromkeys(found, "deleted"), FOREIGN: "foreign"}
    assert not any(path.exists() for path in orphans)
    assert states(0) == {FOREIGN: "foreign"}
    foreign.unlink()
    kept = {target: set(names) - set(found) - {FOREIGN} for target, names in before.items()}
    assert {target: set(names) for target, names in cloud.objects().items()} == kept


def test_last_location_stays(operator):
    cloud, image_id = operator.cloud, operator.take_image()
    urls = cloud.locations(image_id)
    last = cloud.replica_urls(image_id)["site-a"]
    changes = [
        {"op": "remove", "path": f"/locations/{place}"}
        for place, url in reversed(list(enumerate(urls)))
        if url != last
    ]
    answer = cloud.request(
        "PATCH",
        f"v2/images/{image_id}",
        user="admin",
        json=changes,
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
    )
    answer.raise_for_status()
    path_of(cloud, image_id, "site-a").unlink()
    (line,) = operator.lines(1, image_id, "--target", "site-a")
    assert line["verdict"] == "bad"
    assert "only one" in line["why"]
    assert cloud.locations(image_id) == [last]
    assert cloud.row(image_id, "site-a").status == "active"
    # The image has no bytes any more that a later test could count on.
    cloud.forget(image_id)
    del operator.bodies[image_id]


def test_the_writer_repairs_what_was_withdrawn(operator):
    cloud = operator.cloud
    damaged = {operator.take_image(): damage for damage in DAMAGES}
    for image_id, damage in damaged.items():
        damage(path_of(cloud, image_id, "site-a"))
        operator.verdicts(1, image_id, "--read-back")
    operator.set_writer("embedded")
    for image_id, body in operator.bodies.items():
        assert_intact(cloud, image_id, body)


# By itself


@pytest.fixture(scope="module")
def scrubbed(keystone, workdir, require):
    require(Nginx)
    with new_cloud(workdir("scrub"), keystone, SCRUBBING) as cloud:
        yield cloud


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_replica_is_found_and_repaired_in_the_background(scrubbed, damage):
    ((image_id, body),) = new_images(scrubbed, 1).items()
    bad = scrubbed.replica_urls(image_id)["site-b"]
    scrubbed.wait_settled()
    damage(path_of(scrubbed, image_id, "site-b"))
    wait_until(
        lambda: bad not in scrubbed.locations(image_id), WAIT_SECONDS, "the location is gone"
    )
    assert_intact(scrubbed, image_id, body)


def test_wiped_target_is_filled_again_once_it_is_claimed(scrubbed):
    images = new_images(scrubbed, 5)
    scrubbed.wait_settled()
    wiped = {image_id: scrubbed.replica_urls(image_id)["site-c"] for image_id in images}
    for path in scrubbed.targets["site-c"].root.iterdir():
        path.unlink()
    wait_until(
        lambda: "target claim site-c" in scrubbed.glance.log.read_text(errors="replace"),
        WAIT_SECONDS,
        "it is said that the disk may not be mounted",
    )
    for image_id, kept in wiped.items():
        assert kept in scrubbed.locations(image_id)
    claimed = manage("--config-file", scrubbed.glance.config_file, "target", "claim", "site-c")
    assert claimed.returncode == 0, claimed
    for image_id, bad in wiped.items():
        wait_until(
            lambda image_id=image_id, bad=bad: bad not in scrubbed.locations(image_id),
            WAIT_SECONDS,
            "the location is gone",
        )
    for image_id, body in images.items():
        assert_intact(scrubbed, image_id, body)


def test_orphans_go_in_the_background_and_foreign_objects_stay(scrubbed):
    ((image_id, body),) = new_images(scrubbed, 1).items()
    foreign = scrubbed.targets["site-a"].root / FOREIGN
    foreign.write_text("of someone else")
    orphans = [put_orphan(scrubbed, "site-a"), put_orphan(scrubbed, "site-b", ".partial")]
    wait_until(
        lambda: not any(path.exists() for path in orphans), WAIT_SECONDS, "the orphans are gone"
    )
    assert foreign.exists()
    foreign.unlink()
    assert_intact(scrubbed, image_id, body)
