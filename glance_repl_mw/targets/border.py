# SPDX-License-Identifier: Apache-2.0
"""The border of a driver: whatever goes wrong behind it leaves as an error of ours.

A driver that derives from ``Bordered`` besides ``Target`` need not think of the errors that its
libraries raise on what no server should send: the core knows what a ``TargetError`` means, and
any other error would end the task that met it.
"""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.network_errors import explained

LOG = log.getLogger(__name__)

_METHODS = ("put", "stat", "open", "read", "delete", "list", "probe", "check")


class Bordered:
    """Makes the methods of a driver raise only ``ReplicationError``; goes before ``Target``.

    Any other exception becomes ``TargetUnavailable``, also one that an iterator raises which a
    method returns. What a reader raises by its contract passes ``put``: ``UploadCut``, and
    ``FileNotFoundError`` where the spool has lost its file.
    """

    name: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _METHODS:
            if name in vars(cls):
                setattr(cls, name, _bordered(name, vars(cls)[name]))


def _bordered(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def translated(self: Bordered, *args: Any, **kwargs: Any) -> Any:
        with _translating(self.name, name):
            result = method(self, *args, **kwargs)
        if isinstance(result, Iterator):
            return _iterated(self.name, name, result)
        return result

    return translated


def _iterated(target: str, operation: str, items: Iterator[Any]) -> Iterator[Any]:
    with _translating(target, operation):
        yield from items


@contextlib.contextmanager
def _translating(target: str, operation: str) -> Iterator[None]:
    try:
        yield
    except exceptions.ReplicationError:
        raise
    except Exception as error:
        if operation == "put" and isinstance(error, FileNotFoundError):
            raise
        # Without the error's own text, which a server may have written.
        where = "".join(traceback.format_tb(error.__traceback__))
        LOG.debug("Target %s: %s: %s\n%s", target, operation, type(error).__name__, where)
        hint = printable(explained(error, ""))
        raise exceptions.TargetUnavailable(
            target=target, operation=operation, hint=hint
        ) from error
