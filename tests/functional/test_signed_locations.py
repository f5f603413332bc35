# SPDX-License-Identifier: Apache-2.0
"""Replicas that only Glance can read: its locations are signed, and stay so."""

import datetime
import json
import re
from unittest import mock

import pytest
import requests
from oslo_utils import timeutils

from glance_repl_mw.signing import Signer, without_signatures
from tests.functional.cloud import Cloud
from tests.functional.test_state_faults import ClockedWriter
from tests.functional.test_target_faults import QUICK
from tests.lab import commands
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx, SignedNginx

BODY = image_bytes(300_000)
KEY = "lab-key-number-one-0123456789"
NEW_KEY = "lab-key-number-two-0123456789"
VALID_SECONDS = 600
SIGNATURE = b"md5="
OFTEN = {
    "reconcile_interval_seconds": "0.5",
    "probe_interval_seconds": "0.2",
    "withdraw_after_seconds": "3",
}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """A target that wants signatures, and one that does not; the test's writer runs."""
    require(Nginx)
    directory = workdir("signed")
    signed = SignedNginx(directory / "signed", KEY)
    cloud = Cloud(
        directory,
        keystone,
        targets={"signed": signed, "open": Nginx(directory / "open")},
        target_options={
            "signed": {
                "location_url": signed.location_url,
                "location_signing_key": KEY,
                "location_valid_seconds": str(VALID_SECONDS),
                "username": signed.username,
                "password": signed.password,
            }
        },
        options={
            "replication": {**QUICK, **OFTEN, "writer": "external"},
            "DEFAULT": {"debug": "True"},
        },
    )
    cloud.glance.target_ports = [*cloud.glance.target_ports, signed.location_port]
    cloud.writer_process = ClockedWriter(cloud)
    with cloud:
        cloud.writer_process.set(datetime.timedelta(0))
        with cloud.writer_process:
            yield cloud


@pytest.fixture
def server(cloud):
    """The target that wants signatures, whose configuration is as before at the end."""
    server = cloud.targets["signed"]
    yield server
    serve(server, server.config())


def serve(server, config):
    server.stop()
    server.config_file.write_text(config)
    server.start()


@pytest.fixture
def image_id(cloud):
    """An image that is replicated to both targets; it goes at the end, and leaves nothing."""
    image_id = cloud.new_image(BODY)
    wait_until(lambda: is_active(cloud, image_id), 60, "replicated")
    yield image_id
    assert cloud.request("DELETE", f"v2/images/{image_id}").status_code == 204
    wait_until(lambda: not cloud.objects(image_id), 60, "its objects go")


def is_active(cloud, image_id):
    rows = cloud.statuses(image_id)
    return rows.get("signed") == rows.get("open") == "active"


def signed_urls(cloud, image_id):
    """The locations at the target that wants signatures."""
    base = cloud.targets["signed"].location_url
    return [url for url in cloud.locations(image_id) if url.startswith(base)]


def status_of(url):
    with requests.get(url, timeout=60) as answer:
        return answer.status_code


def wait_renewed(cloud, image_id, before):
    """Returns the only location at the target, once it is another one than before."""

    def renewed():
        urls = signed_urls(cloud, image_id)
        assert urls, "there is always one"
        return urls[0] if len(urls) == 1 and urls != [before] else None

    return wait_until(renewed, 60, "renewed")


def sign_at(moment, url, key=KEY):
    with mock.patch.object(timeutils, "utcnow", return_value=moment):
        return Signer(key, VALID_SECONDS).signed(url)


def manage(cloud, *words):
    return commands.manage("--config-file", cloud.glance.config_file, *words)


def configure(cloud, **options):
    """Change options of the target, and start the writer anew."""
    cloud.writer_process.end()
    cloud.glance.options["replication:signed"].update(options)
    cloud.glance.write_config()
    cloud.writer_process.start()


def test_only_a_signature_opens_a_replica(cloud, image_id):
    (location,) = signed_urls(cloud, image_id)
    plain = cloud.row(image_id, "signed").location_url
    assert without_signatures(location) == plain != location
    assert requests.get(location, timeout=60).content == BODY
    before = timeutils.utcnow() - datetime.timedelta(seconds=2 * VALID_SECONDS)
    refused = [plain, sign_at(before, plain), sign_at(timeutils.utcnow(), plain, NEW_KEY)]
    refused.append(location.replace(image_id, image_id[::-1]))
    assert [status_of(url) for url in refused] == [403] * 4
    assert (
        status_of(plain.replace(cloud.targets["signed"].location_url, cloud.targets["signed"].url))
        == 401
    )


def test_glance_reads_the_replica_when_its_own_copy_is_lost(cloud, image_id):
    cloud.glance.primary_path(image_id).unlink()
    (cloud.targets["open"].root / cloud.row(image_id, "open").object_name).unlink()
    answer = cloud.request("GET", f"v2/images/{image_id}/file")
    assert answer.content == BODY
    path = f"/images/{cloud.row(image_id, 'signed').object_name}"
    target = cloud.targets["signed"]
    wait_until(lambda: ("GET", path, 200) in target.requests(), 60, "its log has the request")


def test_signature_that_ends_soon_is_renewed(cloud, image_id):
    (first,) = signed_urls(cloud, image_id)
    others = set(cloud.locations(image_id)) - {first}
    cloud.writer_process.set(datetime.timedelta(seconds=VALID_SECONDS * 2 / 3))
    try:
        second = wait_renewed(cloud, image_id, first)
        assert without_signatures(second) == without_signatures(first)
        assert status_of(second) == 200
        assert set(cloud.locations(image_id)) == {*others, second}
    finally:
        cloud.writer_process.set(datetime.timedelta(0))


def test_of_two_signatures_one_goes(cloud, image_id):
    (first,) = signed_urls(cloud, image_id)
    later = timeutils.utcnow() + datetime.timedelta(seconds=VALID_SECONDS / 4)
    second = sign_at(later, without_signatures(first))
    assert second != first
    add = [{"op": "add", "path": "/locations/-", "value": {"url": second, "metadata": {}}}]
    path = f"v2/images/{image_id}"
    cloud.request(
        "PATCH", path, user="admin", data=json.dumps(add), headers=PATCH
    ).raise_for_status()
    wait_until(lambda: len(signed_urls(cloud, image_id)) == 1, 60, "one goes")
    assert is_active(cloud, image_id)


def test_new_key(cloud, server, image_id):
    (old,) = signed_urls(cloud, image_id)
    server.key = NEW_KEY
    serve(server, server.config())
    assert status_of(old) == 403

    listed = wait_until(lambda: refusal_in(manage(cloud, "target", "list").stdout), 60, "noticed")
    assert "location_signing_key" in " ".join(listed.split())
    checked = manage(cloud, "check")
    assert checked.returncode == 2
    assert "location_signing_key" in checked.stdout
    assert SIGNATURE.decode() not in checked.stdout + checked.stderr

    late = cloud.new_image(BODY)
    row = wait_until(lambda: row_with_error(cloud, late), 60, "the location is refused")
    assert row.status == "stored"
    assert signed_urls(cloud, image_id) == [old]

    configure(cloud, location_signing_key=NEW_KEY)
    wait_until(lambda: is_active(cloud, late), 60, "what could not be read is a location now")
    assert len(signed_urls(cloud, late)) == 1
    new = wait_renewed(cloud, image_id, old)
    assert requests.get(new, timeout=60).content == BODY


def row_with_error(cloud, image_id):
    row = cloud.row(image_id, "signed")
    return row if row and row.error else None


def refusal_in(text):
    return text if "403" in text else None


def test_signatures_come_and_go_with_the_key(cloud, server, image_id):
    (signed,) = signed_urls(cloud, image_id)
    plain = without_signatures(signed)
    assert "return 403;" in server.config()
    serve(server, server.config().replace("return 403;", ""))
    key = cloud.glance.options["replication:signed"]["location_signing_key"]
    checked = manage(cloud, "check")
    assert (
        f"warning: signed: location_url: anybody can read {server.location_url}" in checked.stdout
    )
    configure(cloud, location_signing_key="")
    assert wait_renewed(cloud, image_id, signed) == plain
    configure(cloud, location_signing_key=key)
    assert without_signatures(wait_renewed(cloud, image_id, plain)) == plain


def test_no_signature_is_shown(cloud, image_id):
    """Glance's own database and the locations in its answers are all that has them."""
    looked_at = set()
    for path in cloud.directory.rglob("*"):
        if path.is_file() and path.name != "glance.sqlite":
            looked_at.add(path.name)
            assert SIGNATURE not in path.read_bytes(), path
    assert {"writer.log", "glance.log", "replication.sqlite", "nginx-access.log"} <= looked_at
    for user in ("admin", "alice"):
        answer = cloud.request("GET", f"v2/images/{image_id}/replicas", user=user)
        assert answer.status_code == 200
        assert SIGNATURE not in answer.content
    assert SIGNATURE.decode() not in manage(cloud, "status", image_id).stdout


def test_check_of_a_good_configuration(cloud):
    checked = manage(cloud, "check")
    assert not re.findall("^(error: .*|warning: signed: .*)", checked.stdout, re.MULTILINE)
    assert "ok: signed: Glance takes locations there" in checked.stdout
    assert SIGNATURE.decode() not in checked.stdout + checked.stderr
