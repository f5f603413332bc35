# SPDX-License-Identifier: Apache-2.0
"""The options that every target has, whatever its driver."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg

from glance_repl_mw.seconds import SecondsOpt

TARGET_OPTIONS: Sequence[cfg.Opt] = (
    cfg.StrOpt(
        "mode",
        default="eager",
        choices=[
            ("eager", "The target gets every image for which replicate_if holds."),
            ("lazy", "The target gets only what is asked for."),
        ],
        help="Whether images are replicated to this target without being asked for.",
    ),
    cfg.StrOpt(
        "replicate_if",
        default="",
        sample_default="visibility:public and (size:<=20GiB or tag:golden)",
        help="Which images this target gets, written as the rules of a policy file: conditions "
        "joined with and, or, not and brackets. There are visibility:NAME, owner:PROJECT_ID, "
        "container_format:NAME, disk_format:NAME, size:<=NUMBER with units such as 20GiB, "
        "tag:NAME, property:NAME=VALUE, and property:NAME whatever its value. Empty: all images.",
    ),
    cfg.IntOpt(
        "max_connections",
        default=32,
        min=1,
        help="How many images are written to this target at once.",
    ),
    cfg.IntOpt(
        "max_bytes_per_second",
        default=0,
        min=0,
        help="Most bytes per second that the writer of this node sends to this target, for all "
        "images together. Bytes that it reads to prove the replicas of a target that is back "
        "count, too. 0: no limit.",
    ),
    SecondsOpt(
        "withdraw_after_seconds",
        min=0.0,
        help="As in [replication], for this target.",
    ),
)
