"""The oslo.policy rules of the REST resources that the filter serves."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_policy import policy

READ = "replication:replicas:get"
READ_URLS = "replication:replicas:get_urls"


def list_rules() -> Sequence[policy.RuleDefault]:
    """For oslopolicy-sample-generator."""
    return [
        policy.DocumentedRuleDefault(
            name=READ,
            check_str="",
            description="Read the state of an image's replicas. Whoever may not see the image in "
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
    ]
