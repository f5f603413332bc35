# SPDX-License-Identifier: Apache-2.0
"""Kinds of arguments that several subcommands take."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A number from 1 on.

    :raises argparse.ArgumentTypeError: it is something else
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a number from 1 on")
    return int(text)
