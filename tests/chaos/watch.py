# SPDX-License-Identifier: Apache-2.0
"""Watches from outside, while the faults strike, for what no later rest could make good."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil
from keystoneauth1.session import Session

from tests.chaos.observation import Image, NotSeen, all_images
from tests.functional.cloud import writers_of
from tests.lab.faults import FaultyTarget
from tests.lab.glance import Glance
from tests.lab.process import accepts_connections
from tests.lab.webserver_base import WebServer

_INTERVAL_SECONDS = 1.0
_SECOND_LOOK_SECONDS = 1.0
MOST_WRITER_BYTES = 256 << 20
_DELETED = re.compile(r"^DELETE \S+/(?P<name>[^/ ]+) 2\d\d$", re.MULTILINE)
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class Watch:
    """Sees objects that are deleted while locations name them, and writers that grow.

    A location that still stands when its object has been deleted was not removed before, as it
    must be. The targets' own logs tell of the deletes.

    :param session: of an administrator
    :param report: is told of what was seen, once each; called by a thread of the watch
    """

    def __init__(
        self,
        nodes: Sequence[Glance],
        targets: Iterable[WebServer | FaultyTarget],
        session: Session,
        report: Callable[[str], None],
    ) -> None:
        self._nodes = nodes
        self._session = session
        self._report = report
        self._logs = {
            target.url: _Log(target.server if isinstance(target, FaultyTarget) else target)
            for target in targets
        }
        self._deleted: set[str] = set()
        self._grown: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Look once at what was deleted since the last time, and at the writers."""
        for writer in self._large_writers():
            self._report(writer)
        for url, log in self._logs.items():
            self._deleted |= {url + name for name in log.new_deletes()}
        if not self._deleted:
            return
        try:
            named = self._named()
            if named:
                # A node may show for a moment what another one has changed already.
                time.sleep(_SECOND_LOOK_SECONDS)
                named &= self._named()
        except NotSeen:
            return
        for image_id, location in sorted(named):
            self._report(f"image {image_id}: {location} was deleted while it was a location")
        self._deleted.clear()

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL_SECONDS):
            self.look()

    def _named(self) -> set[tuple[str, str]]:
        """Living images and locations of theirs of which the object was deleted."""
        return {
            (image.image_id, location)
            for image in self._images()
            if image.has_data
            for location in image.locations
            if location in self._deleted
        }

    def _images(self) -> Iterator[Image]:
        """Those of Glance, from any node that is there.

        :raises NotSeen:
        """
        for node in self._nodes:
            if accepts_connections(node.port):
                return iter(list(all_images(self._session, node.url)))
        raise NotSeen("no node runs")

    def _large_writers(self) -> Iterator[str]:
        for node in self._nodes:
            for writer in writers_of(node):
                peak = _peak_bytes(writer)
                if peak > MOST_WRITER_BYTES and writer.pid not in self._grown:
                    self._grown.add(writer.pid)
                    yield f"the writer, process {writer.pid}, took {peak >> 20} MiB of memory"


class _Log:
    """What comes to an access log."""

    def __init__(self, server: WebServer) -> None:
        self._path = server.access_log
        self._offset = 0

    def new_deletes(self) -> list[str]:
        """Names of objects, of whole lines since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        return _DELETED.findall(text.decode(errors="replace"))


def _peak_bytes(process: psutil.Process) -> int:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    found = _PEAK.search(status)
    return int(found[1]) << 10 if found else 0
