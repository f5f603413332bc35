# SPDX-License-Identifier: Apache-2.0
"""What is open to users is found in Glance's configuration, policies and files."""

import pytest
import stevedore.driver
import stevedore.exception
from glance.common import config  # noqa: F401 (registers Glance's options)
from oslo_config import cfg

from glance_repl_mw.checks import exposure, glance, targets
from glance_repl_mw.checks.deployment import read
from tests.unit.checks.config import make_conf

CLOSED = '"add_image_location": "rule:service_api"'
OWN = '"role:member and project_id:%(project_id)s"'
EVERYTHING_CLOSED = f'{CLOSED}\n"set_image_location": "role:admin"'


@pytest.fixture
def findings(tmp_path):
    def findings(policies, **options):
        file = tmp_path / "policy.yaml"
        file.write_text(policies)
        conf = make_conf(tmp_path, DEFAULT=options, oslo_policy={"policy_file": file})
        return [str(finding) for finding in exposure.check_policies(read(conf))]

    return findings


def rules(lines):
    return [
        name
        for name in ("set", "delete", "add", "fetch")
        if any(f"({name}_image_location)" in line for line in lines)
    ]


@pytest.mark.parametrize(
    ("policies", "shows", "open_rules"),
    [
        ("{}", False, ["add"]),
        ("{}", True, ["set", "add"]),
        (CLOSED, False, []),
        (CLOSED, True, ["set"]),
        (EVERYTHING_CLOSED, True, []),
        (f'{EVERYTHING_CLOSED}\n"delete_image_location": {OWN}', True, ["delete"]),
        (f'{CLOSED}\n"delete_image_location": {OWN}', False, []),
        (f'{CLOSED}\n"fetch_image_location": "@"', False, ["fetch"]),
    ],
)
def test_policies_are_judged_as_for_an_owner(findings, policies, shows, open_rules):
    lines = findings(policies, show_multiple_locations=shows)
    assert rules(lines) == open_rules
    shown = [line for line in lines if line.startswith("warning: [DEFAULT] show_multiple_loc")]
    assert len(shown) == shows
    assert ("ok: Glance's policies: close locations to users" in lines) == (open_rules == [])


def test_direct_url_is_found(findings):
    (line, _) = findings(CLOSED, show_image_direct_url=True)
    assert line.startswith("warning: [DEFAULT] show_image_direct_url: ")


def test_policies_without_glance_are_not_judged(findings, monkeypatch):
    def fail(*_):
        raise stevedore.exception.NoMatches("none")

    monkeypatch.setattr(stevedore.driver.DriverManager, "__init__", fail)
    (line,) = findings("{}")
    assert line.startswith("note: Glance's policies: were not looked at")


def loaded(tmp_path, url="http://a/", **replication):
    sections = {"replication:a": {"url": url, "username": "u", "password": "pw"}}
    replication = {"enabled_targets": "a:http", **replication}
    conf = read(make_conf(tmp_path, replication=replication, **sections)).replication
    return conf, targets.load(conf)[0].values()


@pytest.mark.parametrize(("mode", "open_files"), [(0o644, 1), (0o640, 0), (0o600, 0)])
def test_file_with_credentials_that_everybody_reads(tmp_path, mode, open_files):
    conf, found = loaded(tmp_path)
    path = tmp_path / "glance-api.conf"
    path.chmod(mode)
    lines = [str(finding) for finding in exposure.check_files(conf, found)]
    assert len(lines) == open_files
    assert all(line.startswith(f"warning: {path}: ") for line in lines)


def test_file_with_the_credentials_of_the_service_user_alone(tmp_path):
    conf = read(make_conf(tmp_path, replication={"auth_type": "v3token", "token": "t"}))
    (tmp_path / "glance-api.conf").chmod(0o644)
    assert len(list(exposure.check_files(conf.replication, []))) == 1


def test_file_without_credentials_may_be_read(tmp_path):
    conf = read(make_conf(tmp_path, replication={"auth_type": "password", "username": "u"}))
    (tmp_path / "glance-api.conf").chmod(0o644)
    assert list(exposure.check_files(conf.replication, [])) == []


@pytest.mark.parametrize(("url", "notes"), [("http://a/x/", 1), ("https://a/x/", 0)])
def test_replicas_that_are_read_without_tls(tmp_path, url, notes):
    _, found = loaded(tmp_path, url)
    lines = [str(finding) for finding in exposure.check_targets(found)]
    assert [line.startswith(f"note: a: whoever reaches {url} ") for line in lines] == [
        True
    ] * notes


KEY = "a-key-of-many-letters"


@pytest.mark.parametrize(
    ("methods", "key", "rules", "notes"),
    [
        (None, None, {}, 1),
        ("[glance-direct,'web-download']", None, {}, 1),
        ("[glance-direct,copy-image]", None, {}, 0),
        ("[]", None, {}, 0),
        (None, KEY, {}, 0),
        (None, None, {"disallowed_hosts": "[192.0.2.7]"}, 0),
        (None, None, {"allowed_ports": "not a list"}, 0),
    ],
)
def test_replicas_that_users_can_import(tmp_path, methods, key, rules, notes):
    conf = make_conf(
        tmp_path,
        DEFAULT={"enabled_import_methods": methods},
        replication={"enabled_targets": "a:http"},
        import_filtering_opts=rules,
        **{"replication:a": {"url": "http://192.0.2.7/x/", "location_signing_key": key}},
    )
    deployment = read(conf)
    found = targets.load(deployment.replication)[0].values()
    lines = [str(finding) for finding in exposure.check_imports(deployment, found)]
    start = "note: a: who knows a name in http://192.0.2.7/x/ can import"
    assert [line.startswith(start) for line in lines] == [True] * notes


def test_import_methods_are_those_of_glance():
    theirs = cfg.CONF._get_opt_info("enabled_import_methods")["opt"]
    assert exposure._IMPORT_METHODS.default == theirs.default
    assert exposure._IMPORT_METHODS.type.bounds == theirs.type.bounds


@pytest.mark.parametrize("option", ["endpoint_override", "valid_interfaces", "interface"])
def test_locations_are_off_where_the_service_user_has_another_glance(tmp_path, option):
    deployment = read(make_conf(tmp_path, replication={option: "http://internal/"}))
    (finding,) = glance.check_locations(deployment)
    assert str(finding).startswith("ok: [DEFAULT] show_multiple_locations: is off here")
