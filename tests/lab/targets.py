# SPDX-License-Identifier: Apache-2.0
"""Target drivers as the loader would make them."""

from typing import Any

from oslo_config import cfg

from glance_repl_mw.targets.http import HTTPTarget
from glance_repl_mw.targets.opts import TARGET_OPTIONS


def http_target(url: str | None, **options: Any) -> HTTPTarget:
    """The target `site` with these options of its section."""
    conf = cfg.ConfigOpts()
    conf.register_opts([*TARGET_OPTIONS, *HTTPTarget.options], group="site")
    for name, value in {"url": url, **options}.items():
        conf.set_override(name, value, group="site")
    return HTTPTarget("site", conf["site"])
