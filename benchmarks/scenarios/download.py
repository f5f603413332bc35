# SPDX-License-Identifier: Apache-2.0
"""Downloads that fill the target of their own site on the way."""

import functools
import subprocess
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack

from benchmarks.bodies import Body, random_bytes
from benchmarks.figures import Figure, Goal, compare
from benchmarks.settings import Settings
from benchmarks.site import Site, timed
from benchmarks.stage import Stage
from benchmarks.turns import alternate

NAMES = ("download", "download-line")
_TARGET = "target-0"


def run(stage: Stage, settings: Settings, wanted: Set[str]) -> Iterator[Figure]:
    body = random_bytes(stage.top / "download.raw", settings.several_targets_image)
    notes = (f"an image of {body.size >> 20} MiB",)
    lazy = {_TARGET: {"mode": "lazy"}}
    options = {"replication": {"local_target": _TARGET}}
    with ExitStack() as stack:
        filling = stack.enter_context(stage.filtered(1, target_options=lazy, options=options))
        plain = stack.enter_context(stage.filtered(1, target_options=lazy))
        # The spool gives up a copy that holds the client up, as in memory that is used at first.
        for site in (filling, plain):
            _download(site, body, (), fills=False)
        clients = {
            "download": ((), ""),
            "download-line": (settings.line_curl, f", the client at {settings.line}"),
        }
        for name, (curl, at) in clients.items():
            if name in wanted:
                contenders = {
                    "filling": functools.partial(_download, filling, body, curl, fills=True),
                    "plain": functools.partial(_download, plain, body, curl, fills=False),
                }
                samples = alternate(contenders, settings.rounds)
                what = f"download that fills its site's target / one that does not{at}"
                yield compare(name, what, samples, "filling", "plain", Goal(1.05), notes=notes)
    body.path.unlink()


def _download(site: Site, body: Body, curl: Sequence[str], *, fills: bool) -> float:
    """Seconds that the first download of a new image takes; waits until the target is filled.

    :param curl: further arguments of curl
    """
    assert site.cloud is not None, "there is no filter"
    image_id = site.create()
    site.put(body, f"{site.url(image_id)}/file")
    # What the spool still has of the upload needs no filling.
    site.cloud.wait_settled()
    seconds = timed(_get, site, image_id, curl)
    if fills:
        site.cloud.wait_replicated(image_id)
    site.forget(image_id)
    return seconds


def _get(site: Site, image_id: str, curl: Sequence[str]) -> None:
    token = f"X-Auth-Token: {site.token()}"
    command = ["curl", "-sSf", "-o", "/dev/null", "-H", token, *curl]
    command.append(f"{site.url(image_id)}/file")
    subprocess.run(command, check=True)
