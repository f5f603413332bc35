# SPDX-License-Identifier: Apache-2.0
"""Asks Glance for an image's record inside the process, on behalf of a caller."""

from __future__ import annotations

import webob

# The body of the request is not passed on, and the answer is read here.
_NOT_PASSED_ON = ("HTTP_TRANSFER_ENCODING", "HTTP_ACCEPT_ENCODING")


def record_request(request: webob.Request, image_id: str) -> webob.Request:
    """The request for the image's record as the caller of ``request`` sees it.

    :param image_id: as it stands in the path of a request
    """
    question = request.copy_get()
    for name in _NOT_PASSED_ON:
        question.environ.pop(name, None)
    # WebOb would encode it once more.
    question.environ["PATH_INFO"] = f"/v2/images/{image_id}"
    question.query_string = ""
    return question
