"""What operators are told of the settings of an HTTP server."""

from __future__ import annotations

RAISE_LIMIT = "raise its limit (nginx: client_max_body_size 0; Apache: LimitRequestBody 0)"
TOO_LARGE = f"the server takes no body of that size: {RAISE_LIMIT}"
COMPRESSED = (
    "the server compresses what it sends (Content-Encoding: {encoding}), and Glance would give "
    "these bytes to its users; switch compression off for this location"
)
