# SPDX-License-Identifier: Apache-2.0
"""Turns the errors of the clients of Glance and Keystone into ours, in words for operators."""

from __future__ import annotations

import contextlib
import http
from collections.abc import Iterator

import glanceclient.exc
import keystoneauth1.exceptions
import requests
import urllib3.exceptions

from glance_repl_mw import bounded, exceptions
from glance_repl_mw.causes import causes
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.network_errors import UNCLEAR, explained
from glance_repl_mw.urls import NOT_A_URL, without_queries, without_query, without_user_info

_MOST_OF_AN_ERROR = 500
_MOST_READ_OF_AN_ERROR = 10_000
# The text of these quotes what was taken for host or port, such as a part of a proxy's password.
_NO_URL = (requests.exceptions.InvalidURL, urllib3.exceptions.LocationValueError)
_NOT_PARSED = "the answer, or the address that was asked, cannot be parsed"
_NOT_A_URL = f"the address of Glance, of Keystone or of a proxy in the environment {NOT_A_URL}"
# The clients' own: of an error without a Content-Type, as proxies send them, of JSON that is too
# deep or has a number of too many digits, of a token whose date is out of all bounds.
_UNCLEAR = (
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
)


@contextlib.contextmanager
def translated(image_id: str | None, operation: str, timeout_seconds: float) -> Iterator[None]:
    """Turn the errors of the clients into those of ``ImageService``.

    :param timeout_seconds: how long they wait for a connection, and for an answer
    :raises GlanceUnavailable:
    :raises GlanceRefused:
    :raises ImageGone:
    """
    try:
        yield
    except glanceclient.exc.HTTPNotFound as error:
        raise exceptions.ImageGone(image_id, None, operation, _refusal(error)) from error
    except (glanceclient.exc.HTTPException, keystoneauth1.exceptions.HttpError) as error:
        status = http_status(error)
        kind = (
            exceptions.GlanceUnavailable
            if status >= 500 or status in (0, 408, 429)
            else exceptions.GlanceRefused
        )
        raise kind(image_id, None, operation, _refusal(error)) from error
    except (
        glanceclient.exc.BaseException,
        keystoneauth1.exceptions.ClientException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,  # an answer that breaks off
        *_UNCLEAR,
    ) as error:
        hint = _shown(_told(error, timeout_seconds))
        raise exceptions.GlanceUnavailable(image_id, None, operation, hint) from error


def http_status(error: BaseException | None) -> int:
    """0 where it is not known: glanceclient keeps only the most common ones."""
    found = (getattr(error, name, None) for name in ("http_status", "code"))
    return next((status for status in found if isinstance(status, int)), 0)


def _refusal(error: Exception) -> str:
    """What the server said; glanceclient names its own class where that is nothing."""
    if getattr(error, "details", None) != type(error).__name__:
        return _shown(str(error))
    status = http_status(error)
    if not status:
        return "an answer that is an error and does not say which"
    return f"HTTP {status} {http.HTTPStatus(status).phrase}"


def _told(error: Exception, timeout_seconds: float) -> str:
    if any(isinstance(each, _NO_URL) for each in causes(error)):
        return _NOT_A_URL
    for each in causes(error):
        if isinstance(each, requests.RequestException | urllib3.exceptions.HTTPError):
            return _of_network(each, timeout_seconds)
    if type(error) is ValueError:
        return _NOT_PARSED
    return UNCLEAR if isinstance(error, _UNCLEAR) else str(error)


def _of_network(error: Exception, timeout_seconds: float) -> str:
    """What went wrong between us and the server, after the request where that is known."""
    request = getattr(error, "request", None)
    url = getattr(request, "url", None) or ""
    why = _why(error, url, timeout_seconds)
    return f"{request.method} {without_query(url)}: {why}" if request and url else why


def _why(error: Exception, url: str, timeout_seconds: float) -> str:
    if isinstance(error, bounded.AnswerTooLarge | bounded.AnswerTooSlow):
        return str(error)
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeout_seconds:g} s"
    late = (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError)
    if any(isinstance(each, late) for each in (error, *error.args)):
        return f"no answer for {timeout_seconds:g} s"
    return explained(error, url, "cafile")


def _shown(text: str) -> str:
    """Without queries, which name up to a hundred images, or sign."""
    text = without_queries(without_user_info(text[:_MOST_READ_OF_AN_ERROR]))
    return printable(text, _MOST_OF_AN_ERROR) or UNCLEAR
