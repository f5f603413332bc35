# SPDX-License-Identifier: Apache-2.0
"""Takes up replicas that are locations, but of which the rows do not tell.

So it is after a database was lost, refused writes, or was brought back from an older copy, and
where a location was added by a request whose end nobody saw. What is a location is never written
again and never deleted, unless it was found to be bad: its size is looked at now, and as its row
says that it was never verified, all of its bytes are read back soon.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from oslo_log import log

from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.asking import Asking
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.replicas.name import upload_of

LOG = log.getLogger(__name__)


class Adoption:
    """Makes rows tell of locations; used by any thread.

    A target that is down is not asked what it holds, and one that hangs costs one timeout.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._asking = Asking(tools.targets, tools.health)

    def adopt(self, image: Image, target: str, closed: Sequence[Replica]) -> bool:
        """Make a row of a replica that is a location and has none; returns whether there is one.

        :param closed: all rows of the image at the target
        :raises TargetError: it is not known what a location names
        :raises GlanceUnavailable:
        :raises GlanceRefused:
        :raises oslo_db.exception.DBError:
        """
        for url, name, upload_id in self._found(image, target, closed):
            self._tools.survey.adopt(
                image.image_id, target, upload_id, name, location_url=url, **_complete(image)
            )
            LOG.info("Image %s, target %s: took up %s", image.image_id, target, name)
            return True
        return False

    def adopt_into(self, image: Image, row: Replica, here: Collection[Replica]) -> bool:
        """Let the row tell of the location that the image has at its target; raises as ``adopt``.

        Returns whether it has one, so that there is nothing to be made. The row's own location
        counts, unless its object was found to be bad; those that other rows know are left alone.

        :param row: it is not active, or its own location is not there
        :param here: all rows of the image at the target
        """
        survey = self._tools.survey
        known = [each for each in here if each.id != row.id or not self._may_be_good(row)]
        for url, name, _ in self._found(image, row.target, known):
            former = [each for each in row.object_names if each != name]
            values = {
                "object_name": name,
                "location_url": url,
                "former_objects": " ".join(former) or None,
                **_complete(image),
            }
            now: Replica | None = row
            if row.status not in (ReplicaStatus.STORED, ReplicaStatus.ACTIVE):
                now = survey.change(row, ReplicaStatus.STORED, node=None, **values)
            if now is not None and survey.change(now, ReplicaStatus.ACTIVE, **values):
                LOG.info("Image %s, target %s: took up %s", image.image_id, row.target, name)
            # A row that has changed meanwhile is looked at again.
            return True
        return False

    def _may_be_good(self, row: Replica) -> bool:
        """Whether nothing is known against what the row's location names."""
        named = self._tools.targets[row.target].object_name(row.location_url or "")
        return named == row.object_name and not row.is_bad

    def _found(
        self, image: Image, target: str, known: Collection[Replica]
    ) -> Iterator[tuple[str, str, str]]:
        """URL, name and upload of each location of ours that is complete and that no row knows.

        Locations that name nothing, or something else, are removed.
        """
        urls = {row.location_url for row in known}
        for url in image.locations:
            name = self._tools.targets[target].object_name(url)
            upload_id = upload_of(image.image_id, target, name)
            if name is None or upload_id is None or url in urls:
                continue
            stored = self._asking.stat(target, name)
            if stored is not None and stored.size == image.size:
                yield url, name, upload_id
            else:
                what = "Image %s, target %s: removes the location of %s, which is not complete"
                LOG.warning(what, image.image_id, target, name)
                self._tools.images.remove_locations(image.image_id, [url])


def _complete(image: Image) -> dict[str, Any]:
    return {
        "size": image.size,
        "bytes_sent": image.size,
        "checksum": image.checksum,
        "attempts": 0,
        "error": None,
        "next_attempt_at": None,
        "verified_at": None,
        "read_back_at": None,
    }
