# SPDX-License-Identifier: Apache-2.0
"""Staged bytes in the spool: used if the import has made an image of just these bytes."""

from __future__ import annotations

import datetime

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw.answers import is_same_id
from glance_repl_mw.content import ImageDigest
from glance_repl_mw.model import Image
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.upload import Upload, UploadState

LOG = log.getLogger(__name__)

# Who looks at an import that this node knows of has seen its end by then.
_ENDED_LONG_AGO = datetime.timedelta(seconds=60)


def settle(tools: Tools, image: Image) -> None:
    """The import has ended: accept the staged bytes, or drop them if the image has others.

    What is dropped is read from Glance later.

    :raises OSError:
    """
    for upload in _staged(tools, image.image_id):
        if image.has_data and _has_the_bytes(tools, upload, image):
            tools.spool.settle(upload, UploadState.ACCEPTED)
        else:
            LOG.info("Image %s: the import has changed the staged bytes", image.image_id)
            tools.spool.remove(upload.upload_id)


def drop(tools: Tools, image_id: str) -> None:
    """Nothing comes of the staged bytes of an image.

    :raises OSError:
    """
    for upload in _staged(tools, image_id):
        tools.spool.remove(upload.upload_id)


def _staged(tools: Tools, image_id: str) -> list[Upload]:
    """The image's staged uploads, and those whose process died while it staged them."""
    return [
        upload
        for upload in tools.spool.uploads()
        if is_same_id(upload.image_id, image_id) and tools.spool.awaits_import(upload)
    ]


def _has_the_bytes(tools: Tools, upload: Upload, image: Image) -> bool:
    if tools.spool.received_bytes(upload.upload_id) != image.size:
        return False
    digest = ImageDigest.of(image)
    with tools.spool.data_path(upload.upload_id).open("rb") as file:
        return digest.matches(digest.of_file(file))


class ForgottenStaging:
    """Finds staged bytes that nobody looks after, in one pass over all images of Glance.

    So they are where another node has imported or deleted the image, and where a process died
    while it staged. This node's spool holds them, whichever node looks after the image. Glance is
    asked for nothing: what is to be settled is noted.

    :raises OSError: as each of its calls
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        staged = [upload for upload in tools.spool.uploads() if upload.is_staged]
        # By ids without capitals, which may be those of the request that staged.
        self._unseen = {upload.image_id.lower(): upload.image_id for upload in staged}

    def see(self, image: Image) -> None:
        """Glance has the image: what is left of its staging is used or goes."""
        image_id = self._unseen.pop(image.image_id.lower(), None)
        if image_id is None:
            return
        if not image.has_data:
            self._drop_abandoned(image_id)
        elif image.updated_at is None or image.updated_at < timeutils.utcnow() - _ENDED_LONG_AGO:
            self._tools.spool.note(image_id)

    def end(self) -> None:
        """Glance has listed all of its images."""
        for image_id in self._unseen.values():
            self._tools.spool.note(image_id)

    def _drop_abandoned(self, image_id: str) -> None:
        """What is not whole is of no use to an import that comes later."""
        spool = self._tools.spool
        for upload in _staged(self._tools, image_id):
            if upload.state is UploadState.STAGING:
                LOG.warning("Image %s: the process that staged it has died", image_id)
                spool.remove(upload.upload_id)
