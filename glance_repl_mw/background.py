# SPDX-License-Identifier: Apache-2.0
"""Calls that may hang, made for a caller who may not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_Result = TypeVar("_Result")


def in_background(call: Callable[[], _Result]) -> Future[_Result]:
    """Make the call in a thread of its own, which holds up nobody, not even the process's end."""
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="replication-background", daemon=True).start()
    return future
