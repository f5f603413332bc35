# SPDX-License-Identifier: Apache-2.0
"""Goes through all images of Glance without holding more than a page of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from glance_repl_mw import exceptions
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Image

_PAGE = 100


def pages(images: ImageService) -> Iterator[Sequence[Image]]:
    """All images of all projects, page by page, the hidden ones last.

    :raises GlanceUnavailable: also where Glance's list leads in a circle
    :raises GlanceRefused: also where all images of a page were deleted before the next was read
    """
    for hidden in (False, True):
        page: Sequence[Image] = images.page(None, _PAGE, hidden=hidden)
        # In a circle, one image that is kept in mind, ever more rarely another one, comes again.
        number, kept, known = 0, 1, ""
        while page:
            yield page
            number += 1
            if number == kept:
                known, kept = page[-1].image_id, 2 * kept
            page = _next(images, page, hidden)
            if any(image.image_id == known for image in page):
                hint = "Glance's list of images leads in a circle"
                raise exceptions.GlanceUnavailable(known, None, "list images", hint)


def _next(images: ImageService, page: Sequence[Image], hidden: bool) -> Sequence[Image]:
    """The page that follows the last image that is still there."""
    for image in reversed(page):
        try:
            return images.page(image.image_id, _PAGE, hidden=hidden)
        except (exceptions.ImageGone, exceptions.GlanceRefused) as error:
            problem = error
    raise exceptions.GlanceRefused(None, None, "list images", problem.hint)
