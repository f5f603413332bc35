# SPDX-License-Identifier: Apache-2.0
"""Packages that only some deployments need: an extra of this package brings each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from glance_repl_mw import exceptions, opts


@contextlib.contextmanager
def required_by(option: str, *extras: str) -> Iterator[None]:
    """Import inside of this what an option of ``[replication]`` needs.

    :param extras: those of which one brings it
    :raises ConfigError: it is not installed; names the option and the extras
    """
    try:
        yield
    except ImportError as error:
        choices = " or ".join(f"glance-repl-mw[{extra}]" for extra in extras)
        raise exceptions.ConfigError(
            operation="read configuration",
            hint=f"[{opts.GROUP}] {option}: {error.name} is not installed; install {choices}",
        ) from error
