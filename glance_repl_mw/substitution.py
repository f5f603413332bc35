# SPDX-License-Identifier: Apache-2.0
"""What oslo.config does to a ``$`` in a value, and what an operator is told of it."""

from __future__ import annotations

import re

from oslo_config import cfg

_UNKNOWN = (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError)
_HINT = (
    "holds a $, and what follows it is taken for the name of an option that is not there; "
    "write $$ for a $"
)
_NAMED = re.compile(r"Value for option (\S+) ")
_NAME = re.compile(r"(?<![$\\])(?:\$\$)*\$(?:[A-Za-z_]|\{)")


def reason(error: Exception) -> str:
    """Why an option has no value, without what the value is: that may be a password."""
    if isinstance(error, _UNKNOWN):
        return _HINT
    return str(error).rpartition(" is not valid: ")[2]


def reason_and_option(error: Exception) -> str:
    """As ``reason``, with the option where the error names one."""
    named = _NAMED.match(str(error))
    return f"{named[1]}: {reason(error)}" if named else reason(error) or str(error)


def is_in(value: str) -> bool:
    """Whether a value as it is written in a file names another option."""
    return _NAME.search(value) is not None
