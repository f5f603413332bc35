# SPDX-License-Identifier: Apache-2.0
"""The nodes that share a database, and which images each looks after."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import threading
import uuid
from collections.abc import Collection

from glance_repl_mw.model import SHARE_LETTERS

NODE_FILE = "node"


def node_name(spool: pathlib.Path) -> str:
    """The name of the node that this spool belongs to, made when it is first asked for.

    It outlives restarts and another host name, so that a node knows its rows again.

    :raises OSError: the spool cannot be written
    """
    path = spool / NODE_FILE
    with contextlib.suppress(FileNotFoundError):
        if name := path.read_text().strip():
            return name
    host = socket.gethostname().partition(".")[0][:40]
    temporary = spool / f"{uuid.uuid4().hex}.tmp"
    with temporary.open("w") as file:
        file.write(f"{host}-{uuid.uuid4().hex[:12]}")
        file.flush()
        # Else a crash of the machine may leave an empty name.
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
    return path.read_text()


class Nodes:
    """A node that is alone, and looks after all images.

    May be used from any thread; nothing blocks.

    :ivar name: of this node
    :ivar is_alone: no other node shares the database
    """

    is_alone = True

    def __init__(self, name: str = "") -> None:
        self.name = name

    @property
    def alive(self) -> Collection[str] | None:
        """The names of the nodes whose writers live, None while that is not known."""
        return {self.name}

    def share(self) -> Collection[str] | None:
        """How the ids of the images begin that are this node's; None for all.

        Empty while the other nodes are not known: they look after all.
        """
        return None

    def looks_after(self, key: str) -> bool:
        """Whether what has this id, as an image, is this node's to look after."""
        share = self.share()
        return share is None or key[:SHARE_LETTERS].lower() in share

    def start(self, stopping: threading.Event) -> None:
        """Join the other nodes, and keep looking who they are until ``stopping`` is set."""
