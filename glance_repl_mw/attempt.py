# SPDX-License-Identifier: Apache-2.0
"""One upload as the filter sees it, from the first byte that Glance reads to Glance's answer."""

from __future__ import annotations

from oslo_log import log

from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.behind import WriteBehind
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin

LOG = log.getLogger(__name__)


class Attempt:
    """One upload attempt; spooled from the first byte that Glance reads, owned by its request.

    Whatever fails in the spool is logged and ends the spooling; nothing is raised.

    :param size: announced bytes, None where unknown
    :param origin: whether the bytes are uploaded, or staged for an import
    """

    def __init__(
        self, spool: Spool, image_id: str, size: int | None, origin: Origin = Origin.UPLOAD
    ) -> None:
        self._spool = spool
        self._image_id = image_id
        self._size = size
        self._origin = origin
        self._appender: WriteBehind | None = None
        self._failure: str | None = None

    @property
    def upload_id(self) -> str | None:
        """Under which name the spool holds the bytes, None before the first one."""
        return self._appender.upload_id if self._appender is not None else None

    def append(self, data: bytes) -> None:
        """Write what Glance has read."""
        if self._failure is not None:
            return
        try:
            if self._appender is None:
                self._appender = self._open(self._size)
            self._appender.append(data)
        except Exception as error:
            self._fail(error)

    def accept(self) -> str | None:
        """Record that Glance has the bytes; returns why the spool does not hold them, if so."""
        if self._failure is None:
            try:
                if self._appender is None:
                    self._appender = self._open(0)
                self._appender.accept()
            except Exception as error:
                self._fail(error)
        return self._failure

    def reject(self) -> None:
        """Record that Glance does not have these bytes."""
        if self._appender is None or self._failure is not None:
            return
        try:
            self._appender.reject()
        except Exception as error:
            LOG.warning("Image %s: a refused upload stays in the spool: %s", self._image_id, error)

    def _open(self, size: int | None) -> WriteBehind:
        return WriteBehind(Appender(self._spool, self._image_id, size, self._origin))

    def _fail(self, error: Exception) -> None:
        self._failure = f"the upload could not be spooled: {error}"
        LOG.error("Image %s: %s", self._image_id, self._failure)
        if self._appender is None:
            return
        try:
            self._appender.reject(self._failure)
        except Exception as another:
            LOG.warning("Image %s: a broken spool file stays: %s", self._image_id, another)
