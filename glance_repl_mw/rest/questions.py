# SPDX-License-Identifier: Apache-2.0
"""Reads what is asked for in a request's address, and refuses what makes no sense."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib import parse

import webob
import webob.exc

from glance_repl_mw.rest.answers import refused

_TARGET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,5}([.][0-9]{1,6})?")
_MOST_SECONDS = 86400


def is_target_name(text: str) -> bool:
    """Whether a target could be named so."""
    return _TARGET_NAME.fullmatch(text) is not None


def parameters(request: webob.Request, known: Collection[str]) -> dict[str, str]:
    """The parameters of the query, each given once.

    :raises Answered: 400
    """
    # webob does not decode every query.
    text = request.environ.get("QUERY_STRING", "")
    given = parse.parse_qsl(text, keep_blank_values=True, errors="replace")
    found: dict[str, str] = {}
    for name, value in given:
        if name not in known:
            known_names = ", ".join(known) or "none"
            why = f"Unknown parameter; those that are known: {known_names}."
            raise refused(webob.exc.HTTPBadRequest, why)
        if name in found:
            raise refused(webob.exc.HTTPBadRequest, f"{name} is given twice.")
        found[name] = value
    return found


def whole_number(asked: Mapping[str, str], name: str, default: int) -> int:
    """:raises Answered: 400, where the parameter is no whole number from 0"""
    text = asked.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text):
        raise refused(webob.exc.HTTPBadRequest, f"{name} must be a whole number from 0.")
    return int(text)


def seconds(asked: Mapping[str, str], name: str) -> float:
    """The parameter, 0 where it is not given.

    :raises Answered: 400, where it is no plain decimal number of at most a day
    """
    text = asked.get(name)
    if text is None:
        return 0.0
    if not _SECONDS.fullmatch(text) or float(text) > _MOST_SECONDS:
        why = f"{name} must be a number of seconds from 0 to {_MOST_SECONDS}."
        raise refused(webob.exc.HTTPBadRequest, why)
    return float(text)
