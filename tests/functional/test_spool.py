# SPDX-License-Identifier: Apache-2.0
"""A spool that cannot take an upload costs the image its tee, never its upload."""

import contextlib
import os
import re
import shutil
import subprocess

import pytest

from tests.functional.cloud import MIB, Cloud, pieces
from tests.functional.test_reconciler import mark_broken
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

DISK_BYTES = 8 * MIB
QUOTA_BYTES = 6 * MIB
RETRY = {"retry_initial_seconds": "0.2", "retry_max_seconds": "1"}


@pytest.fixture(scope="module")
def limited(keystone, workdir, require):
    """A cloud whose spool has a quota on a disk with much room."""
    require(Nginx)
    options = {"replication": {**RETRY, "spool_max_bytes": str(QUOTA_BYTES)}}
    with Cloud(workdir("limited"), keystone, options=options) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def small_disk(keystone, workdir, require):
    """A cloud whose spool is a small file system of its own, with no floor of free space."""
    require(Nginx)
    directory = workdir("small")
    spool = directory / "spool"
    spool.mkdir(mode=0o700)
    options = {"replication": {**RETRY, "spool_min_free_bytes": "0"}}
    with mounted(spool), Cloud(directory, keystone, options=options) as cloud:
        yield cloud


@contextlib.contextmanager
def mounted(directory):
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "spool", directory]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"no file system can be mounted: {getattr(error, 'stderr', error)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def assert_repaired(cloud, image_id, body):
    """Glance has the image, and it was replicated although the spool did not get it."""
    assert_uploaded(cloud, image_id, body)
    cloud.assert_replicated(image_id, body)


def assert_uploaded(cloud, image_id, body):
    image = cloud.image(image_id)
    assert (image["status"], image["size"]) == ("active", len(body))
    assert cloud.glance.primary_path(image_id).read_bytes() == body


def assert_works(cloud, body):
    """Another image is replicated."""
    cloud.assert_replicated(cloud.new_image(body), body)


@pytest.mark.parametrize("upload", [{}, {"chunked": True}])
def test_upload_beyond_the_quota(upload, limited):
    body = image_bytes(QUOTA_BYTES + MIB)
    image_id = limited.new_image(body, **upload)
    assert_repaired(limited, image_id, body)
    assert_works(limited, image_bytes(QUOTA_BYTES // 2))


@pytest.mark.parametrize("upload", [{}, {"chunked": True}])
def test_upload_beyond_the_disk(upload, small_disk):
    body = image_bytes(DISK_BYTES + MIB)
    image_id = small_disk.new_image(body, **upload)
    assert_repaired(small_disk, image_id, body)
    assert_works(small_disk, image_bytes(DISK_BYTES // 2))


def test_disk_that_fills_up_while_an_upload_is_spooled(small_disk):
    """Other files take the room that was there when the upload began."""
    body = image_bytes(4 * MIB)
    ballast = small_disk.spool / "ballast"

    def halting():
        for number, piece in enumerate(pieces(body)):
            if number == 8:
                wait_until(lambda: list(small_disk.spool.glob("*.data")), 60, "spooled")
                fill(ballast)
            yield piece

    try:
        image_id = small_disk.new_image(halting())
    finally:
        ballast.unlink(missing_ok=True)
    small_disk.request("GET", "v2/images").raise_for_status()
    assert_repaired(small_disk, image_id, body)
    assert_works(small_disk, body)


def fill(path):
    """Take all the room that the file system has."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(64 << 10))


def test_disk_without_any_room(small_disk):
    """Not even a word can be left about the image until there is room again."""
    body = image_bytes(MIB)
    ballast = small_disk.spool / "ballast"
    fill(ballast)
    try:
        image_id = small_disk.new_image(body)
        assert small_disk.image(image_id)["status"] == "active"
    finally:
        ballast.unlink()
    wait_for_word(small_disk, image_id)
    assert_repaired(small_disk, image_id, body)
    assert_works(small_disk, body)


def test_spool_directory_that_is_no_directory_any_more(small_disk, limited):
    body = image_bytes(MIB)
    away = limited.spool.with_name("away")
    limited.spool.rename(away)
    limited.spool.write_text("in the way")
    try:
        image_id = limited.new_image(body)
        other = limited.new_image(body, chunked=True)
        assert limited.request("GET", f"v2/images/{image_id}/file").content == body
    finally:
        limited.spool.unlink()
        away.rename(limited.spool)
    for each in (image_id, other):
        wait_for_word(limited, each)
        assert_repaired(limited, each, body)
    assert_works(limited, body)


def test_spool_directory_that_was_removed(limited):
    body = image_bytes(MIB)
    shutil.move(limited.spool, limited.spool.with_name("away"))
    try:
        image_id = limited.new_image(body)
    finally:
        limited.spool.with_name("away").rename(limited.spool)
    wait_for_word(limited, image_id)
    assert_repaired(limited, image_id, body)
    assert_works(limited, body)


def wait_for_word(cloud, image_id):
    """The process that could not write to the spool tries again with its next request."""

    def told():
        cloud.request("GET", "v2/images").raise_for_status()
        return cloud.rows(image_id)

    wait_until(told, 60, "the spool tells of the image")


def test_oldest_uploads_leave_a_spool_that_becomes_full(limited):
    """A target that is down costs no later upload its tee, and gets all images when it is back."""
    site = limited.targets["site-c"]
    site.stop()
    bodies = [image_bytes(QUOTA_BYTES // 3) for _ in range(5)]
    image_ids = []
    for body in bodies:
        image_ids.append(limited.new_image(body))
        limited.wait_replicated(image_ids[-1], ["site-a", "site-b"])
    wait_until(lambda: len(handed_over(limited, image_ids)) > 1, 60, "some have left the spool")
    given = handed_over(limited, image_ids)
    assert given == image_ids[: len(given)]
    site.start()
    for image_id, body in zip(image_ids, bodies, strict=True):
        assert_repaired(limited, image_id, body)


def handed_over(cloud, image_ids):
    """Which of the images have left the spool for want of room, in the order of the log.

    One that was fetched for the target before that was known to be down may leave once more.
    """
    said = re.findall(r"Image (\S+): the spool needs the room", cloud.glance.log.read_text())
    return [image_id for image_id in dict.fromkeys(said) if image_id in image_ids]


def test_bad_replica_is_not_copied_past_the_spool(limited):
    """An image that the spool cannot hold goes from the source straight to the target."""
    body = image_bytes(QUOTA_BYTES + MIB)
    image_id = limited.new_image(body)
    limited.assert_replicated(image_id, body)
    urls = limited.replica_urls(image_id)
    source = limited.targets["site-a"].root / urls["site-a"].rpartition("/")[2]
    with source.open("r+b") as file:
        file.seek(QUOTA_BYTES)
        file.write(bytes([body[QUOTA_BYTES] ^ 1]))
    mark_broken(limited, image_id, "site-b")
    wait_until(
        lambda: all(
            limited.replica_urls(image_id).get(name) not in (None, urls[name])
            for name in ("site-a", "site-b")
        ),
        60,
        "both are made anew",
    )
    limited.assert_replicated(image_id, body)
    first, *later = [status for _, status in limited.puts(image_id, "site-b")]
    assert first == 201
    assert later[-1] == 201
    assert later[:-1] and 201 not in later[:-1]
