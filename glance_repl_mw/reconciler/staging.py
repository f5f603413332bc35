"""Staged bytes in the spool: used if the import has made an image of just these bytes."""

from __future__ import annotations

from oslo_log import log

from glance_repl_mw.answers import is_same_id
from glance_repl_mw.content import ImageDigest
from glance_repl_mw.model import Image
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.upload import Upload, UploadState

LOG = log.getLogger(__name__)


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
        if is_same_id(upload.image_id, image_id)
        and (
            upload.state is UploadState.STAGED
            or (upload.state is UploadState.STAGING and tools.spool.is_abandoned(upload))
        )
    ]


def _has_the_bytes(tools: Tools, upload: Upload, image: Image) -> bool:
    if tools.spool.received_bytes(upload.upload_id) != image.size:
        return False
    digest = ImageDigest.of(image)
    with tools.spool.data_path(upload.upload_id).open("rb") as file:
        return digest.matches(digest.of_file(file))
