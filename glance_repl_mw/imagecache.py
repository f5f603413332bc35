# SPDX-License-Identifier: Apache-2.0
"""Has Glance read an image at a location although its image cache has it, for one request.

What the cache gives tells nothing of the locations. Glance lets nobody ask past it for a whole
image, so that the function is wrapped that says what is cached. All other requests see the cache.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from oslo_log import log

LOG = log.getLogger(__name__)

_MODULE = "glance.image_cache"
_CLASS = "ImageCache"
_METHOD = "is_cached"

_is_passed: contextvars.ContextVar[bool] = contextvars.ContextVar("is_passed", default=False)


@contextlib.contextmanager
def passed_by() -> Iterator[None]:
    """Within this, the calling thread has Glance find no image in its cache."""
    _wrap_glance()
    token = _is_passed.set(True)
    try:
        yield
    finally:
        _is_passed.reset(token)


def _wrap_glance() -> None:
    """Wrap the function of the Glance in this process, once; Glance 30 to 33 have it."""
    cache = getattr(importlib.import_module(_MODULE), _CLASS, None)
    method = getattr(cache, _METHOD, None)
    if method is None:
        LOG.warning("This Glance has another image cache, which may answer for the locations")
    elif not hasattr(method, "__wrapped__"):
        setattr(cache, _METHOD, _wrapped(method))


def _wrapped(method: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(method)
    def is_cached(*arguments: Any, **named: Any) -> bool:
        return not _is_passed.get() and method(*arguments, **named)

    return is_cached
