# SPDX-License-Identifier: Apache-2.0
"""A target that says no, lies, or cannot be trusted: each fault alone, and what comes of it."""

import datetime
import shutil

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.lab.certificates import Authority
from tests.lab.faults import HEALTHY, Fault, FaultyTarget
from tests.lab.glance import Glance
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

RETRY_AFTER_SECONDS = 2
QUICK = {
    "reconcile_interval_seconds": "1",
    "retry_initial_seconds": "0.2",
    "retry_max_seconds": "1",
    "probe_interval_seconds": "0.3",
}
SOON = {"stall_timeout_seconds": "1", "connect_timeout_seconds": "1"}
BODY_BYTES = 2 * MIB

# What the target does, and what the row says about it.
FAULTS = {
    "401": (Fault(status=401), ": 401 Fault of the lab"),
    "404-on-head": (Fault(status=404, methods=("HEAD",)), "is not there after the PUT"),
    "wrong-size": (
        Fault(status=200, methods=("HEAD",), headers=("Content-Length: 7",)),
        f"has 7 bytes; {BODY_BYTES} were sent",
    ),
    "accepts-then-hangs": (
        Fault(mute=True, methods=("PUT",), status_over_bytes=1024),
        "no answer for 1 s",
    ),
}
CERTIFICATES = {
    "expired": ({"age_days": 2}, "certificate has expired"),
    "wrong-name": ({"host": "127.0.0.2"}, "certificate is not valid for '127.0.0.1'"),
}


class OwnAuthority(Glance):
    """Trusts the authority that its configuration names; requests prefers the environment's."""

    def environment(self):
        environment = super().environment()
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            environment.pop(name, None)
        return environment


@pytest.fixture(scope="module")
def authority(workdir):
    return Authority(workdir("authority"))


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require, authority):
    """One healthy target, one whose answers the test rules, and one with TLS."""
    require(Nginx)
    directory = workdir("target-faults")
    targets = {
        "site-a": Nginx(directory / "site-a"),
        "bad": FaultyTarget(Nginx(directory / "bad")),
        "tls": Nginx(directory / "tls", tls=authority.server()),
    }
    options = {
        "replication": {**QUICK, "retry_max_seconds": "3"},
        "http": {"https_ca_certificates_file": str(authority.ca_file)},
    }
    with Cloud(
        directory,
        keystone,
        targets=targets,
        target_options={"bad": SOON, "tls": {**SOON, "ca_file": str(authority.ca_file)}},
        options=options,
        server=OwnAuthority,
    ) as cloud:
        yield cloud


@pytest.fixture
def bad(cloud):
    yield cloud.targets["bad"]
    cloud.targets["bad"].switch(HEALTHY)


def upload_despite(cloud, faulty):
    """Upload an image that reaches all other targets; returns its id and body."""
    body = image_bytes(BODY_BYTES)
    image_id = cloud.new_image(body)
    others = [name for name in cloud.targets if name != faulty]
    urls = cloud.wait_replicated(image_id, others)
    assert [cloud.object_bytes(*place) == body for place in urls.items()] == [True] * len(others)
    assert faulty not in cloud.replica_urls(image_id)
    answer = cloud.request("GET", f"v2/images/{image_id}/file")
    assert answer.content == body
    return image_id, body


def wait_failed(cloud, image_id, target):
    """Wait until two attempts have failed; returns the row."""

    def failed():
        row = cloud.row(image_id, target)
        return row if row.status == "error" and row.attempts >= 2 else None

    row = wait_until(failed, 60, "two attempts have failed")
    assert target not in cloud.replica_urls(image_id)
    return row


@pytest.mark.parametrize("name", FAULTS)
def test_target_that_says_no_or_lies(name, cloud, bad):
    fault, words = FAULTS[name]
    bad.switch(fault)
    image_id, body = upload_despite(cloud, "bad")
    row = wait_failed(cloud, image_id, "bad")
    assert words in row.error
    assert row.next_attempt_at is not None
    bad.switch(HEALTHY)
    cloud.assert_replicated(image_id, body)


def test_target_that_says_when_to_come_back(cloud, bad):
    header = f"Retry-After: {RETRY_AFTER_SECONDS}"
    bad.switch(Fault(status=503, headers=(header,)))
    image_id, body = upload_despite(cloud, "bad")

    def answered():
        row = cloud.row(image_id, "bad")
        # A connection that was open before the switch may break first.
        return row if row.status == "error" and ": 503 Fault of the lab" in row.error else None

    row = wait_until(answered, 60, "an attempt has been answered")
    # Its own pauses begin at a fraction of a second.
    pause = row.next_attempt_at - row.updated_at
    assert pause > datetime.timedelta(seconds=RETRY_AFTER_SECONDS / 2)
    bad.switch(HEALTHY)
    cloud.assert_replicated(image_id, body)


def serve(server, pair):
    """Let the server, which was started with other files, show this certificate."""
    server.stop()
    for new, old in zip(pair, server.tls, strict=True):
        shutil.copy(new, old)
    server.start()


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificate_that_proves_nothing(name, cloud, authority):
    how, words = CERTIFICATES[name]
    server = cloud.targets["tls"]
    good = [path.read_bytes() for path in server.tls]
    serve(server, authority.server(name, **how))
    try:
        image_id, body = upload_despite(cloud, "tls")
        row = wait_failed(cloud, image_id, "tls")
        assert "the server's certificate is not accepted: " in row.error
        assert words in row.error
        assert not cloud.objects(image_id).get("tls")
    finally:
        server.stop()
        for path, content in zip(server.tls, good, strict=True):
            path.write_bytes(content)
        server.start()
    cloud.assert_replicated(image_id, body)
