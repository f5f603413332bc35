# SPDX-License-Identifier: Apache-2.0
"""Has Glance hold no lock of an image while it asks another node to change that image.

Where nodes have staging areas of their own, Glance sends ``import`` and ``DELETE`` of a staged
image on to the node that has staged it, and waits. That node takes the image's lock for the same
request, which the first one must not hold then.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from oslo_log import log

from glance_repl_mw import locking

LOG = log.getLogger(__name__)

_MODULE = "glance.api.v2.images"
_CLASS = "ImagesController"
# The second name is that of Glance before release 33.
_METHODS = ("_proxy_request_to_host", "_proxy_request_to_stage_host")


def wrap_glance() -> None:
    """Wrap what the Glance in this process asks other nodes with, once."""
    controller = getattr(importlib.import_module(_MODULE), _CLASS, None)
    found = [name for name in _METHODS if hasattr(controller, name)]
    if not found:
        LOG.warning("It is not known how this Glance asks other nodes for what they have staged")
    for name in found:
        method = getattr(controller, name)
        if not hasattr(method, "__wrapped__"):
            setattr(controller, name, _without_lock(method))


def _without_lock(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def asking(*arguments: Any, **named: Any) -> Any:
        locking.let_go()
        return method(*arguments, **named)

    return asking
