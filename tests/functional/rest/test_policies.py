# SPDX-License-Identifier: Apache-2.0
"""Who may do what to the replicas of which image: three users of two projects, and others."""

import os

import pytest
import yaml

from tests.lab.process import wait_until

# alice and bob are members of the owner's project, rita is a reader there, carol is a member of
# another one.
TABLE = """
image            user    list  show  synchronise  delete
private          alice   200   200   200          403
private          bob     200   200   200          403
private          rita    200   200   403          403
private          carol   404   404   404          404
private          admin   200   200   200          202
private          nobody  401   401   401          401
shared           alice   200   200   200          403
shared           bob     200   200   200          403
shared           rita    200   200   403          403
shared           carol   404   404   404          404
shared           admin   200   200   200          202
shared           nobody  401   401   401          401
member-pending   alice   200   200   200          403
member-pending   bob     200   200   200          403
member-pending   rita    200   200   403          403
member-pending   carol   200   200   403          403
member-pending   admin   200   200   200          202
member-pending   nobody  401   401   401          401
member-accepted  alice   200   200   200          403
member-accepted  bob     200   200   200          403
member-accepted  rita    200   200   403          403
member-accepted  carol   200   200   403          403
member-accepted  admin   200   200   200          202
member-accepted  nobody  401   401   401          401
community        alice   200   200   200          403
community        bob     200   200   200          403
community        rita    200   200   403          403
community        carol   200   200   403          403
community        admin   200   200   200          202
community        nobody  401   401   401          401
public           alice   200   200   200          403
public           bob     200   200   200          403
public           rita    200   200   403          403
public           carol   200   200   403          403
public           admin   200   200   200          202
public           nobody  401   401   401          401
hidden           alice   200   200   200          403
hidden           bob     200   200   200          403
hidden           rita    200   200   403          403
hidden           carol   200   200   403          403
hidden           admin   200   200   200          202
hidden           nobody  401   401   401          401
hidden-private   alice   200   200   200          403
hidden-private   bob     200   200   200          403
hidden-private   rita    200   200   403          403
hidden-private   carol   404   404   404          404
hidden-private   admin   200   200   200          202
hidden-private   nobody  401   401   401          401
hidden-shared    alice   200   200   200          403
hidden-shared    bob     200   200   200          403
hidden-shared    rita    200   200   403          403
hidden-shared    carol   404   404   404          404
hidden-shared    admin   200   200   200          202
hidden-shared    nobody  401   401   401          401
deactivated      alice   200   200   409          403
deactivated      bob     200   200   409          403
deactivated      rita    200   200   403          403
deactivated      carol   200   200   403          403
deactivated      admin   200   200   409          409
deactivated      nobody  401   401   401          401
unknown          alice   404   404   404          404
unknown          carol   404   404   404          404
unknown          admin   404   404   404          404
unknown          nobody  401   401   401          401
"""
OF_ALL = """
user    targets  replicas
alice   200      403
bob     200      403
rita    200      403
carol   200      403
admin   200      200
nobody  401      401
"""
UNKNOWN = "7f2f2b5e-0c7f-4f3b-9d4c-000000000002"
PROJECTS = {"alice": "demo", "bob": "demo", "rita": "demo", "carol": "others", "admin": "admin"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


def lines(table):
    names, *rows = (line.split() for line in table.split("\n") if line)
    return [dict(zip(names, row, strict=True)) for row in rows]


class Users:
    """Requests with the users' tokens; `nobody` has none."""

    def __init__(self, cloud, keystone):
        self.cloud = cloud
        keystone.add_user("bob", "lab-bob-password", "demo", ("member",))
        keystone.add_user("rita", "lab-rita-password", "demo", ("reader",))
        keystone.add_user("carol", "lab-carol-password", "others", ("member",))
        sessions = {user: keystone.session(user, name) for user, name in PROJECTS.items()}
        self._tokens = {user: session.get_token() for user, session in sessions.items()}
        self.carols_project = sessions["carol"].get_project_id()

    def ask(self, user, method, path, **arguments):
        headers = {**arguments.pop("headers", {})}
        if user in self._tokens:
            headers["X-Auth-Token"] = self._tokens[user]
        return self.cloud.request(method, path, user=None, headers=headers, **arguments)


@pytest.fixture(scope="module")
def users(quiet, keystone):
    return Users(quiet, keystone)


@pytest.fixture(scope="module")
def images(quiet, users):
    """An image of each kind, replicated, by the name of the kind."""
    kinds = dict.fromkeys(line["image"] for line in lines(TABLE))
    made = {kind: quiet.new_image(b"some bytes") for kind in kinds if kind != "unknown"}
    for image_id in made.values():
        quiet.wait_replicated(image_id, ["site-a", "site-b"])

    def change(kind, path, value):
        body = [{"op": "replace", "path": path, "value": value}]
        path = f"v2/images/{made[kind]}"
        users.ask("admin", "PATCH", path, json=body, headers=PATCH).raise_for_status()

    for kind in ("private", "community", "public"):
        change(kind, "/visibility", kind)
    for kind in ("hidden", "deactivated"):
        change(kind, "/visibility", "public")
    change("hidden-private", "/visibility", "private")
    for kind in ("hidden", "hidden-private", "hidden-shared"):
        change(kind, "/os_hidden", True)
    for kind in ("member-pending", "member-accepted"):
        path = f"v2/images/{made[kind]}/members"
        body = {"member": users.carols_project}
        users.ask("alice", "POST", path, json=body).raise_for_status()
    path = f"v2/images/{made['member-accepted']}/members/{users.carols_project}"
    users.ask("carol", "PUT", path, json={"status": "accepted"}).raise_for_status()
    path = f"v2/images/{made['deactivated']}/actions/deactivate"
    users.ask("admin", "POST", path).raise_for_status()
    yield {**made, "unknown": UNKNOWN}
    users.ask("admin", "POST", path.replace("deactivate", "reactivate")).raise_for_status()
    for image_id in made.values():
        quiet.forget(image_id)


def test_replicas_of_an_image(users, images):
    found = []
    for line in lines(TABLE):
        user, path = line["user"], f"v2/images/{images[line['image']]}/replicas"
        answers = {
            "list": users.ask(user, "GET", path).status_code,
            "show": users.ask(user, "GET", f"{path}/site-a").status_code,
            "synchronise": users.ask(user, "PUT", f"{path}/site-a").status_code,
            "delete": users.ask(user, "DELETE", f"{path}/site-b").status_code,
        }
        found.append({**line, **{name: str(status) for name, status in answers.items()}})
    assert found == lines(TABLE)


def test_only_administrators_are_told_where_replicas_lie(users, images):
    for user in PROJECTS:
        path = f"v2/images/{images['public']}/replicas/site-a"
        url = users.ask(user, "GET", path).json()["location_url"]
        assert (url is not None) is (user == "admin")


def test_targets_and_all_replicas(users):
    found = [
        {
            "user": line["user"],
            **{
                name: str(users.ask(line["user"], "GET", f"v2/replication/{name}").status_code)
                for name in ("targets", "replicas")
            },
        }
        for line in lines(OF_ALL)
    ]
    assert found == lines(OF_ALL)


@pytest.fixture
def operator(quiet):
    """Writes rules into the policy file; they are gone after the test."""

    def write(rules):
        new = quiet.policy_file.with_suffix(".new")
        new.write_text(yaml.safe_dump(rules))
        os.replace(new, quiet.policy_file)

    yield write
    write({})


def test_operator_lets_owners_delete(quiet, users, images, operator):
    path = f"v2/images/{images['shared']}/replicas/site-c"
    quiet.wait_replicated(images["shared"], ["site-c"])
    assert users.ask("bob", "DELETE", path).status_code == 403
    operator({"replication:replicas:delete": "role:member and project_id:%(project_id)s"})
    assert users.ask("carol", "DELETE", path).status_code == 404
    public = path.replace(images["shared"], images["public"])
    assert users.ask("carol", "DELETE", public).status_code == 403
    assert users.ask("admin", "DELETE", path).status_code == 403, "the file leaves him out"
    assert users.ask("bob", "DELETE", path).status_code == 202
    wait_until(lambda: quiet.statuses(images["shared"])["site-c"] == "deleted", 60, "deleted")


def test_operator_lets_members_choose_their_write_concern(quiet, operator):
    def answer():
        image_id = quiet.create_image(replication_write_concern="all")
        uploaded = quiet.upload(image_id, b"some bytes")
        quiet.wait_replicated(image_id)
        quiet.forget(image_id)
        return uploaded.status_code, uploaded.headers.get("X-Replication-Status")

    assert answer() == (204, None)
    operator({"replication:write_concern:override": "role:member"})
    assert answer() == (204, "active=3/3")
    operator({})
    assert answer() == (204, None)


def test_operator_closes_what_everybody_may(users, images, operator):
    path = f"v2/images/{images['public']}/replicas"
    operator({"replication:replicas:get": "role:admin", "replication:targets:get": "!"})
    answers = [users.ask(user, "GET", path).status_code for user in ("alice", "admin")]
    assert answers == [403, 200]
    assert users.ask("admin", "GET", "v2/replication/targets").status_code == 403
