# SPDX-License-Identifier: Apache-2.0
"""Reads an image that Glance has into the spool.

From there the writer makes replicas of it as of any upload, and proves the bytes once more.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image, Replica
from glance_repl_mw.reconciler.reading import Reading
from glance_repl_mw.reconciler.sources import Sources
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.appender import Appender

LOG = log.getLogger(__name__)

_KNOWN = ("size", "checksum", "os_hash_algo", "os_hash_value")


@dataclasses.dataclass(frozen=True)
class Fetched:
    """What a fetch has come to besides the upload in the spool.

    :ivar suspects: replicas that did not give the image's bytes
    :ivar begin_again_after: the upload that was rejected although sources are left that may have
        the bytes; the writer lets go of its rows first
    """

    suspects: Sequence[Replica] = ()
    begin_again_after: str | None = None


def fetch(
    tools: Tools,
    image: Image,
    rows: Sequence[Replica],
    waiting: Sequence[Replica],
    reading: Reading | None = None,
    *,
    held_back: bool = False,
) -> Fetched:
    """Read the image into the spool for ``waiting``; the writer follows it meanwhile.

    Where no source gives it, the writer finds the upload rejected and plans the next attempt. What
    a wrong source has given may be at targets already: so another attempt is another upload.

    :param rows: all rows of the image
    :param reading: sees how fast the bytes come
    :param held_back: no target gets any of them before all are there
    :raises SpoolFull: there is no room now; nothing has changed
    :raises OSError: the spool cannot be written
    :raises oslo_db.exception.DBError:
    :raises Stopping: the writer ends; the next one begins again
    """
    tools.spool.require_room(image.size or 0)
    upload_id = uuid.uuid4().hex
    targets = tools.survey.assign(waiting, upload_id)
    if not targets:
        return Fetched()
    sources = Sources(tools, image, rows, reading)
    known = {name: getattr(image, name) for name in _KNOWN}
    appender = Appender(
        tools.spool,
        image.image_id,
        image.size,
        sources.origin,
        upload_id,
        targets,
        known,
        held_back=held_back,
    )
    return _read(sources, appender)


def _read(sources: Sources, appender: Appender) -> Fetched:
    """Bring the bytes of the sources into the spool, to the end or to a rejection."""
    try:
        for block in sources.blocks():
            appender.append(block)
    except exceptions.SourceFailed as error:
        LOG.warning("An image cannot be fetched: %s", error)
        appender.reject(str(error))
        again = appender.upload_id if error.others_are_left else None
        return Fetched(tuple(sources.suspects), again)
    except BaseException as error:
        appender.reject(f"the fetch was broken off: {error or type(error).__name__}")
        raise
    appender.accept()
    return Fetched(tuple(sources.suspects))
