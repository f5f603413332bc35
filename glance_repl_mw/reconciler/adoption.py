"""Takes up replicas that are locations, but of which the rows do not tell.

So it is after a database was lost, refused writes, or was brought back from an older copy. What is
a location is never written again and never deleted: its size is looked at now, and as its row says
that it was never verified, all of its bytes are read back soon.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.replicas.name import upload_of

LOG = log.getLogger(__name__)

_DOWN = "it is known to be down, and is not asked"


def adopt(tools: Tools, image: Image, target: str, closed: Sequence[Replica]) -> bool:
    """Make a row of a replica that is a location and has none; returns whether there is one now.

    :param closed: all rows of the image at the target
    :raises TargetError: it is not known what a location names
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    :raises oslo_db.exception.DBError:
    """
    for url, name, upload_id in _found(tools, image, target, closed):
        tools.survey.adopt(
            image.image_id, target, upload_id, name, location_url=url, **_complete(image)
        )
        LOG.info("Image %s, target %s: took up %s", image.image_id, target, name)
        return True
    return False


def adopt_into(tools: Tools, image: Image, row: Replica, here: Collection[Replica]) -> bool:
    """Let the row tell of the location that the image has at its target; raises as ``adopt``.

    Returns whether it has one, so that there is nothing to be made.

    A row that knows its location knows what is wrong with it: that one is left alone.

    :param row: it is not active, or its own location is not there
    :param here: all rows of the image at the target
    """
    for url, name, _ in _found(tools, image, row.target, here):
        former = [each for each in row.object_names if each != name]
        values = {
            "object_name": name,
            "location_url": url,
            "former_objects": " ".join(former) or None,
            **_complete(image),
        }
        now: Replica | None = row
        if row.status not in (ReplicaStatus.STORED, ReplicaStatus.ACTIVE):
            now = tools.survey.change(row, ReplicaStatus.STORED, node=None, **values)
        if now is None or tools.survey.change(now, ReplicaStatus.ACTIVE, **values) is None:
            return True  # it has changed meanwhile, and is looked at again
        LOG.info("Image %s, target %s: took up %s", image.image_id, row.target, name)
        return True
    return False


def _found(
    tools: Tools, image: Image, target: str, known: Collection[Replica]
) -> Iterator[tuple[str, str, str]]:
    """URL, name and upload of each location of ours that is complete and that no row knows.

    Locations that name nothing, or something else, are removed.
    """
    urls = {row.location_url for row in known}
    for url in image.locations:
        name = tools.targets[target].object_name(url)
        upload_id = upload_of(image.image_id, target, name)
        if name is None or upload_id is None or url in urls:
            continue
        if _has_size(tools, target, name, image.size):
            yield url, name, upload_id
        else:
            what = "Image %s, target %s: removes the location of %s, which is not complete"
            LOG.warning(what, image.image_id, target, name)
            tools.images.remove_locations(image.image_id, [url])


def _has_size(tools: Tools, target: str, name: str, size: int | None) -> bool:
    health = tools.health[target]
    if not health.is_up:
        raise exceptions.TargetUnavailable(None, target, "adopt", _DOWN)
    try:
        stored = tools.targets[target].stat(name)
    except exceptions.TargetError as error:
        health.failed(error)
        raise
    return stored is not None and stored.size == size


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
