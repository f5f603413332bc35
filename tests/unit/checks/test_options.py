# SPDX-License-Identifier: Apache-2.0
"""Options that nobody reads are found, with the name that was meant."""

import pytest

from glance_repl_mw.checks import options
from glance_repl_mw.checks.deployment import read
from tests.unit.checks.config import make_conf

TARGET = {"url": "http://a/"}
PASSWORD = {"auth_type": "password", "auth_url": "http://k/", "username": "u", "password": "p"}


@pytest.fixture
def found(tmp_path):
    def found(**sections):
        replication = {"enabled_targets": "site-a:http", **sections.pop("replication", {})}
        sections = {"replication:site-a": TARGET, **sections, "replication": replication}
        return [str(each) for each in options.check(read(make_conf(tmp_path, **sections)))]

    return found


def test_right_options_are_passed_over(found):
    assert (
        found(
            replication={
                **PASSWORD,
                "user_domain_name": "Default",
                "project-name": "service",
                "cafile": "/x",
                "timeout": "5",
                "valid_interfaces": "internal",
                "region_name": "R",
                "local_target": "site-a",
                "delete_delay_seconds": "5",
                "notifications": "true",
            },
            **{"replication:site-a": {**TARGET, "publish": "move", "max_connections": "3"}},
        )
        == []
    )


@pytest.mark.parametrize(
    ("section", "name", "meant"),
    [
        ("replication", "lokal_target", "local_target"),
        ("replication", "user_domain_nam", "user_domain_name"),
        ("replication", "endpoint_overide", "endpoint_override"),
        ("replication:site-a", "lokation_url", "location_url"),
        ("replication:site-a", "replicate_iff", "replicate_if"),
        # Also where the target is not enabled.
        ("replication:site-b", "lokation_url", "location_url"),
    ],
)
def test_typo_is_found(found, section, name, meant):
    base = PASSWORD if section == "replication" else TARGET
    lines = [line for line in found(**{section: {**base, name: "x"}}) if name in line]
    assert lines == [
        f"warning: [{section}] {name}: is unknown, and nobody reads it; did you mean {meant}?"
    ]


def test_option_that_is_like_none(found):
    (line,) = found(replication={"xyzzy": "1"})
    assert line.endswith("; take it out")


def test_options_of_another_plugin_are_found_where_one_is_chosen(found):
    secret = {"application_credential_secret": "s"}
    assert found(replication=secret) == []
    (line,) = found(replication={**PASSWORD, **secret})
    assert "application_credential_secret" in line


def test_section_of_a_target_that_is_not_enabled(found):
    (line,) = found(**{"replication:site-aa": TARGET})
    assert line == (
        "note: [replication:site-aa]: is not read: site-aa is not in enabled_targets; "
        "did you mean replication:site-a?"
    )


def test_section_of_an_unknown_driver_is_not_judged(found):
    assert found(replication={"enabled_targets": "site-a:htpt"}) == []


@pytest.mark.parametrize("section", ["replicaton", "Replication:site-a", "replications"])
def test_misspelt_section(found, section):
    (line,) = found(**{section: {"url": "x"}})
    assert line.startswith(f"warning: [{section}]: is a section that nobody reads; ")


def test_sections_of_others_are_theirs(found):
    assert found(glance_store={"lokal": "x"}, keystone_authtoken={"lokal": "x"}) == []


def test_dollar_that_leaves_no_value_is_no_replaced_one(found):
    # The step that needs the password says so.
    assert found(replication={**PASSWORD, "password": "a$nowhere"}) == []


def test_dollar_that_was_replaced(found):
    # As an option that is there, it is not an error, and the password another one.
    (line,) = found(replication={**PASSWORD, "password": "a$username"})
    assert "write $$" in line
    assert "a$" not in line
