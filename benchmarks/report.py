# SPDX-License-Identifier: Apache-2.0
"""The figures as a table, also for the documents, and as JSON with what they were measured on."""

import importlib.metadata
import json
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.accounting import BUSY, OVERALL, WAITED
from benchmarks.figures import Figure
from tests.lab.webserver_base import find_program

PICTURE = "benchmark.svg"
_TELLING_MIB = 512
_HEADINGS = ("what", "measured (quartiles of the rounds)", "goal", "met")
_WORDS = {True: "yes", False: "no", None: ""}


def machine() -> dict[str, Any]:
    """What the figures depend on besides this project."""
    return {
        "processors": psutil.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30)),
        "python": platform.python_version(),
        "glance": importlib.metadata.version("glance"),
        "nginx": _version("nginx", "-v"),
        "curl": _version("curl", "--version"),
    }


def as_json(figures: Sequence[Figure], about: dict[str, Any]) -> str:
    """The whole run.

    :param about: the machine and the settings
    """
    return json.dumps({**about, "figures": [each.as_json() for each in figures]}, indent=2) + "\n"


def read_json(path: Path) -> tuple[list[Figure], dict[str, Any]]:
    """The figures of a run, and what else is told of it."""
    about = json.loads(path.read_text())
    return [Figure.from_json(each) for each in about.pop("figures")], about


def text(figures: Sequence[Figure], about: dict[str, Any], picture: str = "") -> str:
    """A section in reStructuredText: the machine, the picture, the table, the processors' time.

    :param picture: where the picture lies; none by default
    """
    parts = [_introduction(about)]
    if picture:
        parts.append(f".. image:: {picture}\n   :alt: Seconds of each contender / bare upload")
    parts.append(table(_HEADINGS, [_row(each) for each in figures]))
    notes = [f"* {each.name}: {'; '.join(each.notes)}" for each in figures if each.notes]
    if notes:
        # Figures of one name may have one note in common.
        parts.append("\n".join(dict.fromkeys(notes)))
    if bounds := [line for each in figures if (line := bound(each))]:
        parts += ["What a missed goal was lost to:", "\n".join(f"* {line}" for line in bounds)]
    if rows := list(_cpu_rows(figures)):
        heading = "Where the processors went, CPU seconds for one run of each (medians):"
        parts += [heading, table(*_columns(rows))]
    return "\n\n".join(parts) + "\n"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A simple table of reStructuredText."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)

    def line(cells: Sequence[str]) -> str:
        # An empty first cell would continue the row before.
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([rule, line(headings), rule, *map(line, rows), rule])


def bound(figure: Figure) -> str:
    """The CPU seconds by which the contenders of a missed goal differ; empty for other figures."""
    if figure.is_met is not False or not figure.between or len(figure.cpu_seconds) != 2:
        return ""
    (over, above), (under, below) = figure.cpu_seconds.items()
    kinds = [name for name in above if name not in OVERALL]
    more = {name: above[name] - below.get(name, 0.0) for name in kinds}
    parts = [f"{name} {seconds:+.2f} s" for name, seconds in more.items() if abs(seconds) >= 0.01]
    total = sum(more.values())
    return (
        f"{figure.name}: {over} takes {abs(total):.2f} CPU seconds "
        f"{'more' if total >= 0 else 'less'} than {under} ({', '.join(parts)}); "
        f"{above[BUSY]:.2f} processors were busy{_waits(above, below)}"
    )


def _waits(above: Mapping[str, float], below: Mapping[str, float]) -> str:
    if WAITED not in above or WAITED not in below:
        return ""
    return f", and Glance waited for one for {above[WAITED]:.2f} instead of {below[WAITED]:.2f} s"


def _row(figure: Figure) -> tuple[str, str, str, str]:
    goal = "" if figure.goal is None else str(figure.goal)
    return figure.what, _measured(figure), goal, _WORDS[figure.is_met]


def _measured(figure: Figure) -> str:
    value = _number(figure.value) + (f" {figure.unit}" if figure.unit else "")
    if figure.between is None:
        return value
    return f"{value} ({_number(figure.between[0])} to {_number(figure.between[1])})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def _introduction(about: dict[str, Any]) -> str:
    on, settings = about["machine"], about["settings"]
    size = settings["image"] >> 20
    warning = "" if size >= _TELLING_MIB else "\nSo small sizes show that all works, and no more."
    return (
        f"{on['processors']} processors ({on['processor']}), {on['memory_gib']} GiB, all on one "
        f"machine and in memory; Glance {on['glance']}, Python {on['python']}, "
        f"nginx {on['nginx']}, curl {on['curl']}.\n"
        f"An image of {size} MiB of random bytes unless it is said otherwise, three copies "
        f"besides the primary; medians of\n{settings['rounds']} rounds in which all took turns."
        f"{warning}"
    )


def _cpu_rows(figures: Sequence[Figure]) -> Iterator[tuple[str, dict[str, float]]]:
    seen = set()
    for figure in figures:
        for contender, used in figure.cpu_seconds.items():
            key = (contender, tuple(used.items()))
            if key not in seen:
                seen.add(key)
                yield f"{figure.name}: {contender}", dict(used)


def _columns(
    rows: Sequence[tuple[str, dict[str, float]]],
) -> tuple[list[str], list[list[str]]]:
    names = list(dict.fromkeys(name for _, used in rows for name in used))
    lines = [
        [title, *(f"{used[name]:.2f}" if name in used else "" for name in names)]
        for title, used in rows
    ]
    return ["run", *names], lines


def _processor() -> str:
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return names[0] if names else platform.machine()


def _version(program: str, option: str) -> str:
    found = find_program(program)
    if not found:
        return "none"
    command = [found, option]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    numbers = re.search(r"\d+(\.\d+)+", answer.stdout + answer.stderr)
    return numbers[0] if numbers else "unknown"
