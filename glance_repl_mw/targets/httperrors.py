"""What operators are told of the settings of an HTTP server."""

from __future__ import annotations

TOO_LARGE = (
    "the server takes no body of that size: raise its limit (nginx: client_max_body_size 0; "
    "Apache: LimitRequestBody 0)"
)
COMPRESSED = (
    "the server compresses what it sends (Content-Encoding: {encoding}), and Glance would give "
    "these bytes to its users; switch compression off for this location"
)
