# SPDX-License-Identifier: Apache-2.0
"""Who may do what after the recipes of doc/source/admin/security.rst: its tables are true."""

import pytest

from glance_repl_mw import exceptions
from tests.functional import recipes
from tests.functional.cloud import MIB
from tests.functional.recipes import SERVICE_USER, STRANGER
from tests.functional.test_glance_faults import hold
from tests.functional.test_images_service import service_of
from tests.functional.test_manage import manage
from tests.lab.certificates import Authority
from tests.lab.faults import HEALTHY
from tests.lab.images import image_bytes
from tests.lab.keystone import TOKEN_SECONDS
from tests.lab.process import HOST, free_port, wait_until
from tests.lab.tlsfront import TlsFront
from tests.lab.webservers import Nginx

NOBODY = f"http://{HOST}:{free_port()}/"
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
DATA = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def users(keystone):
    recipes.add_users(keystone)


@pytest.fixture(scope="module")
def one_glance(keystone, workdir, require, users):
    require(Nginx)
    authority = Authority(workdir("authority"))
    with TlsFront(workdir("keystone-front"), keystone, authority.server()) as front:
        directory = workdir("one-glance")
        cloud = recipes.OneGlance(directory, keystone, front, authority.ca_file, "RegionTwo")
        keystone.add_service("image", NOBODY)
        endpoints = {"public": NOBODY, "internal": cloud.glance.url}
        keystone.add_endpoints("image", endpoints, "RegionTwo")
        try:
            with cloud:
                yield cloud
        finally:
            keystone.remove_service("image")


@pytest.fixture(scope="module")
def two_glances(keystone, workdir, require, users):
    require(Nginx)
    with recipes.TwoGlances(workdir("two-glances"), keystone) as cloud:
        yield cloud


class Scene:
    """Images of one cloud, and requests for them at one of its Glances.

    :ivar image_id: private, of alice, replicated
    :ivar public_id: likewise, but public
    """

    def __init__(self, cloud, glance=None):
        self.cloud = cloud
        self.glance = glance or cloud.glance
        self.images = [cloud.new_image(b"some bytes") for _ in range(2)]
        self.image_id, self.public_id = self.images
        self.patch(self.public_id, "replace", "/visibility", "public", user="admin", glance=None)
        for image_id in self.images:
            cloud.wait_replicated(image_id)
        server = next(iter(cloud.targets.values()))
        (server.root / "foreign").write_bytes(b"other bytes")
        self.foreign = f"{server.url}foreign"

    def ask(self, method, path, user="alice", **arguments):
        arguments.setdefault("glance", self.glance)
        return self.cloud.request(method, f"v2/{path}", user=user, **arguments)

    def patch(self, image_id, operation, path, value=None, **arguments):
        change = {"op": operation, "path": path}
        if value is not None:
            change["value"] = value
        arguments.setdefault("user", "alice")
        path = f"images/{image_id}"
        return self.ask("PATCH", path, json=[change], headers=PATCH, **arguments)

    def location(self):
        return {"url": self.foreign, "metadata": {}}

    def queued(self):
        """An image of alice without data, made at the Glance of the users."""
        self.images.append(self.cloud.create_image())
        return self.images[-1]


def see(answer):
    """The status, and whether the answer tells where the image is."""
    told = any(word in answer.text for word in ('"locations"', "http://", "file://", "direct_url"))
    return f"{answer.status_code}, shown" if told else str(answer.status_code)


def status(answer):
    return str(answer.status_code)


# Ordinary users

USERS = {
    "owner: GET image": lambda s: see(s.ask("GET", f"images/{s.image_id}")),
    "owner: GET list of images": lambda s: see(s.ask("GET", "images")),
    "owner: GET replicas": lambda s: see(s.ask("GET", f"images/{s.image_id}/replicas")),
    "owner: PUT replicas/TARGET": lambda s: status(
        s.ask("PUT", f"images/{s.image_id}/replicas/site-a")
    ),
    "owner: DELETE replicas/TARGET": lambda s: status(
        s.ask("DELETE", f"images/{s.image_id}/replicas/site-a")
    ),
    "owner: PATCH, add a location": lambda s: status(
        s.patch(s.image_id, "add", "/locations/-", s.location())
    ),
    "owner: PATCH, replace locations": lambda s: status(
        s.patch(s.image_id, "replace", "/locations", [s.location()])
    ),
    "owner: PATCH, remove a location": lambda s: status(
        s.patch(s.image_id, "remove", "/locations/0")
    ),
    "owner: DELETE /v2/stores/http/ID": lambda s: status(
        s.ask("DELETE", f"stores/http/{s.image_id}")
    ),
    "owner: POST /v2/images/ID/locations": lambda s: status(
        s.ask("POST", f"images/{s.queued()}/locations", json={"url": s.foreign})
    ),
    "owner: GET /v2/images/ID/locations": lambda s: see(
        s.ask("GET", f"images/{s.image_id}/locations")
    ),
    "other project: GET image": lambda s: see(s.ask("GET", f"images/{s.image_id}", STRANGER)),
    "other project: GET public image": lambda s: see(
        s.ask("GET", f"images/{s.public_id}", STRANGER)
    ),
    "other project: GET replicas": lambda s: see(
        s.ask("GET", f"images/{s.image_id}/replicas", STRANGER)
    ),
    "other project: GET replicas of public image": lambda s: see(
        s.ask("GET", f"images/{s.public_id}/replicas", STRANGER)
    ),
    "other project: PUT replicas/TARGET": lambda s: status(
        s.ask("PUT", f"images/{s.image_id}/replicas/site-a", STRANGER)
    ),
    "other project: PUT replicas/TARGET, public image": lambda s: status(
        s.ask("PUT", f"images/{s.public_id}/replicas/site-a", STRANGER)
    ),
    "other project: PATCH, add a location": lambda s: status(
        s.patch(s.image_id, "add", "/locations/-", s.location(), user=STRANGER)
    ),
    "other project: PATCH, the same to public image": lambda s: status(
        s.patch(s.public_id, "add", "/locations/-", s.location(), user=STRANGER)
    ),
    "no token: GET image": lambda s: see(s.ask("GET", f"images/{s.public_id}", None)),
    "no token: GET replicas": lambda s: see(s.ask("GET", f"images/{s.public_id}/replicas", None)),
}

# The service user


def image_body(**more):
    return {"name": "copy", "disk_format": "raw", "container_format": "bare", **more}


def serve(method, path, **arguments):
    """A request of the service user; the path has the names of a scene's images in braces."""

    def ask(scene):
        found = path.format(id=scene.image_id, public=scene.public_id, queued=scene.queued())
        return status(scene.ask(method, found, SERVICE_USER, **arguments))

    return ask


def change(operation, path, value=None):
    return lambda scene: status(
        scene.patch(scene.image_id, operation, path, value, user=SERVICE_USER)
    )


def add_location(scene):
    return status(
        scene.patch(scene.image_id, "add", "/locations/-", scene.location(), user=SERVICE_USER)
    )


def remove_location(scene):
    answer = scene.ask("GET", f"images/{scene.image_id}", SERVICE_USER)
    place = [each["url"] for each in answer.json()["locations"]].index(scene.foreign)
    return status(scene.patch(scene.image_id, "remove", f"/locations/{place}", user=SERVICE_USER))


SERVICE = {
    "GET /v2/images": serve("GET", "images?visibility=all"),
    "GET /v2/images/ID": serve("GET", "images/{id}"),
    "GET /v2/images/ID/file": serve("GET", "images/{id}/file"),
    "PATCH, add a location": add_location,
    "PATCH, remove a location": remove_location,
    "PATCH, change the name": change("replace", "/name", "mine"),
    "PATCH, add a property": change("add", "/colour", "blue"),
    "PATCH, make it public": change("replace", "/visibility", "public"),
    "PATCH, make it community": change("replace", "/visibility", "community"),
    "PATCH, hide it": change("replace", "/os_hidden", True),
    "PATCH, protect it": change("replace", "/protected", True),
    "PATCH, change the owner": change("replace", "/owner", "copier"),
    "POST /v2/images": serve("POST", "images", json=image_body()),
    "POST /v2/images, for another owner": serve("POST", "images", json=image_body(owner="x")),
    "DELETE /v2/images/ID": serve("DELETE", "images/{id}"),
    "PUT /v2/images/ID/file": serve("PUT", "images/{queued}/file", data=b"x", headers=DATA),
    "PUT /v2/images/ID/stage": serve("PUT", "images/{queued}/stage", data=b"x", headers=DATA),
    "POST /v2/images/ID/import": serve(
        "POST",
        "images/{queued}/import",
        json={"method": {"name": "web-download", "uri": "http://example.org/x"}},
    ),
    "POST /v2/images/ID/import, copy-image": serve(
        "POST",
        "images/{id}/import",
        json={"method": {"name": "copy-image"}, "all_stores": True},
    ),
    "POST /v2/images/ID/locations": serve(
        "POST", "images/{queued}/locations", json={"url": NOBODY}
    ),
    "GET /v2/images/ID/locations": serve("GET", "images/{id}/locations"),
    "DELETE /v2/stores/http/ID": serve("DELETE", "stores/http/{id}"),
    "POST /v2/images/ID/actions/deactivate": serve("POST", "images/{id}/actions/deactivate"),
    "POST /v2/images/ID/actions/reactivate": serve("POST", "images/{id}/actions/reactivate"),
    "PUT /v2/images/ID/tags/TAG": serve("PUT", "images/{id}/tags/blue"),
    "DELETE /v2/images/ID/tags/TAG": serve("DELETE", "images/{id}/tags/blue"),
    "GET /v2/images/ID/members": serve("GET", "images/{id}/members"),
    "POST /v2/images/ID/members": serve("POST", "images/{id}/members", json={"member": "x"}),
    "PUT /v2/images/ID/members/PROJECT": serve(
        "PUT", "images/{id}/members/x", json={"status": "accepted"}
    ),
    "DELETE /v2/images/ID/members/PROJECT": serve("DELETE", "images/{id}/members/x"),
    "GET /v2/tasks": serve("GET", "tasks"),
    "POST /v2/tasks": serve(
        "POST",
        "tasks",
        json={"type": "import", "input": {"import_from": NOBODY, "image_properties": {}}},
    ),
    "GET /v2/info/stores/detail": serve("GET", "info/stores/detail"),
    "GET /v2/cache": serve("GET", "cache"),
    "PUT /v2/cache/ID": serve("PUT", "cache/{id}"),
    "DELETE /v2/cache": serve("DELETE", "cache"),
    "GET /v2/metadefs/namespaces": serve("GET", "metadefs/namespaces"),
    "POST /v2/metadefs/namespaces": serve(
        "POST", "metadefs/namespaces", json={"namespace": "Copies"}
    ),
}


@pytest.fixture(scope="module")
def defaults(cloud, users):
    """The deployment that other tests go on to use; its policies are Glance's own."""
    scene = Scene(cloud)
    yield scene
    for image_id in scene.images:
        cloud.forget(image_id)


@pytest.fixture(scope="module")
def one(one_glance):
    return Scene(one_glance)


@pytest.fixture(scope="module")
def public(two_glances):
    return Scene(two_glances)


@pytest.fixture(scope="module")
def internal(two_glances):
    return Scene(two_glances, two_glances.internal)


COLUMNS = {"defaults": "defaults", "one": "one Glance", "public": "public", "internal": "internal"}


def answers(scene, requests):
    return {name: ask(scene) for name, ask in requests.items()}


def expected(label, place):
    return {name: row[COLUMNS[place]] for name, row in recipes.table(label).items()}


@pytest.mark.parametrize("place", COLUMNS)
def test_what_users_can_do(place, request):
    scene = request.getfixturevalue(place)
    assert answers(scene, USERS) == expected("table-users", place)


@pytest.mark.parametrize("place", ["one", "internal"])
def test_what_the_service_user_can_do(place, request):
    scene = request.getfixturevalue(place)
    assert answers(scene, SERVICE) == expected("table-service-user", place)


# Replication


@pytest.fixture(params=["one_glance", "two_glances"])
def safe(request):
    return request.getfixturevalue(request.param)


def reads_from_glance(cloud, image_id):
    glance = getattr(cloud, "internal", cloud.glance)
    path = f"/v2/images/{image_id}/file"
    return [each for each in glance.requests() if (each.method, each.path) == ("GET", path)]


def remove_replicas(cloud, image_id):
    """Take all locations but the first away, as the service user may."""
    glance = getattr(cloud, "internal", cloud.glance)
    arguments = {"user": SERVICE_USER, "glance": glance, "headers": PATCH}
    number = len(cloud.image(image_id)["locations"])
    changes = [{"op": "remove", "path": f"/locations/{place}"} for place in range(number)[:0:-1]]
    answer = cloud.request("PATCH", f"v2/images/{image_id}", json=changes, **arguments)
    assert answer.status_code == 200, answer.text


def test_replicas_are_made_healed_and_deleted(safe):
    body = image_bytes(2 * MIB)
    image_id = safe.new_image(body)
    safe.assert_replicated(image_id, body)
    remove_replicas(safe, image_id)
    safe.assert_replicated(image_id, body)
    assert safe.request("DELETE", f"v2/images/{image_id}").status_code == 204
    wait_until(lambda: safe.objects(image_id) == {}, 60, "the objects are gone")


def test_image_that_glance_imports_is_read_from_it(safe):
    body = image_bytes(2 * MIB)
    server = next(iter(safe.targets.values()))
    (server.root / "origin").write_bytes(body)
    image_id = safe.create_image()
    method = {"name": "web-download", "uri": f"{server.url}origin"}
    answer = safe.request("POST", f"v2/images/{image_id}/import", json={"method": method})
    assert answer.status_code == 202, answer.text
    safe.assert_replicated(image_id, body)
    assert reads_from_glance(safe, image_id)


# The check


def test_check_needs_no_more_than_the_role(safe):
    image_id = safe.new_image(b"some bytes")
    safe.wait_replicated(image_id)
    safe.wait_settled()
    before = safe.image(image_id)
    safe.glance.config_file.chmod(0o640)
    process = manage("--config-file", safe.glance.config_file, "check")
    lines = process.stdout.splitlines()
    assert "ok: [replication] service user: may add locations to images of other projects" in lines
    for name in safe.targets:
        assert f"ok: {name}: Glance takes locations there" in lines
    bad = [line for line in lines if line.startswith(("warning: ", "error: "))]
    where = [line.split(": ")[1] for line in bad]
    assert where == (
        [] if isinstance(safe, recipes.TwoGlances) else ["[DEFAULT] show_multiple_locations"]
    ), bad
    assert safe.image(image_id) == before
    assert safe.objects("glance-repl") == {}


def test_location_that_is_only_tried(one_glance, one):
    service = service_of(one_glance)
    assert service.find_foreign() is not None
    before = one_glance.image(one.image_id)
    service.try_location(one.image_id, one.foreign)
    for url in (f"{one.foreign}-not-there", NOBODY, "file:///etc/passwd"):
        with pytest.raises(exceptions.GlanceRefused, match="400"):
            service.try_location(one.image_id, url)
    assert one_glance.image(one.image_id) == before


# Tokens


@pytest.fixture
def released(one_glance):
    yield one_glance.targets["held"]
    one_glance.targets["held"].switch(HEALTHY)


def refuses(cloud, token):
    headers = {"X-Auth-Token": token}
    return cloud.request("GET", "v2/images", user=None, headers=headers).status_code == 401


def test_token_of_an_application_credential_is_revoked_while_a_push_runs(
    one_glance, keystone, released
):
    image_id, body = hold(one_glance)
    token = keystone.session(SERVICE_USER, SERVICE_USER).get_token()
    keystone.revoke_tokens(SERVICE_USER)
    assert refuses(one_glance, token)
    released.switch(HEALTHY)
    one_glance.assert_replicated(image_id, body)


def test_token_expires_while_a_push_runs(one_glance, keystone, released):
    for user in ("alice", "admin"):
        one_glance.token(user)
    keystone.issue_tokens_for(seconds=2)
    try:
        keystone.revoke_tokens(SERVICE_USER)
        image_id, body = hold(one_glance)
        token = keystone.session(SERVICE_USER, SERVICE_USER).get_token()
        wait_until(lambda: refuses(one_glance, token), 60, "tokens have expired")
        released.switch(HEALTHY)
        one_glance.assert_replicated(image_id, body)
    finally:
        keystone.issue_tokens_for(TOKEN_SECONDS)
