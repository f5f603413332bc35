# SPDX-License-Identifier: Apache-2.0
"""Tells the requests that writers and commands send to Glance from those of everybody else.

Each carries a signature with a key that only those can make who know the service user's secret,
the same on all nodes. It counts for this one method and path, and for some minutes. Names in other
headers, such as ``User-Agent``, prove nothing. The service user's own hands, as with the
command-line client, are everybody else's too.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import os
import pathlib
import secrets
import time
from typing import Any

from oslo_config import cfg

from glance_repl_mw import credentials

HEADER = "X-Glance-Repl-Signature"
NO_CACHE = "no-cache"
"""What ``Cache-Control`` says in a request of ours that Glance's image cache must not answer."""

SECRET_FILE = "secret"
_VARIABLE = f"HTTP_{HEADER.upper().replace('-', '_')}"
_PURPOSE = b"glance-repl-mw: requests of its own"
# Slow to compute, so that a reader of one signature cannot try many passwords in a short time.
_ROUNDS = 100_000
# Clocks of nodes differ.
_VALID_SECONDS = 300


class OwnRequests:
    """Signs requests to Glance, and knows them again; may be used from any thread.

    Opens no connection. Without a secret of the service user, as where ``auth_type`` has none, the
    key is of this node alone, from a file in the spool; where that cannot be read either, no
    request is known again.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def headers(self, method: str, path: str) -> dict[str, str]:
        """What a request to this path of Glance carries."""
        with contextlib.suppress(OSError):
            return {HEADER: self._signature(method, path, str(int(time.time())))}
        return {}

    def recognise(self, environ: dict[str, Any]) -> bool:
        """Whether the request is one of ours; takes its signature away."""
        given = environ.pop(_VARIABLE, "")
        moment, _, _ = given.partition(".")
        if not (moment.isascii() and moment.isdigit() and len(moment) < 16):
            return False
        if abs(time.time() - int(moment)) > _VALID_SECONDS:
            return False
        with contextlib.suppress(OSError):
            path = environ.get("PATH_INFO", "")
            expected = self._signature(environ["REQUEST_METHOD"], path, moment)
            return hmac.compare_digest(given.encode(), expected.encode())
        return False

    def _signature(self, method: str, path: str, moment: str) -> str:
        """:raises OSError: there is no key"""
        text = f"{moment} {method} {path.partition('?')[0]}"
        return f"{moment}.{hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()}"

    @functools.cached_property
    def _key(self) -> bytes:
        """Made when it is first needed, which takes a moment."""
        return _key(
            "\0".join(credentials.secrets(self._conf) or [_secret_of_the_node(self._conf)])
        )


@functools.cache
def _key(material: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", material.encode(), _PURPOSE, _ROUNDS)


def _secret_of_the_node(conf: cfg.ConfigOpts) -> str:
    """Made when it is first asked for, readable by the user of Glance alone.

    :raises OSError: the spool cannot be read or written
    """
    path = pathlib.Path(conf.replication.spool_dir) / SECRET_FILE
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    temporary = path.with_name(f"{secrets.token_hex(16)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        # Else a crash of the machine may leave an empty one.
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
    return path.read_text()
