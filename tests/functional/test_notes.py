# SPDX-License-Identifier: Apache-2.0
"""What requests that change an image leave in the spool, before a writer looks at it."""

import subprocess

import pytest

from glance_repl_mw.spool.directory import Spool
from tests.functional.cloud import Cloud
from tests.functional.test_images_service import service_of
from tests.functional.test_location_races import PATCH_TYPE, add_location, foreign_urls, rename
from tests.functional.test_spool import mounted
from tests.lab.webservers import Nginx

WITHOUT_LOCK = "Images are changed without a lock"


@pytest.fixture(scope="module")
def quiet(keystone, workdir, require):
    """A cloud whose writer does not run, and whose spool is a file system of its own."""
    require(Nginx)
    directory = workdir("quiet")
    spool = directory / "spool"
    spool.mkdir(mode=0o700)
    options = {"replication": {"writer": "external", "spool_min_free_bytes": "0"}}
    cloud = Cloud(directory, keystone, options=options, stores=("primary", "second"))
    with mounted(spool), cloud:
        yield cloud


@pytest.fixture
def notes(quiet):
    """Take the notes that are in the spool."""
    spool = Spool(str(quiet.spool))
    spool.take_notes()
    return spool.take_notes


@pytest.fixture
def image_id(quiet, notes):
    return quiet.new_image(b"an image")


def send(cloud, method, path, **more):
    answer = cloud.request(method, f"v2/{path}", user="admin", **more)
    assert answer.status_code < 300, (answer.status_code, answer.text)


def test_changes_are_noted(quiet, notes, image_id):
    (url,) = foreign_urls(quiet.targets["site-a"], image_id, "copy")
    image = f"images/{image_id}"
    copy = {"method": {"name": "copy-image"}, "stores": ["second"]}
    changes = [
        lambda: rename(quiet, image_id, "another name"),
        lambda: add_location(quiet, image_id, url),
        lambda: send(quiet, "PUT", f"{image}/tags/one"),
        lambda: send(quiet, "DELETE", f"{image}/tags/one"),
        lambda: send(quiet, "DELETE", f"stores/http/{image_id}"),
        lambda: send(quiet, "POST", f"{image}/actions/deactivate"),
        lambda: send(quiet, "POST", f"{image}/actions/reactivate"),
        lambda: send(quiet, "POST", f"{image}/import", json=copy),
    ]
    for change in changes:
        change()
        assert notes() == [image_id]


def test_a_delete_leaves_a_word_of_its_own(quiet, notes, image_id):
    send(quiet, "DELETE", f"images/{image_id}")
    assert notes() == []
    assert Spool(str(quiet.spool)).deleted_images() == [image_id]


def test_a_location_of_a_new_image_is_noted(quiet, notes):
    image_id = quiet.create_image()
    (url,) = foreign_urls(quiet.targets["site-a"], image_id, "only")
    send(quiet, "POST", f"images/{image_id}/locations", json={"url": url})
    assert notes() == [image_id]


def test_what_changes_nothing_is_not_noted(quiet, notes, image_id):
    send(quiet, "GET", f"images/{image_id}")
    headers = {"Content-Type": PATCH_TYPE["Content-Type"]}
    answer = quiet.request("PATCH", f"v2/images/{image_id}", headers=headers, data="nonsense")
    assert answer.status_code == 400
    assert notes() == []


def test_what_replication_does_itself_is_not_noted(quiet, notes, image_id):
    service = service_of(quiet)
    urls = foreign_urls(quiet.targets["site-a"], image_id, "copy")
    service.add_locations(image_id, urls)
    service.remove_locations(image_id, urls)
    assert len(quiet.locations(image_id)) == 1
    assert notes() == []


def test_a_spool_that_becomes_read_only_harms_no_change(quiet, notes, image_id):
    known = quiet.glance.log.read_text(errors="replace").count(WITHOUT_LOCK)
    subprocess.run(["mount", "-o", "remount,ro", quiet.spool], check=True)
    try:
        for number in range(20):
            other = quiet.create_image()
            rename(quiet, other, f"name {number}")
            assert quiet.image(other)["name"] == f"name {number}"
        send(quiet, "DELETE", f"images/{image_id}")
    finally:
        subprocess.run(["mount", "-o", "remount,rw", quiet.spool], check=True)
    logged = quiet.glance.log.read_text(errors="replace").count(WITHOUT_LOCK) - known
    assert 1 <= logged <= 5, "about once in each process"
    assert notes() == []
