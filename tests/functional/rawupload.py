# SPDX-License-Identifier: Apache-2.0
"""An upload of which the test sends each part when it likes, and from which it can walk away."""

import select
import socket
from collections import Counter
from contextlib import suppress
from http.client import HTTPResponse
from typing import NamedTuple

from tests.functional.cloud import pieces
from tests.lab.process import HOST

OF_THE_MOMENT = {"date", "x-openstack-request-id"}


class Answer(NamedTuple):
    """Glance's answer, without the headers that differ each time."""

    status: int
    headers: Counter
    body: bytes


class Upload:
    """A PUT of image data over a bare socket; `length` None sends it chunked."""

    def __init__(self, glance, image_id, length=None, *, token, **headers):
        self.chunked = length is None
        self.socket = socket.create_connection((HOST, glance.port), timeout=60)
        size = "Transfer-Encoding: chunked" if self.chunked else f"Content-Length: {length}"
        sent = {"Content-Type": "application/octet-stream", **headers}
        if token:
            sent["X-Auth-Token"] = token
        lines = [
            f"PUT /v2/images/{image_id}/file HTTP/1.1",
            f"Host: {HOST}:{glance.port}",
            size,
            *(f"{name.replace('_', '-')}: {value}" for name, value in sent.items()),
        ]
        self._write("\r\n".join([*lines, "", ""]).encode())

    def send(self, data):
        """Send a part of the body; a server that has answered already reads no more of it."""
        for piece in pieces(data):
            self._write(b"%x\r\n%s\r\n" % (len(piece), piece) if self.chunked else piece)
        return self

    def finish(self):
        """Send the end of the body, and return the answer; None where there is none."""
        if self.chunked:
            self._write(b"0\r\n\r\n")
        return self.answer()

    def answer(self):
        response = HTTPResponse(self.socket)
        try:
            response.begin()
            body = response.read()
        except ConnectionError:
            return None
        finally:
            response.close()
            self.socket.close()
        headers = Counter(
            (name.lower(), value)
            for name, value in response.getheaders()
            if name.lower() not in OF_THE_MOMENT
        )
        return Answer(response.status, headers, body)

    @property
    def answered(self):
        return bool(select.select([self.socket], [], [], 0)[0])

    def leave(self):
        self.socket.close()

    def _write(self, data):
        with suppress(ConnectionError):
            self.socket.sendall(data)
