# SPDX-License-Identifier: Apache-2.0
"""Runs commands of the project, each in a process of its own that need not import them first.

To import what a command needs takes seconds of a processor, more than most commands do
themselves. They are forked from a server that has done so.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from glance_repl_mw.cmd import manage as manage_program
from glance_repl_mw.cmd import writer as writer_program
from tests.lab.process import clean_environment

TIMEOUT_SECONDS = 120

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([manage_program.__name__, writer_program.__name__, __name__])


def manage(
    *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``glance-repl-manage`` to its end, without a terminal.

    :param environment: is added to that of the tests
    :raises subprocess.TimeoutExpired: it is killed then
    """
    return _ended(manage_program.main, ["glance-repl-manage", *map(str, arguments)], environment)


def writer(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``glance-repl-writer``, which is to end by itself; raises likewise."""
    return _ended(writer_program.main, ["glance-repl-writer", *map(str, arguments)], None)


def _ended(
    main: Callable[[], None], words: Sequence[str], environment: Mapping[str, str] | None
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as name:
        outputs = [Path(name) / each for each in ("stdout", "stderr")]
        process = _FORKS.Process(
            target=_run, args=(main, words, clean_environment(**(environment or {})), outputs)
        )
        process.start()
        process.join(TIMEOUT_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, TIMEOUT_SECONDS)
        texts = [output.read_text() if output.exists() else "" for output in outputs]
        return subprocess.CompletedProcess(words, process.exitcode, *texts)


def _run(
    main: Callable[[], None],
    words: Sequence[str],
    environment: Mapping[str, str],
    outputs: Sequence[Path],
) -> None:
    for descriptor, path in enumerate([Path(os.devnull), *outputs]):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(words)
    main()
