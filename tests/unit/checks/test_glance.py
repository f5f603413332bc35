# SPDX-License-Identifier: Apache-2.0
"""Glance's own options; the filter of URLs must judge as Glance itself does."""

import socket

import pytest
from glance.common import utils
from oslo_config import cfg

from glance_repl_mw.checks import glance
from glance_repl_mw.checks.deployment import read
from tests.unit.checks.config import make_conf

FILTER = "import_filtering_opts"
NAMES = {
    "images.example.": ["192.0.2.7"],
    "loop.example.": ["127.0.0.1"],
    "both.example.": ["::1", "192.0.2.8"],
    "mapped.example.": ["::ffff:127.0.0.1"],
    "link.example.": ["fe80::1%eth0"],
}
URLS = [
    "http://images.example/x/",
    "http://IMAGES.example/x/",
    "https://images.example:443/",
    "http://images.example:8080/",
    "https://192.0.2.7/",
    "https://192.0.2.8:8443/",
    "http://127.0.0.1:8080/",
    "http://[::1]/",
    "http://[2001:db8::1]:8080/",
    "http://169.254.169.254/",
    "http://loop.example/",
    "http://both.example/",
    "http://mapped.example/",
    "http://link.example/",
    "http://unknown.example/",
    "http://2130706433/",
    "http://127.1/",
]
RULES = [
    {},
    {"allowed_ports": "[80,443,8080]"},
    {"allowed_ports": "[]"},
    {"allowed_ports": "[]", "disallowed_ports": "[8080]"},
    {"allowed_schemes": "[https]"},
    {"allowed_schemes": "[]", "disallowed_schemes": "[http]"},
    {"allowed_hosts": "[127.0.0.1,loop.example,192.0.2.7]"},
    {"allowed_hosts": "[images.example]", "disallowed_hosts": "[images.example]"},
    {"disallowed_hosts": "[192.0.2.7,192.0.2.8]"},
    {"disallowed_hosts": "[images.example]"},
]


@pytest.fixture(autouse=True)
def name_service(monkeypatch):
    def getaddrinfo(host, port, *_, **__):
        if host not in NAMES:
            raise socket.gaierror(f"{host} is not known")
        return [(0, 0, 0, "", (address, port)) for address in NAMES[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_import_filter_judges_as_glance_does(tmp_path, rules, url):
    conf = make_conf(tmp_path, **{FILTER: rules})
    conf.register_opts(glance._FILTER_OPTIONS, group=FILTER)
    refusal = glance.ImportFilter(conf).refusal(url)
    names = [opt.name for opt in glance._FILTER_OPTIONS]
    for name in names:
        cfg.CONF.set_override(name, conf[FILTER][name], group=FILTER)
    try:
        validate = getattr(utils, "validate_uri", None) or utils.validate_import_uri
        assert (refusal is None) == bool(validate(url)), refusal
    finally:
        for name in names:
            cfg.CONF.clear_override(name, group=FILTER)


def test_options_are_those_of_glance():
    ours = {opt.name: (opt.default, opt.type) for opt in glance._FILTER_OPTIONS}
    for name, (default, kind) in ours.items():
        theirs = cfg.CONF._get_opt_info(name, FILTER)["opt"]
        assert default == theirs.default
        assert kind.bounds == theirs.type.bounds


def locations(tmp_path, **options):
    deployment = read(make_conf(tmp_path, DEFAULT=options))
    return [str(finding) for finding in glance.check_locations(deployment)]


def test_show_multiple_locations(tmp_path):
    assert locations(tmp_path)[0].startswith("error: [DEFAULT] show_multiple_locations: is off")
    assert locations(tmp_path, show_multiple_locations="true")[0].startswith("ok: ")


@pytest.mark.parametrize(
    ("targets", "backends", "stores", "found"),
    [
        ("a:http", None, None, "ok: [glance_store] stores"),
        ("a:http", None, "file", "error: [glance_store] stores"),
        ("a:http", "fast:file,web:http", "file", "ok: [DEFAULT] enabled_backends"),
        ("a:http", "fast:file", "file,http", "error: [DEFAULT] enabled_backends"),
        ("a:swift", "fast:file", None, None),
    ],
)
def test_http_store(tmp_path, targets, backends, stores, found):
    conf = make_conf(
        tmp_path,
        DEFAULT={"enabled_backends": backends},
        glance_store={"stores": stores},
        replication={"enabled_targets": targets},
    )
    findings = [str(finding) for finding in glance.check_store(read(conf))]
    assert [line.startswith(found) for line in findings] == ([True] if found else [])


@pytest.mark.parametrize(
    ("quota", "number", "warns"), [(None, 9, 0), (None, 10, 1), ("-1", 50, 0), ("3", 3, 1)]
)
def test_location_quota(tmp_path, quota, number, warns):
    deployment = read(make_conf(tmp_path, DEFAULT={"image_location_quota": quota}))
    findings = list(glance.check_quota(deployment, [f"t{each}" for each in range(number)]))
    assert len(findings) == warns
    assert all(f"has {number + 1}" in str(finding) for finding in findings)
    assert glance._QUOTA.default == cfg.CONF._get_opt_info("image_location_quota")["opt"].default


class Target:
    def __init__(self, url):
        self.conf = cfg.ConfigOpts()
        self.conf.register_opt(cfg.StrOpt("url", default=url))
        self.conf([], default_config_files=[], default_config_dirs=[])


@pytest.mark.parametrize(
    ("rules", "remedy"),
    [
        (
            {"allowed_ports": "[80,443]", "allowed_hosts": "[192.0.2.7,192.0.2.8]"},
            "allowed_ports: refuses the port 8080 of a, the port 8443 of b; "
            "set allowed_ports = [80,443,8080,8443]",
        ),
        (
            {"allowed_ports": "[8080,8443]", "allowed_hosts": "[images.example]"},
            "allowed_hosts: refuses the host 192.0.2.7 of a, the host 192.0.2.8 of b; "
            "set allowed_hosts = [images.example,192.0.2.7,192.0.2.8]",
        ),
        (
            {"allowed_ports": "[]", "disallowed_ports": "[8080,8443]"},
            "disallowed_ports: refuses the port 8080 of a, the port 8443 of b; "
            "take that from this list",
        ),
    ],
)
def test_one_remedy_is_for_all_targets_together(tmp_path, rules, remedy):
    deployment = read(make_conf(tmp_path, **{FILTER: rules}))
    targets = {"a": Target("http://192.0.2.7:8080/"), "b": Target("http://192.0.2.8:8443/")}
    lines = [str(finding) for finding in glance.check_import_filter(deployment, targets)]
    assert lines == [f"error: [{FILTER}] {remedy}"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, []),
        ({"user_storage_quota": "0"}, []),
        ({"user_storage_quota": "10GB"}, ["user_storage_quota"]),
        ({"use_keystone_limits": "true"}, ["use_keystone_limits"]),
    ],
)
def test_quotas_of_users_count_every_location(tmp_path, options, named):
    deployment = read(make_conf(tmp_path, DEFAULT=options))
    found = list(glance.check_user_quota(deployment, ["a", "b", "c"]))
    assert [finding.where for finding in found] == [f"[DEFAULT] {name}" for name in named]
    assert all(finding.level == "note" and "4 times" in finding.text for finding in found)
    assert list(glance.check_user_quota(deployment, [])) == []


@pytest.mark.parametrize(
    ("backends", "section"),
    [
        (None, "[glance_store]"),
        ("fast:file,web:http", "[web]"),
        ("fast:file", "[glance_store]"),
    ],
)
def test_section_of_the_http_store(tmp_path, backends, section):
    deployment = read(make_conf(tmp_path, DEFAULT={"enabled_backends": backends}))
    assert glance.http_store_section(deployment.glance) == section
