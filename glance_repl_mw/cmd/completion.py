# SPDX-License-Identifier: Apache-2.0
"""``completion``: the script by which bash completes the commands of this package."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_config import cfg

_MANAGE = "glance-repl-manage"
_GLOBAL_OPTIONS = ("--config-dir", "--config-file", "--help", "--version")
_SCRIPT = """\
# Lets bash complete the commands of glance-repl-mw; made by: {manage} completion
_glance_repl_complete() {{
    local table=$1 current=$2 previous=$3 word path="" words=""
    COMPREPLY=()
    case $previous in
        --config-file | --config-dir)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
    esac
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        if "$table" "$path $word" >/dev/null; then path="$path $word"; fi
    done
    words=$("$table" "$path $previous=") || words=$("$table" "$path")
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
{programs}"""
_PROGRAM = """\
_{function}_words() {{
    case $1 in
{cases}
        *) return 1 ;;
    esac
}}
_{function}() {{ _glance_repl_complete _{function}_words "$2" "$3"; }}
complete -o filenames -F _{function} {program}
"""

_Words = Mapping[str, list[str]]


def add_command(commands: Any) -> None:
    """Add the subcommand, which needs no configuration."""
    parser = commands.add_parser("completion", help="print the script by which bash completes")
    parser.set_defaults(run=functools.partial(_print, commands), needs_no_configuration=True)


def _print(commands: Any, conf: cfg.ConfigOpts) -> int:
    print(script(commands.choices), end="")
    return 0


def script(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    """The script for all programs of the package.

    :param commands: the parsers of ``glance-repl-manage`` by the names of its subcommands
    """
    status = {"": ["upgrade", *_GLOBAL_OPTIONS], " upgrade": ["check"]}
    programs: dict[str, _Words] = {
        _MANAGE: {"": [*commands, *_GLOBAL_OPTIONS], **dict(_words(commands, ""))},
        "glance-repl-status": {**status, " upgrade check": ["--json"]},
        "glance-repl-writer": {"": list(_GLOBAL_OPTIONS)},
    }
    parts = [_program(name, words) for name, words in programs.items()]
    return _SCRIPT.format(manage=_MANAGE, programs="".join(parts))


def _words(
    commands: Mapping[str, argparse.ArgumentParser], path: str
) -> Iterator[tuple[str, list[str]]]:
    """What may follow each subcommand; as ``PATH OPTION=``, what an option with choices takes."""
    for name, parser in commands.items():
        here = f"{path} {name}"
        following: list[str] = []
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                following += list(action.choices)
                yield from _words(action.choices, here)
                continue
            following += [each for each in action.option_strings if each.startswith("--")]
            if action.choices is not None:
                for option in action.option_strings:
                    yield f"{here} {option}=", [str(each) for each in action.choices]
        yield here, following


def _program(name: str, words: _Words) -> str:
    cases = "\n".join(
        f'        "{path}") echo "{" ".join(following)}" ;;' for path, following in words.items()
    )
    return _PROGRAM.format(function=name.replace("-", "_"), cases=cases, program=name)
