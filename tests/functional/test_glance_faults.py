# SPDX-License-Identifier: Apache-2.0
"""Glance or Keystone fails while a replica becomes a location, or the image changes meanwhile."""

import pytest

from tests.functional.cloud import MIB, Cloud
from tests.functional.test_target_faults import QUICK
from tests.lab.faults import DOWN, HEALTHY, Fault, FaultyProxy, FaultyTarget
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

SERVICE_USER = "mover"
PASSWORD = "lab-mover-password"
HALF_WAY = Fault(hang_after=MIB)
BODY_BYTES = 2 * MIB
# Nothing that Glance answers late on a busy machine is asked a second time, either.
NEVER = {
    **QUICK,
    "retry_initial_seconds": "600",
    "retry_max_seconds": "600",
    "timeout": "60",
}

UNAVAILABLE = "add locations: HTTP 503 Service Unavailable"

# What the writer meets when it adds the locations, and what the rows say about it.
FAULTS = {
    "503": (
        Fault(status=503, methods=("PATCH",), headers=("Content-Type: text/html",)),
        UNAVAILABLE,
    ),
    # Without a Content-Type, as some proxies answer.
    "bare-503": (Fault(status=503, methods=("PATCH",)), UNAVAILABLE),
    "lost-answer": (Fault(mute=True, methods=("PATCH",)), "no answer for 2 s"),
}


def make_cloud(directory, keystone, replication):
    """A healthy target, one that can be held, and a proxy between the writer and Glance."""
    targets = {
        "site-a": Nginx(directory / "site-a"),
        "held": FaultyTarget(Nginx(directory / "held")),
    }
    options = {
        "replication": {
            "timeout": "2",
            **replication,
            **keystone.credentials(SERVICE_USER, "service"),
        },
        # Else Glance trusts a token for minutes after Keystone has revoked it.
        "keystone_authtoken": {"token_cache_time": "-1"},
    }
    cloud = Cloud(directory, keystone, targets=targets, options=options)
    cloud.way_to_glance = FaultyProxy(cloud.glance)
    cloud.glance.options["replication"]["endpoint_override"] = cloud.way_to_glance.url
    return cloud


@pytest.fixture(scope="module")
def service_user(keystone):
    keystone.add_user(SERVICE_USER, PASSWORD, "service", ("admin",))


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require, service_user):
    require(Nginx)
    cloud = make_cloud(workdir("glance-faults"), keystone, QUICK)
    with cloud.way_to_glance, cloud:
        yield cloud


@pytest.fixture(scope="module")
def patient(keystone, workdir, require, service_user):
    """A cloud that tries nothing again by itself as long as these tests run."""
    require(Nginx)
    cloud = make_cloud(workdir("patient"), keystone, NEVER)
    with cloud.way_to_glance, cloud:
        yield cloud


@pytest.fixture
def way_to_glance(cloud):
    yield cloud.way_to_glance
    cloud.way_to_glance.switch(HEALTHY)


@pytest.fixture(autouse=True)
def released(request):
    """Hold no target beyond the test."""
    yield
    for name in ("cloud", "patient"):
        if name in request.fixturenames:
            request.getfixturevalue(name).targets["held"].switch(HEALTHY)


def hold(cloud):
    """Upload an image of which half is under way to `held`, and all at `site-a`."""
    target = cloud.targets["held"]
    target.switch(HALF_WAY)
    body = image_bytes(BODY_BYTES)
    image_id = cloud.new_image(body)
    cloud.wait_replicated(image_id, ["site-a"])
    wait_until(lambda: target.received_bytes >= MIB, 60, "half is sent")
    return image_id, body


def change(cloud, image_id, action):
    path = f"v2/images/{image_id}/actions/{action}"
    assert cloud.request("POST", path, user="admin").status_code == 204


def errors(cloud, image_id):
    return [row.error or "" for row in cloud.rows(image_id)]


@pytest.mark.parametrize("name", FAULTS)
def test_glance_fails_while_locations_are_added(name, cloud, way_to_glance):
    fault, words = FAULTS[name]
    way_to_glance.switch(fault)
    body = image_bytes(BODY_BYTES)
    image_id = cloud.new_image(body)

    def noted():
        found = errors(cloud, image_id)
        return len(found) == 2 and all(words in error for error in found)

    wait_until(noted, 60, "the rows say what is wrong")
    assert set(cloud.statuses(image_id).values()) == {"stored"}
    assert len(cloud.objects(image_id)) == 2
    way_to_glance.switch(HEALTHY)
    cloud.assert_replicated(image_id, body)
    assert all(len(cloud.puts(image_id, target)) == 1 for target in cloud.targets)


def test_object_vanishes_before_it_is_a_location(cloud, way_to_glance):
    """Glance refuses such a location for ever."""
    way_to_glance.switch(FAULTS["503"][0])
    body = image_bytes(BODY_BYTES)
    image_id = cloud.new_image(body)
    wait_until(lambda: set(cloud.statuses(image_id).values()) == {"stored"}, 60, "stored")
    for path in cloud.targets["site-a"].root.glob(f"{image_id}*"):
        path.unlink()
    way_to_glance.switch(HEALTHY)
    cloud.assert_replicated(image_id, body)
    assert [len(cloud.puts(image_id, target)) for target in ("site-a", "held")] == [2, 1]


def test_glance_is_gone_when_a_late_replica_is_finished(cloud, way_to_glance):
    image_id, body = hold(cloud)
    way_to_glance.switch(DOWN)
    cloud.targets["held"].switch(HEALTHY)

    def is_refused():
        row = waits_for_location(cloud, image_id)
        # A connection that was open before may break first.
        return row and ": add locations: " in row.error and "Connection refused" in row.error

    wait_until(is_refused, 60, "no location")
    assert set(cloud.replica_urls(image_id)) == {"site-a"}
    way_to_glance.switch(HEALTHY)
    cloud.assert_replicated(image_id, body)


def test_token_is_revoked_while_a_push_runs(cloud, keystone):
    image_id, body = hold(cloud)
    token = keystone.session(SERVICE_USER, "service").get_token()
    headers = {"X-Auth-Token": token}
    path = f"v2/images/{image_id}"
    assert cloud.request("GET", path, user=None, headers=headers).status_code == 200
    keystone.revoke_tokens(SERVICE_USER)
    assert cloud.request("GET", path, user=None, headers=headers).status_code == 401
    cloud.targets["held"].switch(HEALTHY)
    cloud.assert_replicated(image_id, body)


def waits_for_location(cloud, image_id):
    """The row of a replica at `held` that is complete, but could not become a location."""
    row = cloud.row(image_id, "held")
    return row if row.status == "stored" and row.error else None


def test_image_is_deleted_while_a_push_hangs(patient):
    image_id, _ = hold(patient)
    assert patient.request("DELETE", f"v2/images/{image_id}").status_code == 204
    patient.targets["held"].switch(HEALTHY)
    patient.assert_no_trace(image_id)


def test_image_is_deactivated_while_a_push_hangs(patient):
    image_id, body = hold(patient)
    change(patient, image_id, "deactivate")
    patient.targets["held"].switch(HEALTHY)

    row = wait_until(lambda: waits_for_location(patient, image_id), 60, "no location")
    assert "add locations: HTTP 409" in row.error
    change(patient, image_id, "reactivate")
    patient.assert_replicated(image_id, body)
