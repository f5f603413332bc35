# SPDX-License-Identifier: Apache-2.0
"""Is the deployment open to users who are not administrators?

Glance's policies are judged here, by its own rules and policy file: the running Glance could only
be asked by an ordinary user.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import stevedore
import stevedore.exception
from oslo_config import cfg, types
from oslo_policy import policy

from glance_repl_mw import opts
from glance_repl_mw.checks import glance, secrecy
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, note, ok, warning
from glance_repl_mw.targets import loader
from glance_repl_mw.targets.base import Target

_PAGE = "see the page on security in the documentation"
_POLICIES = "Glance's policies"
_PROJECT = "a-project"
# What the owner of an image has at most, short of being an administrator.
_OWNER = {"roles": ["manager", "member", "reader"], "project_id": _PROJECT, "user_id": "a-user"}
_IMAGE = {"project_id": _PROJECT, "owner": _PROJECT, "visibility": "private"}
_OLD_RULES = {
    "set_image_location": "add locations",
    "delete_image_location": "remove locations",
}
_NEW_RULES = {
    "add_image_location": "give an image without data a location",
    "fetch_image_location": "read locations",
}
_IMPORT_METHODS = cfg.ListOpt(
    "enabled_import_methods",
    item_type=types.String(quotes=True),
    bounds=True,
    default=["glance-direct", "web-download", "copy-image"],
)
_DIRECT_URL = cfg.BoolOpt("show_image_direct_url", default=False)


def check_policies(deployment: Deployment) -> Iterator[Finding]:
    """What the owner of an image may see and change of its locations."""
    conf = deployment.glance
    conf.register_opts([*glance.OPTIONS, _DIRECT_URL])
    options = ("show_multiple_locations", "show_image_direct_url")
    for option in (name for name in options if conf[name]):
        text = "shows locations to whoever may see the image: no policy of Glance hides them"
        remedy = f"give the service user a Glance of its own, and set it to False here; {_PAGE}"
        yield warning(f"[DEFAULT] {option}", text, remedy)
    enforcer = _enforcer(conf)
    if enforcer is None:
        yield note(_POLICIES, "were not looked at: glance is not installed beside this program")
        return
    # Without show_multiple_locations Glance refuses what the old rules are about.
    rules = _NEW_RULES | (_OLD_RULES if conf.show_multiple_locations else {})
    open_rules = [rule for rule in rules if enforcer.enforce(rule, _IMAGE, _OWNER)]
    for rule in open_rules:
        text = f"the owner of an image may {rules[rule]} ({rule})"
        yield warning(_POLICIES, text, f"take those of this project's samples; {_PAGE}")
    if not open_rules:
        yield ok(_POLICIES, "close locations to users")


def _enforcer(conf: cfg.ConfigOpts) -> policy.Enforcer | None:
    try:
        found: stevedore.DriverManager[Any] = stevedore.DriverManager(
            "oslo.policy.policies", "glance"
        )
    except stevedore.exception.NoMatches:
        return None
    enforcer = policy.Enforcer(conf)
    enforcer.suppress_deprecation_warnings = True
    enforcer.suppress_default_change_warnings = True
    enforcer.register_defaults(found.driver())
    return enforcer


def check_files(conf: cfg.ConfigOpts, targets: Iterable[Target]) -> Iterator[Finding]:
    """Whether others than their owner and group can read files with credentials."""
    for path in sorted(_files_with_secrets(conf, targets)):
        if path.stat().st_mode & stat.S_IROTH:
            yield warning(str(path), "holds credentials and is readable by everybody", "chmod 640")


def _files_with_secrets(conf: cfg.ConfigOpts, targets: Iterable[Target]) -> set[Path]:
    groups: list[tuple[str, Sequence[cfg.Opt]]] = [
        (opts.GROUP, opts.REPLICATION_OPTIONS),
        secrecy.service_user_options(conf),
        *((loader.section(target.name), target.options) for target in targets),
    ]
    return {
        Path(location.detail)
        for group, options in groups
        for opt in options
        if opt.secret
        and conf[group][opt.dest]
        and (location := conf.get_location(opt.dest, group))
        and location.location is cfg.Locations.user
    }


def check_targets(targets: Iterable[Target]) -> Iterator[Finding]:
    """Tell where whoever reaches a server can read replicas, so that nobody is surprised."""
    for target in targets:
        url = glance.location_url(target)
        if url.startswith("http://"):
            text = f"whoever reaches {url} and knows a name reads replicas, without TLS"
            yield note(target.name, f"{text}; {_PAGE}")


def check_imports(deployment: Deployment, targets: Iterable[Target]) -> Iterator[Finding]:
    """Tell where users can have Glance read replicas for them; asks the name service."""
    conf = deployment.glance
    conf.register_opt(_IMPORT_METHODS)
    if "web-download" not in conf.enabled_import_methods:
        return
    try:
        rules = glance.ImportFilter(conf)
    except cfg.Error:
        return  # what is wrong with the filter was found before
    for target in targets:
        url = glance.location_url(target)
        is_signed = math.isfinite(target.renewal_seconds)
        if url.startswith(("http://", "https://")) and not is_signed and not rules.refusal(url):
            text = f"who knows a name in {url} can import that replica with web-download"
            yield note(target.name, f"{text}, which Glance's host reads for him; {_PAGE}")
