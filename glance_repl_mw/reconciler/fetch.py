"""Reads an image that Glance has into the spool.

From there the writer makes replicas of it as of any upload, and proves the bytes once more.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image, Replica
from glance_repl_mw.reconciler.sources import Sources
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.appender import Appender

LOG = log.getLogger(__name__)

_KNOWN = ("size", "checksum", "os_hash_algo", "os_hash_value")


def fetch(tools: Tools, image: Image, rows: Sequence[Replica], waiting: Sequence[Replica]) -> None:
    """Read the image into the spool for ``waiting``; the writer follows it meanwhile.

    Where no source gives it, the writer finds the upload rejected and plans the next attempt.

    :param rows: all rows of the image
    :raises SpoolFull: there is no room now; nothing has changed
    :raises OSError: the spool cannot be written
    :raises oslo_db.exception.DBError:
    :raises Stopping: the writer ends; the next one begins again
    """
    tools.spool.require_room(image.size or 0)
    upload_id = uuid.uuid4().hex
    targets = tools.survey.assign(waiting, upload_id)
    if not targets:
        return
    sources = Sources(tools, image, rows)
    known = {name: getattr(image, name) for name in _KNOWN}
    appender = Appender(
        tools.spool, image.image_id, image.size, sources.origin, upload_id, targets, known
    )
    try:
        for block in sources.blocks():
            appender.append(block)
    except exceptions.SourceFailed as error:
        LOG.warning("Image %s cannot be fetched: %s", image.image_id, error)
        appender.reject(str(error))
    except BaseException as error:
        appender.reject(f"the fetch was broken off: {error or type(error).__name__}")
        raise
    else:
        appender.accept()
