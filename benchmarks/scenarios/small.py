# SPDX-License-Identifier: Apache-2.0
"""Many small images by several clients at once, and the requests that each costs Glance."""

import dataclasses
import functools
import threading
import time
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import requests

from benchmarks.accounting import Account, Usage, medians
from benchmarks.figures import Figure, Goal, compare
from benchmarks.settings import Settings
from benchmarks.site import OCTETS, Site
from benchmarks.stage import Stage
from benchmarks.turns import alternate
from tests.lab.images import image_bytes

NAMES = ("small-images", "small-requests")
OURS, BARE = "with the filter", "bare Glance"
# The writer looks at new locations once more after five seconds: those requests count, too.
_SECOND_LOOK_SECONDS = 7


class Batch(NamedTuple):
    """Images that an ordinary user's clients have uploaded, each one after the other."""

    per_second: float
    requests_per_image: float
    usage: Usage


def run(stage: Stage, settings: Settings, wanted: Set[str]) -> Iterator[Figure]:
    body = image_bytes(settings.small_image)
    sites = {OURS: stage.ours, BARE: stage.bare}
    contenders = {
        name: functools.partial(batch, each, settings, body) for name, each in sites.items()
    }
    few = dataclasses.replace(settings, small_images_per_round=settings.small_clients)
    for each in sites.values():
        batch(each, few, body)
    # Batches are short, and differ more than long uploads do.
    rounds = 2 * settings.rounds
    samples = alternate(contenders, rounds)
    cpu = medians({name: [each.usage for each in found] for name, found in samples.items()})
    if "small-images" in wanted:
        rates = {name: [each.per_second for each in found] for name, found in samples.items()}
        total = settings.small_images_per_round * rounds
        what = (
            f"images of {settings.small_image >> 10} KiB per second, with the filter / bare Glance"
        )
        notes = (f"{total} uploads by {settings.small_clients} clients at once",)
        goal = Goal(0.90, at_least=True)
        yield compare("small-images", what, rates, OURS, BARE, goal, cpu_seconds=cpu, notes=notes)
    if "small-requests" in wanted:
        found = [batch(stage.ours, settings, body, second_look=True).requests_per_image]
        what = "requests to Glance for each small image, besides the upload"
        yield Figure("small-requests", what, max(found), goal=Goal(3), samples={OURS: found})


def batch(
    site: Site,
    settings: Settings,
    body: bytes,
    second_look: bool = False,
    meanwhile: AbstractContextManager[None] | None = None,
) -> Batch:
    """Upload one round's images; their records are made before, and all goes afterwards.

    :param second_look: count the requests until the writer has looked at the locations again
    :param meanwhile: what holds while the images are uploaded
    """
    number = settings.small_images_per_round
    image_ids = [site.create(token=site.users_token()) for _ in range(number)]
    asked = len(site.glance.requests())
    clients = Clients(site)
    with meanwhile or nullcontext(), ThreadPoolExecutor(settings.small_clients) as pool:
        account = Account(site.roles())
        began = time.monotonic()
        list(pool.map(functools.partial(clients.upload, body), image_ids))
        seconds = time.monotonic() - began
        usage = account.read()
    if site.cloud is not None:
        site.cloud.wait_settled()
        time.sleep(_SECOND_LOOK_SECONDS if second_look else 0)
    others = len(site.glance.requests()) - asked - number
    for image_id in image_ids:
        site.delete(image_id)
    if site.cloud is not None:
        site.cloud.wait_settled()
    return Batch(number / seconds, others / number, usage)


class Clients:
    """Each thread of a pool is a client with a connection of its own."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._headers = {
            "X-Auth-Token": site.users_token(),
            "Content-Type": OCTETS[1].split(": ")[1],
        }
        self._local = threading.local()

    def upload(self, body: bytes, image_id: str) -> None:
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
            self._local.http.trust_env = False
        url = f"{self._site.url(image_id)}/file"
        answer = self._local.http.put(url, data=body, headers=self._headers, timeout=600)
        answer.raise_for_status()
