# SPDX-License-Identifier: Apache-2.0
"""Answers of the REST interface, and the way out with one from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import webob
import webob.exc


class Answered(Exception):
    """The request ends with this response."""

    def __init__(self, response: webob.Response) -> None:
        super().__init__(response.status)
        self.response = response


def refused(
    kind: type[webob.exc.WSGIHTTPException], why: str = "", retry_after_seconds: int | None = None
) -> Answered:
    """An error in Glance's form, to be raised."""
    # Glance puts its words here, too, and not below those that webob has for the status.
    response = kind(explanation=why or None)
    if retry_after_seconds is not None:
        response.headers["Retry-After"] = str(retry_after_seconds)
    return Answered(response)


def json(body: Mapping[str, Any], status: int = 200) -> webob.Response:
    """An answer with a JSON object."""
    return webob.Response(json_body=body, status=status, content_type="application/json")
