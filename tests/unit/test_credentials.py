# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the service user's options is said at once, with section and option."""

import pytest
from oslo_config import cfg

from glance_repl_mw import bounded, credentials, exceptions, opts
from tests.lab.certificates import Authority

URL = "http://127.0.0.1:1/v3"
USER = {"username": "replicator", "user_domain_id": "default"}
PROJECT = {"project_name": "service", "project_domain_id": "default"}
SECRET = "not-to-be-shown"

GOOD = {
    "password": {**USER, **PROJECT, "password": SECRET},
    "v3password": {**USER, **PROJECT, "password": SECRET},
    "v3applicationcredential": {
        "application_credential_id": "1",
        "application_credential_secret": SECRET,
    },
    "v3token": {"token": SECRET, "project_id": "1"},
    "token": {"token": SECRET, "project_id": "1"},
}
# By plugin: the options that are set or, by None, left out, and the word of the message.
BAD = [
    ("password", {"auth_url": None}, "auth_url"),
    ("password", {"auth_url": "keystone.example/v3"}, "auth_url"),
    ("password", {"username": None}, "username or user_id"),
    ("password", {"password": None}, "password"),
    ("password", {"password": ""}, "password"),
    ("password", {"user_domain_id": None}, "user_domain_id or user_domain_name"),
    ("password", {"project_name": None}, "project_name or project_id"),
    ("password", {"project_domain_id": None}, "project_domain_id or project_domain_name"),
    ("v3password", {"user_domain_id": None}, "user_domain_id or user_domain_name"),
    ("v3password", {"project_name": None}, "project_name or project_id"),
    ("v3applicationcredential", {"auth_url": None}, "auth_url"),
    (
        "v3applicationcredential",
        {"application_credential_id": None},
        "application_credential_id or application_credential_name",
    ),
    (
        "v3applicationcredential",
        {"application_credential_secret": None},
        "application_credential_secret",
    ),
    (
        "v3applicationcredential",
        {"application_credential_id": None, "application_credential_name": "copies"},
        "username or user_id",
    ),
    ("v3token", {"token": None}, "token"),
    ("v3token", {"project_id": None}, "project_name or project_id"),
    ("token", {"token": None}, "token"),
]
SUFFICIENT = [
    ("password", {"username": None, "user_domain_id": None, "user_id": "1"}),
    ("password", {"user_domain_id": None, "user_domain_name": "Default"}),
    (
        "password",
        {"user_domain_id": None, "project_domain_id": None, "default_domain_id": "default"},
    ),
    ("password", {"project_name": None, "project_domain_id": None, "project_id": "1"}),
    ("v3password", {"project_name": None, "project_domain_id": None, "trust_id": "1"}),
    (
        "v3applicationcredential",
        {"application_credential_id": None, "application_credential_name": "copies", **USER},
    ),
]


@pytest.fixture
def load(tmp_path):
    """Load what these options say; those of the plugin stand in `section`."""

    def load(kind, changes, section="replication", **session):
        plugin = {"auth_type": kind, "auth_url": URL, **GOOD.get(kind, {}), **changes}
        sections = {"replication": dict(session)}
        if section != "replication":
            sections["replication"]["auth_section"] = section
        sections.setdefault(section, {}).update(plugin)
        lines = []
        for name, values in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {value}" for key, value in values.items() if value is not None]
        file = tmp_path / "replication.conf"
        file.write_text("\n".join(lines))
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], default_config_files=[str(file)], default_config_dirs=[])
        return credentials.load_adapter(conf)

    return load


BAD += [
    ("password", {"auth_url": url}, "auth_url")
    for url in (
        f"http://u:{SECRET}#@keystone/v3",
        "http://u:12#@keystone/v3",
        "http://[x",
        "http://",
    )
]


def refusal(load, *arguments, **options):
    with pytest.raises(exceptions.ConfigError) as raised:
        load(*arguments, **options)
    assert SECRET not in str(raised.value)
    return raised.value.hint


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_complete_is_loaded(load, kind):
    adapter = load(kind, {}, region_name="RegionTwo", valid_interfaces="internal,public")
    assert adapter.session.auth is not None
    assert adapter.service_type == "image"
    assert adapter.region_name == "RegionTwo"
    assert adapter.interface == ["internal", "public"]


@pytest.mark.parametrize(("kind", "changes"), SUFFICIENT)
def test_other_ways_to_be_complete(load, kind, changes):
    assert load(kind, changes).session.auth is not None


@pytest.mark.parametrize(("kind", "changes", "words"), BAD)
def test_what_is_missing_is_named(load, kind, changes, words):
    assert refusal(load, kind, changes).startswith(f"[replication] service user: {words}: is ")
    hint = refusal(load, kind, changes, section="copier")
    assert hint.startswith(f"[replication] service user: [copier] {words}: is ")


def test_plugin_is_missing_or_unknown(load):
    assert refusal(load, None, {}) == "[replication] service user: auth_type: is missing"
    hint = refusal(load, "handshake", {}, section="copier")
    assert hint.startswith("[replication] service user: [copier] auth_type: ")
    assert "handshake" in hint


def test_files_of_tls(load, tmp_path):
    ca_file = Authority(tmp_path / "ca").ca_file
    load("password", {}, cafile=ca_file)
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for name in ("cafile", "certfile", "keyfile"):
        hint = refusal(load, "password", {}, **{name: tmp_path / "none.pem"})
        assert f" {name}: {tmp_path}/none.pem does not exist" in hint
    assert f" cafile: {text} is not usable" in refusal(load, "password", {}, cafile=text)
    assert " keyfile: needs certfile" in refusal(load, "password", {}, keyfile=ca_file)


@pytest.mark.parametrize("seconds", ["1e10", "nan", "-1.0"])
@pytest.mark.parametrize("name", ["timeout", "connect_retry_delay", "status_code_retry_delay"])
def test_seconds_that_cannot_be_waited(load, name, seconds):
    hint = refusal(load, "password", {}, **{name: seconds})
    assert f" {name}: must be a number of seconds from 0" in hint
    assert hint.endswith(f"to 604800, and is {float(seconds)}")


def test_value_of_another_type_is_named_with_its_option(load):
    assert refusal(load, "password", {}, timeout="soon").startswith(
        "[replication] service user: timeout: could not convert"
    )


def test_endpoint(load):
    assert load("password", {}, endpoint_override="http://g/").endpoint_override == "http://g/"
    hint = refusal(load, "password", {}, endpoint_override="glance.example:9292")
    assert " endpoint_override: is not a URL" in hint
    assert "mutually exclusive" in refusal(
        load, "password", {}, interface="internal", valid_interfaces="public"
    )


@pytest.mark.parametrize("password", ["pa$sword", "$sword", "pa${sword}"])
def test_dollar_in_a_password_is_explained_without_it(load, password):
    hint = refusal(load, "password", {"password": password})
    assert "[replication] service user: password: " in hint
    assert "write $$ for a $" in hint
    assert "sword" not in hint.replace("password", "")


def test_dollar_that_is_written_twice(load):
    assert load("password", {"password": "pa$$word"}).session.auth is not None


def test_answers_are_bounded(load):
    session = load("password", {}).session.session
    for url in ("http://keystone.example/", "https://glance.example/"):
        assert isinstance(session.get_adapter(url), bounded._Adapter)
