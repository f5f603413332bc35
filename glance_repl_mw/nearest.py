# SPDX-License-Identifier: Apache-2.0
"""Has Glance read an image at a nearby location first, for one request at a time.

Glance reads the locations of an image by the weights of its stores, and all replicas belong to the
one store for HTTP. So the function of Glance that brings locations into order is wrapped: it puts
first what the request prefers. Requests that prefer nothing see Glance's own order.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from oslo_log import log

from glance_repl_mw.signing import without_signatures

LOG = log.getLogger(__name__)

_MODULE = "glance.common.utils"
_FUNCTION = "sort_image_locations"

_Location = Mapping[str, Any]
_Sort = Callable[[Sequence[_Location]], Sequence[_Location]]

_preferred: contextvars.ContextVar[str | None] = contextvars.ContextVar("preferred", default=None)


def wrap_glance() -> None:
    """Wrap the function of the Glance in this process, once; Glance 30 to 33 have it."""
    module = importlib.import_module(_MODULE)
    sort = getattr(module, _FUNCTION, None)
    if sort is None:
        LOG.warning("This Glance brings locations into order by itself: none is read first")
    elif not hasattr(sort, "__wrapped__"):
        setattr(module, _FUNCTION, _wrapped(sort))


@contextlib.contextmanager
def preferring(url: str | None) -> Iterator[None]:
    """Within this, the calling thread has Glance put the location of this plain URL first."""
    token = _preferred.set(url)
    try:
        yield
    finally:
        _preferred.reset(token)


def _wrapped(sort: _Sort) -> _Sort:
    @functools.wraps(sort)
    def sorted_locations(locations: Sequence[_Location]) -> Sequence[_Location]:
        found = sort(locations)
        preferred = _preferred.get()
        if preferred is None:
            return found
        return sorted(found, key=lambda each: without_signatures(each["url"]) != preferred)

    return sorted_locations
