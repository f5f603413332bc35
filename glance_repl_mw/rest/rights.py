# SPDX-License-Identifier: Apache-2.0
"""Who may do what, by the rules of oslo.policy."""

from __future__ import annotations

from typing import Any

import webob
import webob.exc
from oslo_policy import policy

from glance_repl_mw.rest.answers import refused


class Rights:
    """Decides by the policy file, with the caller's own context; used by any thread."""

    def __init__(self, enforcer: policy.Enforcer) -> None:
        self._enforcer = enforcer

    def may(self, request: webob.Request, rule: str, target: dict[str, Any]) -> bool:
        """Whether the rule lets the caller do it to ``target``."""
        context = getattr(request, "context", None)
        return context is not None and self._enforcer.authorize(
            rule, target, context.to_policy_values(), do_raise=False
        )

    def demand(self, request: webob.Request, rule: str, target: dict[str, Any]) -> None:
        """Go on only if the caller may.

        :raises Answered: 403
        """
        if not self.may(request, rule, target):
            raise refused(webob.exc.HTTPForbidden, "You are not authorized to do this.")
