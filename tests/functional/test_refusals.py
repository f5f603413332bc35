# SPDX-License-Identifier: Apache-2.0
"""An upload that Glance refuses, or that breaks off, is answered as ever and leaves nothing."""

import random
import uuid

import psutil
import pytest

from tests.functional.cloud import MIB, Cloud, at_once
from tests.functional.rawupload import Upload
from tests.lab.glance import Glance
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

CAP = 4 * MIB
QUOTA = 8 * MIB
OCCUPIED = 5 * MIB
LIMITS = {"DEFAULT": {"image_size_cap": str(CAP), "user_storage_quota": f"{QUOTA}B"}}
SMALL = b"some bytes"
LARGE = image_bytes(3 * MIB)
KINDS = {"length": False, "chunked": True}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def chunked(request):
    return request.param


class Pair:
    """The same Glance twice, with the filter and without."""

    def __init__(self, cloud, plain):
        self.cloud = cloud
        self.plain = plain
        self.glances = (cloud.glance, plain)

    def create(self, **properties):
        """Make an image of the same id in both."""
        properties.setdefault("id", str(uuid.uuid4()))
        for glance in self.glances:
            image_id = self.cloud.create_image(glance=glance, **properties)
        return image_id

    def status(self, image_id, user="alice"):
        """The image's status, once it is the same in both."""

        def same():
            answers = [
                self.cloud.request("GET", f"v2/images/{image_id}", user=user, glance=glance)
                for glance in self.glances
            ]
            words = {answer.json().get("status", answer.status_code) for answer in answers}
            return words.pop() if len(words) == 1 else None

        return wait_until(same, 60, "both Glances tell the same of the image")

    def begin(self, glance, image_id, body, chunked, *, user="alice", token=None, **headers):
        length = None if chunked else len(body)
        token = self.cloud.token(user) if token is None else token
        return Upload(glance, image_id, length, token=token, **headers)

    def upload(self, image_id, body, chunked, **arguments):
        """Send the same to both, see that both answer the same, and return the answer."""
        return self.compare(
            lambda glance: (
                self.begin(glance, image_id, body, chunked, **arguments).send(body).finish()
            )
        )

    def compare(self, attempt):
        with_filter, without = map(attempt, self.glances)
        assert with_filter == without
        return with_filter

    def assert_no_trace(self, image_id):
        self.cloud.assert_no_trace(image_id)
        for target in self.cloud.targets:
            assert [path for path, code in self.cloud.puts(image_id, target) if code < 400] == []


@pytest.fixture(scope="module")
def pair(keystone, workdir, require):
    require(Nginx)
    keystone.add_user("bob", "lab-bob-password", "bob", ("member",))
    cloud = Cloud(workdir("refusing"), keystone, options=LIMITS)
    plain = Glance(workdir("plain"), keystone, options=LIMITS, **plain_arguments(cloud))
    try:
        at_once(2, lambda server: server.start(), [cloud, plain])
        yield Pair(cloud, plain)
    finally:
        at_once(2, lambda server: server.stop(), [cloud, plain])


def plain_arguments(cloud):
    return {
        "target_ports": cloud.glance.target_ports,
        "uwsgi_arguments": cloud.glance.uwsgi_arguments,
    }


# Answers to uploads that Glance takes


@pytest.mark.parametrize("body", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_an_accepted_upload_is_answered_the_same(pair, body, chunked):
    image_id = pair.create()
    assert pair.upload(image_id, body, chunked).status == 204
    assert pair.status(image_id) == "active"
    if body:
        pair.cloud.wait_replicated(image_id)
    pair.cloud.wait_settled()
    for glance in pair.glances:
        assert glance.primary_path(image_id).read_bytes() == body
        pair.cloud.request("DELETE", f"v2/images/{image_id}", glance=glance)


# Refused before the body is read


@pytest.mark.parametrize("token", ["", "nonsense"], ids=["no token", "wrong token"])
def test_401(pair, token, chunked):
    image_id = pair.create()
    assert pair.upload(image_id, SMALL, chunked, token=token).status == 401
    assert pair.status(image_id) == "queued"
    pair.assert_no_trace(image_id)


def test_403(pair, chunked):
    image_id = pair.create(visibility="community")
    assert pair.upload(image_id, SMALL, chunked, user="bob").status == 403
    assert pair.status(image_id) == "queued"
    pair.assert_no_trace(image_id)


def test_404(pair, chunked):
    image_id = str(uuid.uuid4())
    assert pair.upload(image_id, SMALL, chunked).status == 404
    pair.assert_no_trace(image_id)


def test_409_for_a_second_upload(pair, chunked):
    image_id = pair.create()
    assert pair.upload(image_id, SMALL, chunked).status == 204
    urls = pair.cloud.wait_replicated(image_id)
    pair.cloud.wait_settled()
    rows = pair.cloud.rows(image_id)
    assert pair.upload(image_id, LARGE, chunked).status == 409
    pair.cloud.wait_settled()
    assert pair.cloud.rows(image_id) == rows
    assert pair.cloud.replica_urls(image_id) == urls
    assert {len(names) for names in pair.cloud.objects(image_id).values()} == {1}


def test_409_for_a_second_upload_while_the_first_runs(pair, chunked):
    image_id = pair.create()
    first = []
    for glance in pair.glances:
        first.append(pair.begin(glance, image_id, LARGE, chunked).send(LARGE[:MIB]))
        wait_for_push(pair, glance, image_id)
    assert pair.upload(image_id, SMALL, chunked).status == 409
    answers = [upload.send(LARGE[MIB:]).finish() for upload in first]
    assert answers[0] == answers[1]
    assert answers[0].status == 204
    for target, url in pair.cloud.wait_replicated(image_id).items():
        assert pair.cloud.object_bytes(target, url) == LARGE
    pair.cloud.wait_settled()
    pair.cloud.forget(image_id)
    pair.cloud.request("DELETE", f"v2/images/{image_id}", glance=pair.plain)


def test_415_for_the_content_type(pair, chunked):
    image_id = pair.create()
    answer = pair.upload(image_id, SMALL, chunked, Content_Type="text/plain")
    assert answer.status == 415
    assert pair.status(image_id) == "queued"
    pair.assert_no_trace(image_id)


# Refused while the body is read


def test_413_for_the_size_cap_found_half_way(pair, chunked):
    image_id = pair.create()
    body = image_bytes(CAP + 2 * MIB)
    answer = pair.compare(
        # The rest of the body is never sent: the answer comes before.
        lambda glance: pair.begin(glance, image_id, body, chunked).send(body[: CAP + MIB]).answer()
    )
    assert answer.status == 413
    assert pair.status(image_id) == "queued"
    pair.assert_no_trace(image_id)


@pytest.mark.parametrize("announced", [False, True], ids=["plain", "announced"])
def test_413_for_the_quota(pair, occupied, chunked, announced):
    image_id = pair.create(user=occupied)
    body = image_bytes(QUOTA - OCCUPIED + MIB // 2)
    headers = {"x-openstack-image-size": len(body)} if announced else {}
    assert pair.upload(image_id, body, chunked, user=occupied, **headers).status == 413
    # A body without a size leaves it "saving", also without the filter.
    assert pair.status(image_id, occupied) in ("queued", "saving")
    pair.assert_no_trace(image_id)


@pytest.fixture(scope="module")
def occupied(pair):
    """A user who has used much of the quota, in both Glances alike.

    Glance counts an image once for each of its locations, so the plain one is given them too.
    """
    image_id = pair.create(user="bob")
    pair.upload(image_id, image_bytes(OCCUPIED // 4), False, user="bob")
    urls = pair.cloud.wait_replicated(image_id).values()
    pair.cloud.request(
        "PATCH",
        f"v2/images/{image_id}",
        user="admin",
        glance=pair.plain,
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
        json=[
            {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}}
            for url in urls
        ],
    ).raise_for_status()
    return "bob"


@pytest.mark.parametrize("wrong_by", [-MIB, 1], ids=["more sent", "less sent"])
def test_400_for_an_announced_size_that_is_wrong(pair, chunked, wrong_by):
    image_id = pair.create()
    headers = {"x-openstack-image-size": len(LARGE) + wrong_by}
    assert pair.upload(image_id, LARGE, chunked, **headers).status == 400
    assert pair.status(image_id) == "queued"
    pair.assert_no_trace(image_id)


def test_410_for_an_image_that_is_deleted_while_it_is_uploaded(pair, chunked):
    image_id = pair.create()

    def attempt(glance):
        upload = pair.begin(glance, image_id, LARGE, chunked).send(LARGE[:MIB])
        wait_until(glance.primary_path(image_id).exists, 60, "Glance has begun to store")
        pair.cloud.request("DELETE", f"v2/images/{image_id}", glance=glance)
        return upload.send(LARGE[MIB:]).finish()

    assert pair.compare(attempt).status == 410
    pair.assert_no_trace(image_id)


# Refused after the last byte


def test_415_for_the_format_is_found_after_the_last_byte(pair, chunked):
    image_id = pair.create(disk_format="qcow2")

    def attempt(glance):
        upload = pair.begin(glance, image_id, LARGE, chunked).send(LARGE[:-1])
        wait_for_push(pair, glance, image_id)
        assert not upload.answered
        return upload.send(LARGE[-1:]).finish()

    answer = pair.compare(attempt)
    assert answer.status == 415
    assert b"format" in answer.body
    assert pair.status(image_id) == "queued"
    pair.assert_no_trace(image_id)


def wait_for_push(pair, glance, image_id, at_least=1):
    """Wait until so many bytes are on their way to each target, or without filter stored."""
    if glance is pair.plain:
        path = glance.primary_path(image_id)
        wait_until(lambda: path.exists() and path.stat().st_size, 60, "Glance stores")
        return

    def sent():
        rows = pair.cloud.rows(image_id)
        return len(rows) == 3 and min(row.bytes_sent for row in rows) >= at_least

    wait_until(sent, 60, "all targets are written to")


# Broken off


@pytest.mark.parametrize("where", ["at the start", "somewhere", "before the last byte"])
def test_a_client_that_leaves(pair, chunked, where):
    image_id = pair.create()
    last = len(LARGE) - 1
    sent = {"at the start": 0, "before the last byte": last}.get(where, random.randrange(1, last))
    print(f"{sent} bytes are sent")
    for glance in pair.glances:
        upload = pair.begin(glance, image_id, LARGE, chunked).send(LARGE[:sent])
        wait_until(lambda: record(pair, glance, image_id) == "saving", 60, "Glance reads")  # noqa: B023
        if sent == last:
            wait_for_push(pair, glance, image_id)
        upload.leave()
    path = f"/v2/images/{image_id}/file"
    for glance in pair.glances:
        wait_until(lambda: ("PUT", path, 500) in glance.requests(), 60, "answered")  # noqa: B023
    # Until then both may tell the same, that is, "saving".
    assert pair.status(image_id) == "queued"
    pair.assert_no_trace(image_id)


def record(pair, glance, image_id):
    return pair.cloud.request("GET", f"v2/images/{image_id}", glance=glance).json()["status"]


def test_an_api_process_that_is_killed(pair, chunked):
    image_id = pair.create()

    def attempt(glance):
        upload = pair.begin(glance, image_id, LARGE, chunked).send(LARGE[:-MIB])
        wait_for_push(pair, glance, image_id)
        loaded = applications_loaded(glance)
        process_with(glance, image_id).kill()
        answer = upload.send(LARGE[-MIB:]).finish()
        # uWSGI could not be stopped before.
        try:
            wait_until(lambda: applications_loaded(glance) > loaded, 60, "another process serves")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{glance.log_tail(60)}") from error
        return answer

    assert pair.compare(attempt) is None
    assert pair.status(image_id) == "saving"
    pair.assert_no_trace(image_id)
    after = pair.cloud.new_image(SMALL, chunked=chunked)
    pair.cloud.wait_replicated(after)
    # Perhaps another one: a process that has had no request yet keeps no writer alive.
    assert len(pair.cloud.writers()) == 1


def applications_loaded(glance):
    return glance.log.read_text(errors="replace").count("WSGI app 0 ")


def process_with(glance, image_id):
    """The API process that stores the image."""
    for pid in glance.worker_pids():
        process = psutil.Process(pid)
        if any(file.path.endswith(image_id) for file in process.open_files()):
            return process
    raise AssertionError(f"no process stores {image_id}")
