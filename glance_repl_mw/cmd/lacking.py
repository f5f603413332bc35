# SPDX-License-Identifier: Apache-2.0
"""Which images a target lacks, as several subcommands count and plan them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from glance_repl_mw.choice import Choice
from glance_repl_mw.cmd.records import Records
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.pages import pages
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Upload, UploadState
from glance_repl_mw.targets.base import Target


@dataclasses.dataclass
class Search:
    """Compares images of Glance with the replicas of one target, and counts those left out.

    :ivar on_demand: a lazy target is to have them as well
    :ivar withheld: images so far that shall not come back to the target
    :ivar unwanted: images so far that ``replicate_if`` or their own property keeps from it
    :ivar coming: images so far whose upload is in the spool and goes to the target by itself
    """

    records: Records
    spool: Spool
    target: Target
    choice: Choice
    on_demand: bool = True
    withheld: int = 0
    unwanted: int = 0
    coming: int = 0

    def of_page(self, page: Sequence[Image]) -> Iterator[Image]:
        """Those of these images that have data, but no replica at the target.

        :raises OSError: the spool cannot be read
        :raises oslo_db.exception.DBError:
        """
        uploads = self.spool.uploads()
        rows = self.records.survey.of_images([image.image_id for image in page])
        for image in page:
            if image.has_data and image.size:
                mine = [upload for upload in uploads if upload.image_id == image.image_id]
                yield from self._if_lacking(image, rows.get(image.image_id, ()), mine)

    def _if_lacking(
        self, image: Image, rows: Sequence[Replica], uploads: Iterable[Upload]
    ) -> Iterator[Image]:
        closed = [row for row in rows if row.target == self.target.name]
        if any(row.status is not ReplicaStatus.DELETED for row in closed):
            return
        if any(row.withheld for row in closed):
            self.withheld += 1
            return
        known = {row.location_url for row in closed}
        if any(url not in known and self.target.object_name(url) for url in image.locations):
            return
        if not closed and any(self._serves(upload, image) for upload in uploads):
            self.coming += 1
        elif self.choice.verdict(image, self.target.name, on_demand=self.on_demand).wanted:
            yield image
        else:
            self.unwanted += 1

    def _serves(self, upload: Upload, image: Image) -> bool:
        """Whether the writer makes the replica of what it has of the image in the spool."""
        if upload.is_provisional or upload.error or upload.state is UploadState.REJECTED:
            return False
        if upload.targets is not None:
            return self.target.name in upload.targets
        return bool(self.choice.verdict(image, self.target.name).wanted)


def lacking(images: ImageService, searches: Sequence[Search]) -> Iterator[tuple[Search, Image]]:
    """What is lacking anywhere, oldest images first; goes once through all images.

    :raises GlanceUnavailable:
    :raises GlanceRefused:
    :raises OSError: the spool cannot be read
    :raises oslo_db.exception.DBError:
    """
    for page in pages(images):
        for search in searches:
            for image in search.of_page(page):
                yield search, image
