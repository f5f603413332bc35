# SPDX-License-Identifier: Apache-2.0
"""The picture of the documents: how long each contender takes until all copies are there."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from benchmarks.figures import Figure, spread
from benchmarks.scenarios.race import BARE, OURS

_OURS, _OTHERS = "#1b6ca8", "#a9b4bd"
_INCHES = (8, 3.6)


class Bar(NamedTuple):
    """A contender: median and quartiles, as multiples of a bare upload."""

    label: str
    low: float
    median: float
    high: float
    is_ours: bool


def bars(figures: Sequence[Figure]) -> list[Bar]:
    """What the picture shows; nothing when the bare upload was not measured."""
    by_name = {figure.name: figure for figure in figures}
    if "upload" not in by_name:
        return []
    uploads = by_name["upload"].samples
    unit = spread(uploads[BARE]).median
    found = [
        _bar("bare upload, no copies", uploads[BARE], unit),
        _bar("upload with the filter", uploads[OURS], unit, is_ours=True),
    ]
    against = [
        figure
        for name, figure in by_name.items()
        if name.startswith("against-") and OURS in figure.samples
    ]
    if against:
        found.append(_bar("ours: all copies", against[0].samples[OURS], unit, is_ours=True))
    for figure in against:
        (other,) = (name for name in figure.samples if name != OURS)
        found.append(_bar(f"{other}: all copies", figure.samples[other], unit))
    return found


def draw(found: Sequence[Bar], path: Path) -> None:
    """Write the bars with their quartiles as SVG; the same bars give the same file."""
    with mpl.rc_context({"svg.hashsalt": "glance-repl-mw", "svg.fonttype": "none"}):
        canvas = Canvas(figsize=_INCHES, layout="constrained")
        axes = canvas.subplots()
        axes.barh(
            [bar.label for bar in found],
            [bar.median for bar in found],
            xerr=[
                [bar.median - bar.low for bar in found],
                [bar.high - bar.median for bar in found],
            ],
            color=[_OURS if bar.is_ours else _OTHERS for bar in found],
            ecolor="#303030",
            capsize=4,
        )
        for place, bar in enumerate(found):
            axes.annotate(
                f"{bar.median:.2f}", (bar.high, place), (6, 0), textcoords="offset points",
                va="center",
            )  # fmt: skip
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel("seconds / seconds of a bare upload; bars: medians, lines: quartiles")
        axes.spines[["top", "right"]].set_visible(False)
        canvas.savefig(path, format="svg", metadata={"Date": None})


def _bar(label: str, samples: Sequence[float], unit: float, is_ours: bool = False) -> Bar:
    low, median, high = (each / unit for each in spread(samples))
    return Bar(label, low, median, high, is_ours)
