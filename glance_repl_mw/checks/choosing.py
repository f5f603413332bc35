# SPDX-License-Identifier: Apache-2.0
"""Can the rules of the targets ever hold, and who rules which targets an image names?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oslo_config import cfg

from glance_repl_mw import opts
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, note, warning
from glance_repl_mw.choice import PROPERTY
from glance_repl_mw.rules import Rule
from glance_repl_mw.targets import loader
from glance_repl_mw.targets.base import Target

_FORMATS = (
    cfg.ListOpt(
        "container_formats",
        default=["ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"],
    ),
    cfg.ListOpt(
        "disk_formats",
        default=[
            "ami",
            "ari",
            "aki",
            "vhd",
            "vhdx",
            "vmdk",
            "raw",
            "qcow2",
            "vdi",
            "iso",
            "ploop",
        ],
    ),
)
_FORMAT_GROUP = "image_format"
_PROTECTION = cfg.StrOpt("property_protection_file")


def check(deployment: Deployment, targets: Mapping[str, Target]) -> Iterator[Finding]:
    """Formats that Glance does not take, and a property that anybody may set."""
    conf = deployment.glance
    conf.register_opts(_FORMATS, group=_FORMAT_GROUP)
    for name, target in targets.items():
        for kind, value in Rule(target.conf.replicate_if).conditions:
            if kind.endswith("_format") and value not in conf[_FORMAT_GROUP][f"{kind}s"]:
                where = f"[{loader.section(name)}] replicate_if"
                text = f"Glance takes no image with the {kind} {value}"
                yield warning(where, text, f"correct it, or add it to [image_format] {kind}s")
    conf.register_opt(_PROTECTION)
    is_obeyed = deployment.replication.replication.image_property_targets
    if is_obeyed and not conf.property_protection_file:
        where = f"[{opts.GROUP}] image_property_targets"
        text = f"whoever may change an image may set {PROPERTY}: there is no "
        yield note(where, f"{text}property_protection_file in [DEFAULT]")
