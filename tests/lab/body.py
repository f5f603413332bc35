# SPDX-License-Identifier: Apache-2.0
"""An upload as a target driver sees it: a real file that grows, and readers that follow it."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from glance_repl_mw.exceptions import UploadCut

WAIT_SECONDS = 60


class Body:
    """A file that one thread appends to while drivers read it in others."""

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self.path = path
        self.changed = threading.Condition()
        self.size = 0
        self.complete = False
        self.is_cut = False
        self._file = path.open("wb", buffering=0)
        if content is not None:
            self.append(content)
            self.finish()

    def append(self, data: bytes) -> None:
        self._file.write(data)
        with self.changed:
            self.size += len(data)
            self.changed.notify_all()

    def finish(self) -> None:
        self._end("complete")

    def cut(self) -> None:
        self._end("is_cut")

    def reader(self) -> "BodyReader":
        return BodyReader(self)

    def _end(self, how: str) -> None:
        self._file.close()
        with self.changed:
            setattr(self, how, True)
            self.changed.notify_all()


class BodyReader:
    """A `Reader` for one driver call; to be closed, as a context manager or with close()."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._file = body.path.open("rb", buffering=0)
        self._offset = 0

    def __enter__(self) -> "BodyReader":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    @property
    def offset(self) -> int:
        return self._offset

    def fileno(self) -> int:
        return self._file.fileno()

    def wait(self) -> int:
        body = self._body
        self._until(lambda: body.is_cut or body.complete or body.size > self._offset)
        if body.is_cut:
            raise UploadCut(operation="read the spool", hint="cut by the test")
        return body.size - self._offset

    def read(self, size: int = -1) -> bytes:
        available = self.wait()
        wanted = available if size < 0 else min(size, available)
        data = os.pread(self.fileno(), wanted, self._offset)
        self.skip(len(data))
        return data

    def skip(self, count: int) -> None:
        with self._body.changed:
            self._offset += count
            self._body.changed.notify_all()

    def wait_for_offset(self, offset: int) -> None:
        """Block, in the test's thread, until the driver has read so far."""
        self._until(lambda: self._offset >= offset)

    def _until(self, condition: Callable[[], bool]) -> None:
        with self._body.changed:
            if not self._body.changed.wait_for(condition, WAIT_SECONDS):
                raise TimeoutError("the other side of the upload does nothing")
