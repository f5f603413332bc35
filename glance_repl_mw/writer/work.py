# SPDX-License-Identifier: Apache-2.0
"""What the pool for Glance does: each function blocks, and says by its error what went wrong."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import NoReturn

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.content import ImageDigest
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Image
from glance_repl_mw.reconciler.deletion_guard import DeletionGuard
from glance_repl_mw.spool.upload import Upload

LOG = log.getLogger(__name__)


def look_up(images: ImageService, guard: DeletionGuard, image_id: str) -> Image | None:
    """Glance's record of an image, None where it is gone as far as anybody can know.

    :raises ImageGone: Glance does not show it, which is a claim: the hint tells what it lacks
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    :raises oslo_db.exception.DBError:
    """
    try:
        return images.get(image_id)
    except exceptions.ImageGone as error:
        seen = guard.look(image_id)
        if seen.record is None and not seen.is_gone:
            raise exceptions.ImageGone(image_id, None, error.operation, seen.doubt) from error
        return seen.record


def prove(
    images: ImageService, upload: Upload, hashed: Mapping[str, str | None], path: pathlib.Path
) -> Image:
    """Compare the spooled bytes with Glance's own record; returns that, as far as it is known.

    Where Glance has an ``os_hash_value`` that agrees, its ``checksum`` does so too; it is computed
    and compared only where there is nothing else that can be computed here.

    :param hashed: the hex digest of the spooled bytes by its algorithm, None if it failed
    :raises SpoolCorrupt: they are not the bytes that Glance has
    :raises ImageGone: the image was deleted
    :raises ImageHasOtherId:
    :raises ImageNotActive:
    :raises GlanceUnavailable: Glance cannot be asked
    :raises GlanceRefused:
    :raises OSError: the spool file cannot be read
    """
    image = _known(upload) or images.get(upload.image_id)
    if image.image_id != upload.image_id:
        # Some databases find it whatever capitals one asks with; rows under two ids would be two.
        hint = f"Glance has it as {image.image_id}, under which it is replicated"
        raise exceptions.ImageHasOtherId(upload.image_id, None, "prove", hint)
    if not image.has_data:
        raise exceptions.ImageNotActive(
            upload.image_id, None, "prove", f"the image is {image.status}, not active"
        )
    if image.size is None:
        raise exceptions.GlanceUnavailable(
            upload.image_id, None, "prove", "Glance does not tell the image's size"
        )
    if image.size != upload.received:
        _corrupt(image, "size", upload.received, image.size)
    digest = ImageDigest.of(image)
    if digest.is_weak:
        LOG.warning("Image %s has no hash: only its size proves its bytes", image.image_id)
    else:
        algorithm = digest.algorithm
        found = hashed[algorithm] if algorithm in hashed else _digest(path, digest)
        if found is None or not digest.matches(found):
            _corrupt(image, algorithm, found, digest.value)
    return image


def _known(upload: Upload) -> Image | None:
    """The image as the reconciler knew it when it fetched the bytes; active data never changes."""
    if upload.known_image is None:
        return None
    return Image(**upload.known_image, image_id=upload.image_id, status="active", locations=())


def _digest(path: pathlib.Path, digest: ImageDigest) -> str:
    with path.open("rb") as file:
        return digest.of_file(file)


def _corrupt(image: Image, what: str, ours: object, theirs: object) -> NoReturn:
    # A user may have given the hash, with a location.
    hint = f"the {what} of the spooled bytes is {ours}, Glance has {printable(str(theirs))}"
    raise exceptions.SpoolCorrupt(image.image_id, None, "prove", hint)


def register(
    images: ImageService, image_id: str, urls: Sequence[str]
) -> dict[str, exceptions.ReplicationError | None]:
    """Add locations in one request, whose answer tells what Glance has stored.

    Returns for each URL what stands in its way, None where it is a location now. Where Glance
    refuses them together, those that are missing are added one by one, so that one that Glance
    cannot accept does not hold up the others.

    :raises ImageGone:
    :raises GlanceUnavailable:
    """
    refusals: dict[str, exceptions.ReplicationError] = {}
    try:
        present = images.add_locations(image_id, urls).locations
    except exceptions.GlanceRefused as refusal:
        present = images.get(image_id).locations
        for url in (url for url in urls if url not in present):
            refusals[url] = refusal
            if len(urls) > 1:
                _add_one(images, image_id, url, refusals)
        present = images.get(image_id).locations
    lost = exceptions.GlanceUnavailable(
        image_id, None, "add locations", "another request dropped it"
    )
    return {url: None if url in present else refusals.get(url, lost) for url in urls}


def _add_one(
    images: ImageService,
    image_id: str,
    url: str,
    refusals: dict[str, exceptions.ReplicationError],
) -> None:
    try:
        images.add_locations(image_id, [url])
        del refusals[url]
    except (exceptions.GlanceRefused, exceptions.GlanceUnavailable) as error:
        refusals[url] = error


def heal(
    images: ImageService, wanted: Mapping[str, Sequence[str]]
) -> dict[str, exceptions.ReplicationError | None]:
    """See that images have their locations, and add those that are missing again.

    One request for all images, and a few more for each that lacks something.

    :param wanted: URLs by image id
    :returns: for each URL what stands in its way, None where it is a location now
    :raises GlanceUnavailable:
    """
    found = images.find(list(wanted))
    outcomes: dict[str, exceptions.ReplicationError | None] = {}
    for image_id, urls in wanted.items():
        present = found[image_id].locations if image_id in found else ()
        outcomes.update(dict.fromkeys(urls))
        missing = [url for url in urls if url not in present]
        if missing:
            outcomes.update(_register_again(images, image_id, missing))
    return outcomes


def _register_again(
    images: ImageService, image_id: str, urls: Sequence[str]
) -> Mapping[str, exceptions.ReplicationError | None]:
    try:
        present = images.get(image_id).locations
        missing = [url for url in urls if url not in present]
        return register(images, image_id, missing) if missing else {}
    except exceptions.ReplicationError as error:
        return dict.fromkeys(urls, error)
