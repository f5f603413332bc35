# SPDX-License-Identifier: Apache-2.0
"""The command behind tools/bench."""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

from benchmarks import picture, report, suite
from benchmarks.figures import Figure
from benchmarks.settings import QUICK, Settings
from benchmarks.stage import Stage

RESULT, TABLE = "benchmark.json", "benchmark.txt"


def main() -> None:
    arguments = _parse()
    if arguments.names:
        print("\n".join(suite.NAMES))
        print("\n".join(f"{name} (only when it is asked for)" for name in suite.EXTRA))
        return
    if arguments.table:
        figures, about = report.read_json(arguments.table)
        print(report.text(figures, about, arguments.picture), end="")
        return
    settings = QUICK if arguments.quick else Settings()
    asked = {"rounds": arguments.rounds, "line_gigabits": arguments.line}
    settings = dataclasses.replace(settings, **{key: each for key, each in asked.items() if each})
    arguments.output.mkdir(parents=True, exist_ok=True)
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": report.machine(),
        "settings": dataclasses.asdict(settings),
    }
    figures = []
    with Stage() as stage:
        for found in suite.measure(stage, settings, set(arguments.only or suite.NAMES)):
            figures += found
            # What has been measured is there, whatever happens to the rest.
            (arguments.output / RESULT).write_text(report.as_json(figures, about))
    text = report.text(figures, about)
    (arguments.output / TABLE).write_text(text)
    _draw(figures, arguments.output / report.PICTURE)
    print(text, end="")
    print(f"== {RESULT}, {TABLE} and {report.PICTURE} are in {arguments.output}", file=sys.stderr)


def _draw(figures: list[Figure], path: Path) -> None:
    if bars := picture.bars(figures):
        picture.draw(bars, path)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that all works")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=[*suite.NAMES, *suite.EXTRA],
        help="only this figure; may be repeated",
    )
    parser.add_argument("--names", action="store_true", help="print the names of all figures")
    parser.add_argument("--rounds", type=int, help="how often the contenders take turns")
    parser.add_argument(
        "--line", type=float, metavar="GBIT", help="what the line of slow clients carries a second"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), help="directory of the results"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="only print the table of a run")
    parser.add_argument("--picture", default="", help="with --table: the path of the picture")
    return parser.parse_args()


if __name__ == "__main__":
    main()
