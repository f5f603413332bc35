# SPDX-License-Identifier: Apache-2.0
"""The oslo.policy rules of the REST resources that the filter serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import stevedore
import stevedore.exception
from oslo_config import cfg
from oslo_policy import policy

READ = "replication:replicas:get"
READ_URLS = "replication:replicas:get_urls"
SYNCHRONISE = "replication:replicas:synchronise"
DELETE = "replication:replicas:delete"
LIST = "replication:replicas:list"
TARGETS = "replication:targets:get"
TARGET_DETAILS = "replication:targets:get_details"
OVERRIDE_WRITE_CONCERN = "replication:write_concern:override"


_RULES = [
    policy.DocumentedRuleDefault(
        name=READ,
        check_str="",
        description="Read the state of an image's replicas. A user who may not see the image in "
        "Glance gets Glance's own answer, whatever this rule says.",
        operations=[
            {"method": "GET", "path": "/v2/images/{image_id}/replicas"},
            {"method": "GET", "path": "/v2/images/{image_id}/replicas/{target}"},
        ],
    ),
    policy.DocumentedRuleDefault(
        name=READ_URLS,
        check_str="role:admin",
        description="See where the replicas lie and what went wrong with them: location_url "
        "and error are null for everybody else.",
        operations=[
            {"method": "GET", "path": "/v2/images/{image_id}/replicas"},
            {"method": "GET", "path": "/v2/images/{image_id}/replicas/{target}"},
        ],
    ),
    policy.DocumentedRuleDefault(
        name=SYNCHRONISE,
        check_str="role:admin or (role:member and project_id:%(project_id)s)",
        description="Have an image synchronised to a target now, ahead of everything else. "
        "project_id is that of the image's owner; a user who is only a reader there changes "
        "nothing.",
        operations=[{"method": "PUT", "path": "/v2/images/{image_id}/replicas/{target}"}],
    ),
    policy.DocumentedRuleDefault(
        name=DELETE,
        check_str="role:admin",
        description="Delete a replica, location and object. project_id is that of the "
        "image's owner.",
        operations=[{"method": "DELETE", "path": "/v2/images/{image_id}/replicas/{target}"}],
    ),
    policy.DocumentedRuleDefault(
        name=LIST,
        check_str="role:admin",
        description="List the replicas of all images of all projects.",
        operations=[{"method": "GET", "path": "/v2/replication/replicas"}],
    ),
    policy.DocumentedRuleDefault(
        name=TARGETS,
        check_str="",
        description="List the targets by name, and whether they are up.",
        operations=[{"method": "GET", "path": "/v2/replication/targets"}],
    ),
    policy.DocumentedRuleDefault(
        name=TARGET_DETAILS,
        check_str="role:admin",
        description="See where the targets lie, what is wrong with them, what operators want "
        "of them and how many replicas they hold: null for everybody else.",
        operations=[{"method": "GET", "path": "/v2/replication/targets"}],
    ),
    policy.DocumentedRuleDefault(
        name=OVERRIDE_WRITE_CONCERN,
        check_str="role:admin",
        description="Choose with the image property replication_write_concern (none, quorum "
        "or all) how many replicas the upload waits for. The property is ignored in uploads "
        "of everybody else.",
        operations=[{"method": "PUT", "path": "/v2/images/{image_id}/file"}],
    ),
]


def enforcer(conf: cfg.ConfigOpts) -> policy.Enforcer:
    """Judges by the policy file that Glance has, which is about Glance's own rules too.

    So it knows their defaults as well, where Glance is installed.
    """
    judge = policy.Enforcer(conf)
    # What is to be said of Glance's rules, Glance says.
    judge.suppress_deprecation_warnings = True
    judge.suppress_default_change_warnings = True
    judge.register_defaults(_RULES)
    try:
        glance: stevedore.DriverManager[Any] = stevedore.DriverManager(
            "oslo.policy.policies", "glance"
        )
    except stevedore.exception.NoMatches:
        return judge
    judge.register_defaults(glance.driver())
    return judge


def list_rules() -> Sequence[policy.RuleDefault]:
    """For oslopolicy-sample-generator."""
    return _RULES
