# SPDX-License-Identifier: Apache-2.0
"""Keeps the signatures of locations good."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_log import log

from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.signing import without_signatures
from glance_repl_mw.targets.base import Target

LOG = log.getLogger(__name__)

_REST_SECONDS = 0.05


def renew(tools: Tools, image: Image, rows: Sequence[Replica]) -> bool:
    """Replace locations whose signature ends soon or is not what the options say now.

    Of two locations that differ in their signatures only, one goes. Those of a target that is not
    known to be up come later, as Glance looks at a new location before it takes it. Returns
    whether that may be soon.

    :param rows: all rows of the image
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    :raises Stopping: the writer ends
    """
    if image.status != "active":
        return False
    replaced: dict[str, str] = {}
    look_again = False
    for row in rows:
        if row.status is not ReplicaStatus.ACTIVE or row.target not in tools.targets:
            continue
        stale = _replaced(tools.targets[row.target], image, row)
        health = tools.health[row.target]
        if health.is_proven_up:
            replaced |= stale
        elif stale:
            look_again |= health.is_up
    if replaced:
        tools.images.replace_locations(image.image_id, replaced)
        LOG.info("Image %s: %s locations have a new signature", image.image_id, len(replaced))
        tools.rest(_REST_SECONDS)
    return look_again


def _replaced(target: Target, image: Image, row: Replica) -> dict[str, str]:
    """The URL that is to be there instead, by each that is to go."""
    found = [url for url in image.given_locations if without_signatures(url) == row.location_url]
    wanted = {url: target.location(url) for url in found}
    good = [url for url in found if wanted[url] == url]
    return {url: good[0] if good else wanted[found[0]] for url in found if url not in good[:1]}
