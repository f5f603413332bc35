# SPDX-License-Identifier: Apache-2.0
"""What went wrong with an HTTP server, in words for operators: no names of Python's classes.

The same words for targets, Glance and Keystone.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from urllib import parse

from urllib3 import exceptions as urllib3_exceptions

from glance_repl_mw.foreign_text import printable

_DEEPEST = 20
_CONNECTING = (
    urllib3_exceptions.NewConnectionError,
    urllib3_exceptions.ConnectTimeoutError,
    urllib3_exceptions.NameResolutionError,
)
_CLASSES = re.compile(
    r"<[\w.]+ object at 0x[0-9a-f]+>|\b[A-Z]\w*(?:Pool|Connection|Error)\([^()]*\)"
)
UNCLEAR = "the answer cannot be understood"


def explained(error: BaseException, url: str, ca_option: str = "ca_file") -> str:
    """What an error of requests, urllib3, http.client or the network means.

    Timeouts are not told here, since only the caller knows how long it has waited.

    :param ca_option: which names the authorities whose certificates are accepted
    """
    chain = _chain(error)
    root = chain[-1]
    if isinstance(root, ssl.SSLCertVerificationError):
        why = printable(root.verify_message)
        return f"the server's certificate is not accepted: {why} ({ca_option}?)"
    if isinstance(root, ssl.SSLError):
        return f"SSL: {(root.reason or str(root)).replace('_', ' ').lower()}"
    if isinstance(root, socket.gaierror):
        return f"the host name {_host(url)} does not resolve: {root.strerror}"
    if any(isinstance(each, _CONNECTING) for each in chain):
        return f"no connection to {_host(url)}: {_reason(root)}"
    if isinstance(root, http.client.RemoteDisconnected):
        return "the server closed the connection without an answer"
    if isinstance(root, http.client.BadStatusLine):
        return "the answer is not HTTP"
    if isinstance(root, http.client.IncompleteRead | urllib3_exceptions.IncompleteRead):
        return "the answer broke off before its end"
    return _reason(root)


def root_of(error: BaseException) -> BaseException:
    """What the wrappers of requests and urllib3 are about."""
    return _chain(error)[-1]


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it was made of, the innermost one last."""
    chain = [error]
    while len(chain) < _DEEPEST:
        inner = _inner(chain[-1])
        if inner is None or inner in chain:
            break
        chain.append(inner)
    return chain


def _inner(error: BaseException) -> BaseException | None:
    candidates = [getattr(error, "reason", None), *reversed(error.args)]
    if isinstance(error, urllib3_exceptions.HTTPError):
        candidates.append(error.__cause__)
    return next((each for each in candidates if isinstance(each, BaseException)), None)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    text = printable(_CLASSES.sub("", str(error)))
    return text if any(character.isalpha() for character in text) else UNCLEAR


def _host(url: str) -> str:
    """Host and port of a URL, as it is given."""
    return printable(parse.urlsplit(url).netloc.rpartition("@")[2])
