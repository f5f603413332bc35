# SPDX-License-Identifier: Apache-2.0
"""The samples of policies for Glance open and close what they say, and nothing else."""

from pathlib import Path

import pytest
from glance import policies
from oslo_config import cfg
from oslo_policy import policy

SAMPLES = Path(__file__).parents[2] / "etc/glance-repl-mw"
RULES = {rule.name: rule for rule in policies.list_rules()}
HELPERS = {"default", "context_is_admin", "service_api", "metadef_default", "metadef_admin"}
# Not asked by Glance's API any more, or only inside of what other rules have let pass.
INTERNAL = {"get_task", "get_tasks", "add_task", "modify_task"}
NEEDED = {
    "get_image",
    "get_images",
    "download_image",
    "set_image_location",
    "delete_image_location",
}
LOCATIONS = {
    "get_image_location",
    "set_image_location",
    "delete_image_location",
    "add_image_location",
    "fetch_image_location",
}
SETS_OF_ROLES = [
    [],
    ["reader"],
    ["member", "reader"],
    ["manager", "member", "reader"],
    ["admin", "manager", "member", "reader"],
    ["service"],
]
TARGETS = [
    {"project_id": owner, "owner": owner, "visibility": visibility, "member_id": member}
    for owner in ("mine", "theirs")
    for visibility in ("private", "shared", "community", "public")
    for member in (None, "mine")
]
COPIER = {"roles": ["image_replicator"], "service_roles": [], "project_id": "copier"}


def enforcer_of(sample, tmp_path, **options):
    file = SAMPLES / f"glance-policy-{sample}.yaml.sample" if sample else tmp_path / "none.yaml"
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    enforcer = policy.Enforcer(conf, policy_file=str(file))
    for name, value in options.items():
        conf.set_override(name, value, group="oslo_policy")
    enforcer.suppress_deprecation_warnings = True
    enforcer.suppress_default_change_warnings = True
    enforcer.register_defaults(RULES.values())
    return enforcer


def decisions(enforcer, credentials):
    """The rules that hold, each with the number of the target."""
    return {
        (name, number)
        for name, rule in RULES.items()
        if name not in HELPERS
        for number, target in enumerate(TARGETS)
        if enforcer.enforce(name, target, credentials)
    }


def rules_of(found):
    return {name for name, _ in found}


@pytest.mark.parametrize("sample", ["single", "public"])
def test_users_may_do_what_glance_lets_them_but_for_locations(sample, tmp_path):
    ours, glances = enforcer_of(sample, tmp_path), enforcer_of(None, tmp_path)
    for roles in SETS_OF_ROLES:
        user = {"roles": roles, "service_roles": [], "project_id": "mine", "user_id": "me"}
        changed = decisions(ours, user) ^ decisions(glances, user)
        assert rules_of(changed) <= LOCATIONS, roles
        open_rules = rules_of(decisions(ours, user)) & LOCATIONS
        if not {"admin", "service"} & set(roles) and sample == "single":
            assert open_rules == set()
        assert "add_image_location" not in open_rules or {"admin", "service"} & set(roles)


@pytest.mark.parametrize("sample", ["single", "internal"])
@pytest.mark.parametrize("enforce_new_defaults", [True, False])
def test_service_user_may_do_what_it_needs(sample, enforce_new_defaults, tmp_path):
    enforcer = enforcer_of(sample, tmp_path, enforce_new_defaults=enforce_new_defaults)
    for name in NEEDED:
        assert all(enforcer.enforce(name, target, COPIER) for target in TARGETS), name
    assert enforcer.enforce("context_is_admin", {}, COPIER)
    assert rules_of(decisions(enforcer, COPIER)) - INTERNAL == NEEDED


def test_nobody_else_may_do_anything_at_the_internal_glance(tmp_path):
    enforcer = enforcer_of("internal", tmp_path)
    for roles in SETS_OF_ROLES:
        user = {"roles": roles, "service_roles": roles, "project_id": "mine", "user_id": "me"}
        assert decisions(enforcer, user) == set(), roles
