# SPDX-License-Identifier: Apache-2.0
"""Objects at a target that no image accounts for.

Objects of ours are named IMAGE.TARGET.UPLOAD.ATTEMPT, while they are written perhaps with a
suffix; what is named for another target is foreign. Each name is in a row before an object bears
it, so that a search which lists the objects first and reads the rows afterwards never takes an
object for an orphan that an upload or a fetch is just writing. That holds for the writers of all
nodes, as nodes that share a target share one database.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import zlib
from collections.abc import Collection, Iterator, Sequence

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image, Replica, ReplicaStatus, Wish
from glance_repl_mw.reconciler.deletion_guard import delete_objects
from glance_repl_mw.reconciler.tasks import Task
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.replicas.deletion import Cause
from glance_repl_mw.replicas.name import ObjectName
from glance_repl_mw.targets.base import Target
from glance_repl_mw.targets.guarded import MARKER
from glance_repl_mw.targets.http import PARTIAL
from glance_repl_mw.targets.httpprobe import PREFIX as PROBE_PREFIX

LOG = log.getLogger(__name__)

_IMAGES_PER_REQUEST = 50
_FIRST_LOOK_SECONDS = 60.0
_NEVER_SECONDS = 3600.0
_MOST_SUSPECTS = 10_000
_UNDER_WAY = (ReplicaStatus.PENDING, ReplicaStatus.UPLOADING, ReplicaStatus.DELETING)


@dataclasses.dataclass(frozen=True)
class Orphan:
    """An object that no image accounts for.

    :ivar ours: it is named as our objects are; others are never deleted
    :ivar image_id: in the name of one of ours, None in that of a probe
    """

    name: str
    ours: bool
    image_id: str | None = None


@dataclasses.dataclass(frozen=True)
class _Object:
    """An object named as ours are.

    :ivar stem: the name without the suffix of what is being written
    """

    name: str
    stem: str
    image_id: str
    upload_id: str


def find_orphans(tools: Tools, target: Target) -> Iterator[Orphan]:
    """The objects at the target that neither a row, a location nor the spool accounts for.

    Blocks; asks the database, and Glance only about those that have no row.

    :raises TargetUnavailable:
    :raises TargetRefused: also where the target cannot list
    :raises GlanceUnavailable: it is not known whether a location names an object
    :raises GlanceRefused: likewise
    :raises oslo_db.exception.DBError:
    :raises Stopping: the writer ends
    """
    # Not all at once: who lists without an end would fill the memory.
    names = iter(target.list())
    while page := list(itertools.islice(names, _IMAGES_PER_REQUEST)):
        tools.rest(0)
        parsed = {name: _parsed(name, target.name) for name in page}
        ours = [each for each in parsed.values() if each is not None]
        accounted = _accounted_for(tools, target, ours)
        for name, each in parsed.items():
            if each is not None and name not in accounted:
                yield Orphan(name, True, each.image_id)
            elif each is None and name != MARKER:
                yield Orphan(name, ours=name.startswith(PROBE_PREFIX))


def delete_orphan(
    tools: Tools, target: Target, orphan: Orphan, *, is_demanded: bool = False
) -> str:
    """Delete an object of ours, with what an unfinished ``put`` of its name left, if it may go.

    :param is_demanded: an operator asks for it
    :returns: why it stays; empty where it is deleted
    :raises TargetUnavailable:
    :raises TargetRefused:
    :raises oslo_db.exception.DBError:
    """
    assert orphan.ours
    name = orphan.name.removesuffix(PARTIAL)
    if orphan.image_id is None:
        target.delete(name)
        return ""
    cause = Cause.DEMANDED if is_demanded else Cause.ORPHAN
    seen = tools.guard.look(orphan.image_id, is_demanded=is_demanded)
    return "".join(delete_objects(tools.guard, seen, target, [name], cause).values())


class OrphanSweep(Task):
    """Deletes what is found to be an orphan in two looks in a row at one target.

    Each of them has to pass the argument of all deletions; see ``deletion_guard``.
    """

    def __init__(self, tools: Tools, target: str) -> None:
        super().__init__(tools)
        self.name = f"search for orphans at target {target}"
        self._target = tools.targets[target]
        self._interval: float = tools.conf.replication.orphan_interval_seconds
        # One node looks at each target, whichever has the images that this begins like.
        self._key = f"{zlib.crc32(target.encode()):08x}"
        self._suspects: set[str] = set()
        self._is_first_look = True
        self._problem: str | None = None

    def run_once(self) -> float:
        if not self._interval:
            return _NEVER_SECONDS
        if self._is_first_look:
            self._is_first_look = False
            return min(self._interval, _FIRST_LOOK_SECONDS)
        if self._may_look():
            try:
                self._look()
                self._problem = None
            except exceptions.TargetError as error:
                self._tell(error)
        return self._interval

    def _tell(self, error: exceptions.TargetError) -> None:
        """Once: that a target cannot list its objects does not change by itself."""
        if str(error) != self._problem:
            LOG.warning("Orphans are not looked for now: %s", error)
        self._problem = str(error)

    def _may_look(self) -> bool:
        is_removed = self.tools.wishes.all().get(self._target.name) is Wish.REMOVE
        is_up = self.tools.health[self._target.name].is_up
        return is_up and not is_removed and self.tools.nodes.looks_after(self._key)

    def _look(self) -> None:
        before, self._suspects = self._suspects, set()
        again = []
        for orphan in find_orphans(self.tools, self._target):
            if orphan.ours and len(self._suspects) < _MOST_SUSPECTS:
                self._suspects.add(orphan.name)
                if orphan.name in before:
                    again.append(orphan)
        kept: dict[str, int] = {}
        for orphan in again:
            self.tools.rest(0)
            why = delete_orphan(self.tools, self._target, orphan)
            if why:
                kept[why] = kept.get(why, 0) + 1
            else:
                LOG.info("Target %s: deleted the orphan %s", self._target.name, orphan.name)
        for why, number in kept.items():
            LOG.info("Target %s: %s orphans are kept: %s", self._target.name, number, why)


def _parsed(name: str, target: str) -> _Object | None:
    """What the name of an object tells, None where the object is not the target's own."""
    stem = name.removesuffix(PARTIAL)
    found = ObjectName.parse(stem)
    if found is None or not found.may_be_at(target):
        return None
    return _Object(name, stem, found.image_id, found.upload_id)


def _accounted_for(tools: Tools, target: Target, objects: Sequence[_Object]) -> set[str]:
    """The names of those that a row, the spool or a location accounts for."""
    rows = tools.survey.of_images({each.image_id for each in objects})
    unknown = []
    for each in objects:
        mine = [row for row in rows.get(each.image_id, ()) if row.target == target.name]
        if not _is_known(each, mine) and not tools.is_spooled(each.upload_id):
            unknown.append(each)
    images = _images(tools, {each.image_id for each in unknown})
    orphans = {
        each.name
        for each in unknown
        if each.image_id not in images or not _is_location(each, target, images[each.image_id])
    }
    return {each.name for each in objects} - orphans


def _images(tools: Tools, image_ids: Collection[str]) -> dict[str, Image]:
    """Glance's records; it is asked once more about each that it does not list."""
    found = tools.images.find(list(image_ids))
    for image_id in image_ids:
        if image_id not in found:
            with contextlib.suppress(exceptions.ImageGone):
                found[image_id] = tools.images.get(image_id)
    return found


def _is_known(each: _Object, rows: Sequence[Replica]) -> bool:
    """Whether one of the rows of the image at the target accounts for the object.

    While an upload is under way, or what it left is being deleted, that is true of the objects
    of all its attempts.
    """
    return any(
        row.status is not ReplicaStatus.DELETED
        and (
            each.stem in row.object_names
            or (row.upload_id == each.upload_id and row.status in _UNDER_WAY)
        )
        for row in rows
    )


def _is_location(each: _Object, target: Target, image: Image) -> bool:
    return any(target.object_name(url) == each.stem for url in image.locations)
