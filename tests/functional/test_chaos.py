# SPDX-License-Identifier: Apache-2.0
"""The crash campaign in its short form, and the program that judges it."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.chaos import betrayals, campaign, invariants, observation
from tests.chaos.deployment import QUICK
from tests.chaos.faults import OF_GALERA
from tests.chaos.victims import manage, name_of
from tests.chaos.watch import Watch
from tests.functional.cloud import TOP, Cloud
from tests.lab.faults import FaultyProxy
from tests.lab.images import image_bytes
from tests.lab.process import clean_environment, free_port, wait_until
from tests.lab.webservers import Nginx

REPLICAS = "every active image has exactly its replicas"
BYTES = "every location has the image's bytes"
OBJECTS = "every object belongs to an image"
PROOF = "every location is proven"
SPOOL = "nothing is left in the spool"
ROWS = "no row is stuck"
PATCH = "application/openstack-images-v2.1-json-patch"


def test_nothing_is_lost_and_nothing_left_over(keystone, workdir, require, capsys):
    require(Nginx)
    # Always the same faults here; tools/chaos draws others.
    plan = campaign.Plan(seed=248664641, rounds=20, rounds_per_check=10)
    run(plan, keystone, workdir, capsys)


def test_parties_that_are_trusted_may_be_wrong(keystone, workdir, require, capsys):
    """Each twice: roles, endpoints, targets and databases that say what is not so."""
    require(Nginx)
    wrong = tuple(map(name_of, betrayals.FAULTS))
    possible = len(wrong) - len(OF_GALERA)
    plan = campaign.Plan(
        seed=6,
        rounds=2 * possible,
        rounds_per_check=possible,
        faults=wrong,
        fault_seconds=6.0,
    )
    run(plan, keystone, workdir, capsys)


def test_two_names_of_one_target_cost_no_object(keystone, workdir, require):
    """The operator drains the second name, whichever of them it is that has the objects."""
    require(Nginx)
    directory = workdir("twins")
    server = Nginx(directory / "site-b")
    targets = {
        "site-a": Nginx(directory / "site-a"),
        "site-b": server,
        "site-c": FaultyProxy(server),
    }
    deleted = []
    with Cloud(directory, keystone, targets=targets, options={"replication": QUICK}) as cloud:
        admin = keystone.session()
        images = {cloud.new_image(body): body for body in (b"first" * 999, b"second" * 999)}
        watch = Watch(cloud.nodes, [targets["site-a"], server], admin, deleted.append)
        for image_id in images:
            cloud.wait_replicated(image_id, ["site-a"])
            wait_until(lambda i=image_id: was_tried(cloud.row(i, "site-c")), 60, "site-c is tried")
        manage(cloud, "target", "drain", "--no-wait", "site-c")
        for image_id in images:
            wait_until(lambda i=image_id: is_left(cloud.row(i, "site-c")), 60, "site-c is left")
        watch.look()
        assert deleted == []
        for image_id, body in images.items():
            for url in cloud.locations(image_id)[1:]:
                assert admin.get(url, authenticated=False).content == body


def was_tried(row):
    return row and (row.status == "active" or row.attempts)


def is_left(row):
    """What a target lacks that is not its own can be deleted by nobody."""
    return row.status in ("deleting", "deleted", "error", "pending")


def run(plan, keystone, workdir, capsys):
    directory = workdir("chaos")
    with capsys.disabled():
        print(f"\nseed {plan.seed}")
        try:
            print(campaign.run(directory, keystone, plan))
        except campaign.Violated:
            kept = Path(tempfile.mkdtemp(prefix="glance-repl-mw-chaos-"))
            # Images are many, and pipes cannot be copied.
            left_out = shutil.ignore_patterns("root", "primary", "staging", "*.orders", "bell")
            shutil.copytree(directory, kept, ignore=left_out, dirs_exist_ok=True)
            print(f"logs and databases are kept in {kept}")
            raise


@pytest.fixture(scope="module")
def resting(keystone, workdir, require):
    """A cloud with replicated images, an empty and an unfinished one, and no writer any more."""
    require(Nginx)
    options = {"replication": {"writer": "external"}}
    with Cloud(workdir("resting"), keystone, options=options) as cloud:
        with writer(cloud):
            hidden = cloud.new_image(b"hidden")
            cloud.wait_replicated(hidden)
            patch(cloud, hidden, {"op": "replace", "path": "/os_hidden", "value": True})
            cloud.wait_replicated(cloud.new_image(image_bytes(100_000)))
            cloud.new_image(b"")
            cloud.create_image()
            cloud.wait_settled()
        yield cloud


@pytest.fixture
def image_id(resting):
    """A replicated image that is not hidden."""
    answer = resting.request("GET", "v2/images?status=active", user="admin")
    return next(image["id"] for image in answer.json()["images"] if image["size"])


@contextmanager
def writer(cloud):
    command = [sys.executable, "-m", "glance_repl_mw.cmd.writer"]
    with (
        (cloud.directory / "writer.log").open("ab") as log,
        subprocess.Popen(
            [*command, "--config-file", str(cloud.glance.config_file)],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def patch(cloud, image_id, *changes):
    answer = cloud.request(
        "PATCH",
        f"v2/images/{image_id}",
        user="admin",
        headers={"Content-Type": PATCH},
        json=list(changes),
    )
    answer.raise_for_status()
    for note in cloud.spool.glob("*.note"):
        note.unlink()  # no writer takes it


def check(cloud, *arguments, glance=None):
    """Run the checker as anybody would; its process."""
    places = [
        f"--target={name}={target.url},{target.root}" for name, target in cloud.targets.items()
    ]
    where = ["--glance", glance or cloud.glance.url, "--spool", str(cloud.spool)]
    return subprocess.run(
        [
            *(sys.executable, "-m", invariants.__name__, *where, *places),
            *("--config-file", str(cloud.glance.config_file), *arguments),
        ],
        cwd=TOP,
        env=cloud.keystone.client_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def violations(cloud):
    """What the checker says is violated, by invariant; its exit status agrees."""
    process = check(cloud, "--format", "json")
    assert process.stderr == ""
    findings = json.loads(process.stdout)["findings"]
    found = {each["invariant"]: each["violations"] for each in findings if each["violations"]}
    assert process.returncode == (1 if found else 0)
    return found


# What breaks the invariants: each is undone when its context is left.


def object_of(cloud, image_id, target="site-b"):
    return cloud.targets[target].root / cloud.row(image_id, target).object_name


@contextmanager
def kept(path):
    """The file is put back into its place."""
    copy = path.with_name(path.name + "-copy")
    outside = path.parents[2] / copy.name
    shutil.copy2(path, outside)
    yield
    shutil.move(outside, path)


@contextmanager
def flipped_bit(cloud, image_id):
    path = object_of(cloud, image_id)
    with kept(path):
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 1
        path.write_bytes(body)
        yield


@contextmanager
def object_cut_short(cloud, image_id):
    with kept(object_of(cloud, image_id)):
        os.truncate(object_of(cloud, image_id), 10)
        yield


@contextmanager
def object_gone(cloud, image_id):
    with kept(object_of(cloud, image_id)):
        object_of(cloud, image_id).unlink()
        yield


@contextmanager
def spoiled_primary(cloud, image_id):
    with kept(cloud.glance.primary_path(image_id)):
        cloud.glance.primary_path(image_id).write_bytes(b"something else")
        yield


@contextmanager
def file_at(path):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left over")
    yield
    path.unlink()


def orphan(cloud, _image_id):
    return file_at(cloud.targets["site-c"].root / "orphan")


def unfinished_object(cloud, image_id):
    path = object_of(cloud, image_id)
    return file_at(path.with_name(f"{path.name}.partial"))


@contextmanager
def orphan_deep_below(cloud, _image_id):
    path = cloud.targets["site-a"].root / "deep" / "orphan"
    with file_at(path):
        yield
    path.parent.rmdir()


def spool_file(cloud, _image_id):
    return file_at(cloud.spool / "0123.data")


@contextmanager
def location_gone(cloud, image_id):
    url = cloud.row(image_id, "site-b").location_url
    place = cloud.locations(image_id).index(url)
    patch(cloud, image_id, {"op": "remove", "path": f"/locations/{place}"})
    yield
    patch(
        cloud,
        image_id,
        {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}},
    )


@contextmanager
def second_location(cloud, image_id):
    """Good bytes, at the same target once more, that nobody has proven."""
    path = object_of(cloud, image_id)
    second = shutil.copy2(path, path.with_name("second"))
    url = f"{cloud.targets['site-b'].url}second"
    added = {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}}
    patch(cloud, image_id, added)
    yield
    place = cloud.locations(image_id).index(url)
    patch(cloud, image_id, {"op": "remove", "path": f"/locations/{place}"})
    second.unlink()


@contextmanager
def row_changed(cloud, of_image, **values):
    changes = ", ".join(f"{name} = ?" for name in values)
    with closing(sqlite3.connect(cloud.directory / "replication.sqlite")) as database, database:
        database.row_factory = sqlite3.Row
        select = "SELECT * FROM replicas WHERE image_id = ? AND target = 'site-a'"
        before = database.execute(select, [of_image]).fetchone()
        change = f"UPDATE replicas SET {changes} WHERE id = ?"
        database.execute(change, [*values.values(), before["id"]])
        database.commit()
        yield
        database.execute(change, [*(before[name] for name in values), before["id"]])


def row_stored(cloud, image_id):
    return row_changed(cloud, image_id, status="stored")


def row_of_another_image(cloud, image_id):
    return row_changed(cloud, image_id, image_id="c" * 36)


BROKEN = [
    (flipped_bit, {BYTES}),
    (object_cut_short, {BYTES}),
    (object_gone, {BYTES}),
    (spoiled_primary, {BYTES}),
    (orphan, {OBJECTS}),
    (unfinished_object, {OBJECTS}),
    (orphan_deep_below, {OBJECTS}),
    (spool_file, {SPOOL}),
    (location_gone, {REPLICAS, OBJECTS, ROWS}),
    (second_location, {REPLICAS, PROOF}),
    (row_stored, {PROOF, ROWS}),
    (row_of_another_image, {ROWS}),
]


@pytest.mark.parametrize(
    ("harm", "expected"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_checker_sees_what_is_broken(harm, expected, resting, image_id):
    with harm(resting, image_id):
        assert set(violations(resting)) == expected


def test_checker_names_what_it_found_in_a_table(resting, image_id):
    process = check(resting)
    assert process.returncode == 0
    assert process.stdout.count("holds") == len(invariants.INVARIANTS)
    with orphan(resting, image_id):
        process = check(resting)
    assert process.returncode == 1
    assert process.stdout.count("VIOLATED") == 1
    assert "site-c holds orphan" in process.stdout


def test_checker_lists_a_target_over_http(workdir, require):
    require(Nginx)
    with Nginx(workdir("listed"), autoindex=True) as nginx:
        (nginx.root / "one.partial").write_bytes(b"1")
        place = observation.Place("site", nginx.url)
        assert observation.object_names(place) == ["one.partial"]


def test_checker_that_cannot_look_says_so(resting):
    process = check(resting, glance=f"http://127.0.0.1:{free_port()}/")
    assert process.returncode == 2
    assert process.stderr.startswith("not seen: Glance's images:")
