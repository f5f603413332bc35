# SPDX-License-Identifier: Apache-2.0
"""Good replicas outlive wrong words: lost roles, another Glance, old rows, twin collections.

The tests of lost roles, of another Glance and of rows older than the locations were seen to fail
on the tree before these guards: it lost live objects there. The others were not run there.
"""

import contextlib
import shutil
import sqlite3

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.lab import commands
from tests.lab.faults import DOWN, HEALTHY, FaultyProxy, FaultyTarget
from tests.lab.glance import Glance
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

SITES = ("site-a", "site-b")
QUICK = {
    "reconcile_interval_seconds": "1",
    "missing_image_delay_seconds": "2",
    "orphan_interval_seconds": "1",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
    "probe_interval_seconds": "0.3",
    "withdraw_after_seconds": "600",
}
SERVICE_USER = ("replicator", "service")
MEDIA = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
ROUNDS = 4


class Deletions(Cloud):
    """Two targets that can be cut off, and a way to Glance that can lead elsewhere."""

    def __init__(self, directory, keystone, **options):
        targets = {name: FaultyTarget(Nginx(directory / name, autoindex=True)) for name in SITES}
        super().__init__(
            directory,
            keystone,
            targets=targets,
            options={
                "replication": {**QUICK, **options},
                "keystone_authtoken": {"token_cache_time": "-1"},
            },
        )
        self.way = FaultyProxy(self.glance)
        self.ways_to_glance = [self.way]
        self.glance.options["replication"]["endpoint_override"] = self.way.url

    def manage(self, *arguments):
        return commands.manage("--config-file", self.glance.config_file, *arguments)

    def sql(self, statement, *values):
        with contextlib.closing(sqlite3.connect(self.directory / "replication.sqlite")) as file:
            file.execute("PRAGMA busy_timeout = 60000")
            with file:
                return file.execute(statement, values).fetchall()

    def wait_passes(self, number=ROUNDS):
        """Wait until the writer has listed all images so many times more."""

        def passes():
            """Each ends with the hidden images."""
            lines = self.glance.access_log.read_text(errors="replace").splitlines()
            return sum("sort=created_at" in line and "os_hidden=true" in line for line in lines)

        before = passes()
        wait_until(lambda: passes() >= before + number, 120, "the images are compared")

    def assert_kept(self, image_id, body, urls):
        """Each location still names its object, which has all bytes."""
        for name, url in urls.items():
            assert self.object_bytes(name, url) == body
        assert self.replica_urls(image_id) == urls

    def rename(self, image_id):
        change = [{"op": "replace", "path": "/name", "value": "another"}]
        path = f"v2/images/{image_id}"
        assert self.request("PATCH", path, json=change, headers=MEDIA).status_code == 200


@pytest.fixture
def cloud(keystone, workdir, require):
    require(Nginx)
    with Deletions(workdir("deletions"), keystone) as running:
        yield running


@contextlib.contextmanager
def role_lost(keystone):
    keystone.give_role(*SERVICE_USER, "member")
    keystone.take_role(*SERVICE_USER, "admin")
    try:
        yield
    finally:
        keystone.give_role(*SERVICE_USER, "admin")


def replicated(cloud, number=1):
    """Images, their bodies and locations, complete at both targets."""
    found = []
    for _ in range(number):
        body = image_bytes(MIB)
        image_id = cloud.new_image(body)
        found.append((image_id, body, cloud.wait_replicated(image_id)))
    cloud.wait_settled()
    return found


def test_lost_role_and_a_change_by_the_owner_delete_nothing(cloud, keystone):
    """A1 and A3: Glance answers the service user 404 for everything that is not public."""
    images = replicated(cloud, 3)
    cloud.wait_passes(1)
    with role_lost(keystone):
        for image_id, _, _ in images:
            cloud.rename(image_id)
        cloud.wait_passes()
        for image_id, body, urls in images:
            cloud.assert_kept(image_id, body, urls)
        shown = cloud.manage("deletions", "show")
        assert images[0][0] in shown.stdout, shown
    cloud.wait_passes()
    for image_id, body, urls in images:
        cloud.assert_kept(image_id, body, urls)
        assert cloud.statuses(image_id) == dict.fromkeys(SITES, "active")


def test_lost_role_while_another_target_is_awaited_keeps_the_active_replica(cloud, keystone):
    """A2: the PATCH for the second location is answered 404."""
    cloud.new_image(b"a witness of other projects' images")
    cloud.targets["site-b"].switch(DOWN)
    body = image_bytes(MIB)
    image_id = cloud.new_image(body)
    urls = cloud.wait_replicated(image_id, ["site-a"])
    with role_lost(keystone):
        cloud.targets["site-b"].switch(HEALTHY)
        wait_until(
            lambda: any(
                f"/v2/images/{image_id}" == r.path and r.status == 404
                for r in cloud.glance.requests()
            ),
            120,
            "Glance denies the image",
        )
        cloud.wait_passes(2)
        assert cloud.object_bytes("site-a", urls["site-a"]) == body
        assert cloud.locations(image_id)[1:] == [urls["site-a"]]
    cloud.wait_replicated(image_id)


@pytest.mark.parametrize("kind", ["empty", "foreign"])
def test_another_glance_deletes_nothing(cloud, keystone, kind):
    """A4: the endpoint leads to another Glance."""
    images = replicated(cloud, 2)
    cloud.wait_passes(1)
    with Glance(cloud.directory / "other", keystone) as other:
        if kind == "foreign":
            for _ in range(2):
                image_id = cloud.create_image(glance=other)
                cloud.upload(image_id, b"another body", glance=other).raise_for_status()
        asked = len(other.requests())
        cloud.way.lead_to(other)
        wait_until(lambda: len(other.requests()) > asked + 20, 120, "the other Glance is asked")
        for image_id, body, urls in images:
            cloud.assert_kept(image_id, body, urls)
        cloud.way.lead_to(cloud.glance)
    cloud.wait_passes()
    for image_id, body, urls in images:
        cloud.assert_kept(image_id, body, urls)


def test_rows_that_are_older_than_the_locations_are_taken_up(cloud):
    """A5 and A6: rows say uploading, and the replicas are locations."""
    ((image_id, body, urls),) = replicated(cloud)
    writer = cloud.writer()
    cloud.glance.stop()
    wait_until(lambda: not writer.is_running(), 60, "the writer has gone")
    cloud.sql("UPDATE replicas SET status = 'uploading', location_url = NULL, bytes_sent = 0")
    cloud.glance.start()
    cloud.wake()
    wait_until(lambda: cloud.statuses(image_id) == dict.fromkeys(SITES, "active"), 120, "taken up")
    cloud.assert_kept(image_id, body, urls)
    cloud.wait_passes()
    cloud.assert_kept(image_id, body, urls)
    assert cloud.downloads(image_id) == []


def test_empty_database_takes_up_what_is_there(cloud):
    ((image_id, body, urls),) = replicated(cloud)
    writer = cloud.writer()
    cloud.glance.stop()
    wait_until(lambda: not writer.is_running(), 60, "the writer has gone")
    (cloud.directory / "replication.sqlite").unlink()
    cloud._store = None
    cloud.glance.start()
    cloud.wake()
    wait_until(lambda: cloud.statuses(image_id) == dict.fromkeys(SITES, "active"), 120, "taken up")
    cloud.assert_kept(image_id, body, urls)


def test_url_of_another_target_is_refused(cloud):
    """A7: by a mistake both targets have one url."""
    ((image_id, body, urls),) = replicated(cloud)
    options = cloud.glance.options["replication:site-a"]
    right, wrong = options["url"], cloud.targets["site-b"].url
    options["url"] = wrong.rstrip("/")
    cloud.glance.write_config()
    told = cloud.manage("check")
    assert "site-a" in told.stdout
    assert "site-b" in told.stdout
    assert "same place" in told.stdout, told.stdout
    options["url"] = right
    cloud.glance.write_config()
    cloud.assert_kept(image_id, body, urls)


def test_drain_of_a_target_that_leads_to_another_deletes_nothing_there(cloud):
    """A7: the mistake is not seen where the host has another name."""
    ((image_id, body, urls),) = replicated(cloud)
    options = cloud.glance.options["replication:site-a"]
    right, wrong = options["url"], cloud.targets["site-b"].url
    options["url"] = wrong.replace("127.0.0.1", "localhost")
    cloud.glance.write_config()
    cloud.glance.reload()
    cloud.wake()
    cloud.manage("target", "drain", "--no-wait", "site-a")
    cloud.wait_passes()
    assert cloud.object_bytes("site-b", urls["site-b"]) == body
    assert cloud.object_bytes("site-a", urls["site-a"]) == body
    assert urls["site-b"] in cloud.locations(image_id)
    options["url"] = right
    cloud.glance.write_config()
    cloud.glance.reload()
    cloud.wake()
    cloud.manage("target", "restore", "site-a")
    cloud.wait_replicated(image_id)
    assert cloud.object_bytes("site-b", urls["site-b"]) == body


def test_one_server_under_two_names_serves_one_of_them(keystone, workdir, require):
    """A8: neither deletes nor uses the objects of the other."""
    require(Nginx)
    directory = workdir("twins")
    server = Nginx(directory / "twin", autoindex=True)
    cloud = Cloud(
        directory,
        keystone,
        targets={"site-a": server},
        options={
            "replication": {**QUICK, "enabled_targets": "site-a:http,site-b:http"},
            "replication:site-b": {"url": server.url.replace("127.0.0.1", "localhost")},
        },
    )
    with cloud:
        body = image_bytes(MIB)
        image_id = cloud.new_image(body)

        def refused():
            return [row.target for row in cloud.rows(image_id) if "marked" in (row.error or "")]

        (loser,) = wait_until(refused, 120, "one says why it is not used")
        (winner,) = set(SITES) - {loser}
        wait_until(
            lambda: cloud.row(image_id, winner).status in ("stored", "active"),
            120,
            "the other has it",
        )
        names = [path.name for path in server.root.iterdir() if path.name.startswith(image_id)]
        assert names == [cloud.row(image_id, winner).object_name]


def test_changed_url_is_refused_until_the_operator_says_how(cloud):
    ((image_id, body, urls),) = replicated(cloud)
    target, options = cloud.targets["site-a"], cloud.glance.options["replication:site-a"]
    moved = f"{target.url}moved/"
    options["url"] = moved
    cloud.glance.write_config()
    cloud.glance.reload()
    cloud.wake()
    told = cloud.manage("check")
    assert "target moved site-a" in told.stdout, told.stdout
    cloud.wait_passes(2)
    cloud.assert_kept(image_id, body, urls)
    # The operator moves the objects along.
    (target.root / "moved").mkdir()
    for path in list(target.root.iterdir()):
        if path.is_file():
            shutil.move(path, target.root / "moved" / path.name)
    for path in (target.root, target.root / "moved"):
        path.chmod(0o777)
    said = cloud.manage("target", "moved", "site-a")
    assert said.returncode == 0, said
    new = urls["site-a"].replace(target.url, moved)
    assert new in cloud.locations(image_id)
    assert urls["site-a"] not in cloud.locations(image_id)
    wait_until(lambda: cloud.row(image_id, "site-a").location_url == new, 60, "the row follows")
    assert cloud.manage("check").stdout.count("marked as its own") == len(SITES)


def test_many_missing_images_trip_the_breaker_and_wait_for_an_operator(cloud):
    """Images vanish from Glance's database, of which no node saw a DELETE."""
    witness = replicated(cloud, 1)
    images = replicated(cloud, 7)
    cloud.wait_passes(1)
    with contextlib.closing(sqlite3.connect(cloud.glance.directory / "glance.sqlite")) as file:
        file.execute("PRAGMA busy_timeout = 60000")
        with file:
            for image_id, _, _ in images:
                file.execute(
                    "UPDATE images SET deleted = 1, deleted_at = updated_at, status = 'deleted'"
                    " WHERE id = ?",
                    (image_id,),
                )
    wait_until(
        lambda: cloud.manage("deletions", "show").returncode == 1, 120, "deletions are stopped"
    )
    for _, body, urls in images:
        for name, url in urls.items():
            assert cloud.object_bytes(name, url) == body
    assert "deletions show" in cloud.manage("status").stderr
    assert "error: deletions: are stopped since" in cloud.manage("check").stdout
    released = cloud.manage("deletions", "release", "--all-missing")
    assert released.returncode == 0, released
    gone = {image_id for image_id, _, _ in images}
    wait_until(
        lambda: (
            not any(
                name.partition(".")[0] in gone
                for names in cloud.objects().values()
                for name in names
            )
        ),
        120,
        "the objects of released images go",
    )
    for image_id, body, urls in witness:
        cloud.assert_kept(image_id, body, urls)
