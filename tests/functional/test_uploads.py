# SPDX-License-Identifier: Apache-2.0
"""An upload to a real Glance ends with its bits at every target and its locations naming them."""

import hashlib
import io
import json
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.functional.cloud import MIB, Cloud, at_once, pieces
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

TAIL = 64 << 10
SIZES = (1, TAIL - 1, TAIL, 5 * MIB + 1)
BIG = 300 * MIB
KINDS = {"length": False, "chunked": True}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def chunked(request):
    return request.param


@pytest.fixture
def note(capsys):
    """Say what was measured, also when the test passes."""

    def say(what, figure):
        with capsys.disabled():
            print(f" [{what}: {figure}]", end="")

    return say


@pytest.fixture(scope="module")
def big():
    return image_bytes(BIG)


@pytest.fixture(scope="module")
def single_store(keystone, workdir, require):
    require(Nginx)
    with Cloud(workdir("single"), keystone, stores=None) as running:
        yield running


def check_replicated(cloud, image_id, body):
    """See that the image is complete in Glance and, with one PUT each, at every target."""
    urls = cloud.wait_replicated(image_id)
    image = cloud.image(image_id)
    assert (image["status"], image["size"]) == ("active", len(body))
    assert image["os_hash_value"] == hashlib.sha512(body).hexdigest()
    locations = [location["url"] for location in image["locations"]]
    assert locations[0].startswith("file:")
    assert sorted(locations[1:]) == sorted(urls.values())
    assert len(urls) == 3
    for target, url in urls.items():
        assert cloud.object_bytes(target, url) == body
        assert [status for _, status in cloud.puts(image_id, target)] == [201]
        row = cloud.row(image_id, target)
        assert (row.size, row.bytes_sent, row.error) == (len(body), len(body), None)
    assert {name: len(found) for name, found in cloud.objects(image_id).items()} == dict.fromkeys(
        urls, 1
    )
    assert_never_downloaded(cloud, image_id)


def assert_never_downloaded(cloud, image_id):
    methods = {
        request.method
        for request in cloud.glance.requests()
        if request.path == f"/v2/images/{image_id}/file"
    }
    assert methods == {"PUT"}


@pytest.mark.parametrize("announced", [False, True], ids=["plain", "announced"])
@pytest.mark.parametrize("size", SIZES)
def test_an_upload_reaches_every_target(cloud, size, chunked, announced):
    body = image_bytes(size)
    image_id = cloud.new_image(body, chunked=chunked, announce=size if announced else None)
    check_replicated(cloud, image_id, body)
    cloud.wait_settled()


def test_a_large_upload_reaches_every_target_while_it_runs(cloud, big, chunked):
    image_id = cloud.create_image()
    sent = threading.Event()
    begun = []

    def body():
        for piece in pieces(big[: BIG // 2]):
            yield piece
        begun.append(progress(cloud, image_id))
        for piece in pieces(big[BIG // 2 :]):
            yield piece
        sent.set()

    upload = body() if chunked else Sized(body(), BIG)
    assert cloud.upload(image_id, upload).status_code == 204
    assert sent.is_set()
    assert min(begun[0].values()) > 16 * MIB, begun
    check_replicated(cloud, image_id, big)
    cloud.forget(image_id)


def progress(cloud, image_id):
    """Wait until every target has got much of a running upload; return the bytes by target."""

    def bytes_sent():
        sent = {row.target: row.bytes_sent for row in cloud.rows(image_id)}
        return sent if len(sent) == 3 and min(sent.values()) > 16 * MIB else {}

    return wait_until(bytes_sent, 60, "all targets are written to while the upload runs")


class Sized:
    """A body that is made piece by piece and yet has a known length."""

    def __init__(self, source, size):
        self._source = source
        self._size = size

    def __len__(self):
        return self._size

    def __iter__(self):
        return iter(self._source)


@pytest.mark.parametrize("announced", [False, True], ids=["plain", "announced"])
def test_an_empty_image_has_no_replicas_and_its_rows_say_why(cloud, chunked, announced):
    image_id = cloud.new_image(b"", chunked=chunked, announce=0 if announced else None)
    wait_until(
        lambda: list(cloud.statuses(image_id).values()) == ["error"] * 3, 60, "three rows in error"
    )
    assert {row.error for row in cloud.rows(image_id)} == {
        "an empty image can have no HTTP location: Glance wants a size above 0"
    }
    image = cloud.image(image_id)
    assert (image["status"], image["size"]) == ("active", 0)
    assert [location["url"][:5] for location in image["locations"]] == ["file:"]
    cloud.wait_settled()
    assert cloud.objects(image_id) == {}


def test_an_image_id_in_capitals_is_the_same_to_us_as_to_glance(cloud):
    image_id = cloud.create_image(id="ABCDEF01-2345-4678-9ABC-DEF012345678")
    body = image_bytes(TAIL + 1)
    assert cloud.upload(image_id, body).status_code == 204
    check_replicated(cloud, image_id, body)


# Clients


@pytest.fixture(scope="module")
def file(workdir):
    path = workdir("bodies") / "body.raw"
    path.write_bytes(image_bytes(3 * MIB + 5))
    return path


@pytest.mark.parametrize("source", ["file", "-"])
def test_curl(cloud, file, source):
    image_id = cloud.create_image()
    command = [
        "curl", "--silent", "--show-error", "--fail", "--noproxy", "*",
        "--header", f"X-Auth-Token: {cloud.token()}",
        "--header", "Content-Type: application/octet-stream",
        "--upload-file", str(file) if source == "file" else "-",
        f"{cloud.glance.url}v2/images/{image_id}/file",
    ]  # fmt: skip
    with file.open("rb") as stdin:
        subprocess.run(command, stdin=stdin, check=True, timeout=60)
    check_replicated(cloud, image_id, file.read_bytes())


@pytest.mark.parametrize("size", [None, "known"])
def test_python_glanceclient(cloud, keystone, file, size):
    client = cloud.glance.client(keystone.credentials("alice", "demo"))
    image = client.images.create(name="image", disk_format="raw", container_format="bare")
    body = file.read_bytes()
    client.images.upload(image.id, io.BytesIO(body), size and len(body))
    check_replicated(cloud, image.id, body)


def test_python_openstackclient(cloud, keystone, file):
    keystone.add_service("image", cloud.glance.url)
    program = str(Path(sys.executable).with_name("openstack"))
    command = [
        sys.executable, program, "image", "create", "--format", "json", "--file", str(file),
        "--disk-format", "raw", "--container-format", "bare", "from the command line",
    ]  # fmt: skip
    environment = keystone.client_environment("alice", "demo")
    answer = json.loads(subprocess.check_output(command, env=environment, timeout=60))
    check_replicated(cloud, answer["id"], file.read_bytes())


# Glance as operators configure it


def test_a_single_store_glance(single_store, chunked):
    body = image_bytes(MIB + 1)
    image_id = single_store.new_image(body, chunked=chunked)
    check_replicated(single_store, image_id, body)
    single_store.wait_settled()


def test_an_upload_to_another_than_the_default_store(cloud):
    body = image_bytes(MIB + 1)
    image_id = cloud.new_image(body, headers={"X-Image-Meta-Store": "second"})
    check_replicated(cloud, image_id, body)
    assert (cloud.glance.directory / "second" / image_id).read_bytes() == body


def test_the_primary_store_is_not_read(cloud, chunked):
    image_id = cloud.new_image(image_bytes(MIB), chunked=chunked)
    cloud.wait_replicated(image_id)
    cloud.wait_settled()
    path = cloud.glance.primary_path(image_id)
    untouched = path.stat()
    path.read_bytes()
    if path.stat().st_atime_ns == untouched.st_atime_ns:
        pytest.skip("the file system does not note when a file is read")
    # Even a relative atime is moved by the first read after the last write.
    assert untouched.st_atime_ns <= untouched.st_mtime_ns


# Many at once


def test_forty_images_eight_at_a_time_have_all_their_locations_once(cloud, note):
    bodies = [image_bytes(MIB // 2 + number) for number in range(40)]
    ids = at_once(8, lambda body: cloud.new_image(body, chunked=len(body) % 2 == 0), bodies)

    def all_active():
        active = Counter(row.image_id for row in cloud.rows() if row.status == "active")
        return all(active[image_id] == 3 for image_id in ids)

    wait_until(all_active, 60, "every row is active")
    cloud.wait_settled()
    requests = [
        r for r in cloud.glance.requests() if any(i in r.path.partition("?")[0] for i in ids)
    ]
    assert [r for r in requests if r.status >= 400] == []
    # Nothing but uploads and the writer's own requests: these tests have not asked yet.
    counts = Counter(r.method for r in requests)
    note("requests to Glance for 40 images", dict(counts))
    assert counts["PUT"] == 40
    # One PATCH for all locations; more only where one target was much later than the first.
    assert 40 <= counts["PATCH"] <= 60
    # For the proof; that the locations stayed is asked for many images at once.
    assert counts["GET"] == 40
    for image_id, body in zip(ids, bodies, strict=True):
        check_replicated(cloud, image_id, body)


def test_fifty_uploads_at_once_cost_little_memory_and_no_descriptors(cloud, note):
    shared = memoryview(image_bytes(20 * MIB - 8))

    def upload(number):
        head = number.to_bytes(8, "big")
        body = (head, *(shared[at : at + MIB] for at in range(0, len(shared), MIB)))
        parts = map(bytes, body)
        return cloud.new_image(parts if number % 2 else Sized(parts, 20 * MIB))

    for image_id in at_once(16, lambda _: cloud.new_image(image_bytes(MIB)), range(32)):
        cloud.wait_replicated(image_id)
    cloud.wait_settled()
    api = [psutil.Process(pid) for pid in cloud.glance.worker_pids()]
    processes = [*api, cloud.writer()]
    before = [files(process) for process in processes]
    with sampled(api, cloud.writer()) as usage:
        ids = at_once(50, upload, range(50))
        for image_id in ids:
            cloud.wait_replicated(image_id)
    cloud.wait_settled()

    in_flight = min(50, cloud.glance.processes * cloud.glance.threads)
    growth = (max(usage["api"]) - usage["api"][0]) / in_flight
    note("API memory per upload in flight, MiB", round(growth / MIB, 2))
    note("largest resident memory of the writer, MiB", max(usage["writer"]) // MIB)
    assert growth < 4 * MIB
    assert max(usage["writer"]) < 200 * MIB

    for number, image_id in enumerate(ids):
        urls = cloud.replica_urls(image_id)
        assert len(urls) == 3
        for target, url in urls.items():
            body = memoryview(cloud.object_bytes(target, url))
            assert (body[:8], body[8:]) == (number.to_bytes(8, "big"), shared)
        cloud.forget(image_id)

    # The writer opens its database for a moment every second.
    wait_until(
        lambda: all(files(process) <= old for process, old in zip(processes, before, strict=True)),
        60,
        "no file stays open",
    )
    note("connections of the writer", dict(connections(processes[-1])))
    # Kept for later by a pool; a leak would be one for each of a hundred uploads and more.
    assert max(connections(processes[-1]).values()) <= 32
    wait_until(lambda: not any(map(connections, api)), 60, "no API process keeps a connection")


def files(process):
    """How many descriptors the process has besides connections to servers."""
    return process.num_fds() - connections(process).total()


def connections(process):
    """Open connections, by the port at the other end."""
    return Counter(
        connection.raddr.port
        for connection in process.net_connections("tcp")
        if connection.raddr and connection.status != psutil.CONN_LISTEN
    )


@contextmanager
def sampled(api, writer):
    """Sample the API processes' own memory and the writer's resident memory, in bytes."""
    usage = {"api": [], "writer": []}
    end = threading.Event()

    def sample():
        while True:
            usage["api"].append(sum(process.memory_full_info().uss for process in api))
            usage["writer"].append(writer.memory_info().rss)
            if end.wait(0.1):
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield usage
    finally:
        end.set()
        thread.join()
