# SPDX-License-Identifier: Apache-2.0
"""Runs the demo; started by tools/demo inside the environment that it has prepared."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import requests
from rich.console import Console

from tests.lab.process import ServerError
from tools.demo_show import keep
from tools.demo_show.diskimage import MIB, SMALLEST_BYTES
from tools.demo_show.stage import ENDING_SIGNALS, DemoError, Stage, make_directory
from tools.demo_show.story import Story

_FAILURES = (DemoError, ServerError, TimeoutError, OSError, requests.RequestException)

_HOW_TO_GO_ON = """
== How to go on
   README.rst           what it does, and how to enable the filter in your own Glance
   tools/demo --keep    the same, left running, with commands to try
   tools/demo FILE      the same with an image of yours
   tools/test           every test"""


def main() -> int:
    arguments = _arguments()
    # It was for this process only.
    os.environ.pop("PYTHONPATH", None)
    for number in ENDING_SIGNALS:
        signal.signal(number, _end)
    try:
        _run(arguments.file, arguments.size, arguments.keep)
    except _FAILURES as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: everything is stopped and removed", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/demo")
    parser.add_argument("file", nargs="?", type=_image_file, help="an image file of yours")
    parser.add_argument(
        "--size", type=_size, default=256 * MIB, metavar="MiB", help="of the image that is made"
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running afterwards")
    return parser.parse_args()


def _image_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text} is not a file that can be read")
    if not path.stat().st_size:
        raise argparse.ArgumentTypeError(f"{text} is empty")
    return path


def _size(text: str) -> int:
    smallest = SMALLEST_BYTES // MIB
    if not text.isdecimal() or int(text) < smallest:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least {smallest}")
    return int(text) * MIB


def _run(file: Path | None, size: int, keeps: bool) -> None:
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    size = file.stat().st_size if file else size
    with _stage(size) as stage:
        image = Story(console, stage).tell(file, size)
        console.print(_HOW_TO_GO_ON)
        if keeps:
            console.print(keep.what_to_try(stage, image))
            keep.wait()
        console.print("\nStopping everything.")


@contextmanager
def _stage(image_bytes: int) -> Iterator[Stage]:
    """The servers' stage; whatever happens, nothing of it stays."""
    directory = make_directory(image_bytes)
    try:
        stage = Stage(directory)
        try:
            yield stage
        except ServerError:  # has the end of that server's log
            raise
        except _FAILURES:
            print(f"The end of Glance's log:\n{stage.glance.log_tail(20)}", file=sys.stderr)
            raise
        finally:
            for number in (signal.SIGINT, *ENDING_SIGNALS):
                signal.signal(number, signal.SIG_IGN)
            stage.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
