# SPDX-License-Identifier: Apache-2.0
"""How an HTTP server is reached, and who we are there."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Access:
    """What is the same for all requests to one target.

    :ivar connections: how many kept connections are worth keeping
    :ivar authorization: value of the header, or None
    :ivar ca_file: PEM bundle; None for the one that requests brings
    :ivar certificate: the files of the client certificate and its key, or None
    :ivar secrets: what never appears in an error
    """

    connect_seconds: float
    stall_seconds: float
    connections: int
    authorization: str | None = dataclasses.field(default=None, repr=False)
    ca_file: str | None = None
    certificate: tuple[str, str] | None = None
    secrets: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    @property
    def is_anonymous(self) -> bool:
        """Whether the server sees no difference to somebody without any rights there."""
        return self.authorization is None and self.certificate is None
