# SPDX-License-Identifier: Apache-2.0
"""The processes of a node whose power is cut: an API process with users, and the writer.

They are forked from a process that has imported everything, so that a node starts in no time.
The API process has the real filter before Glance, which is on another machine and stays there.
"""

import ctypes
import io
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import requests
import webob

from glance_repl_mw.cmd import writer
from glance_repl_mw.filter import filter_factory
from tests.lab.images import image_bytes

_PR_SET_PDEATHSIG = 1
_USERS = 3
_PIECE_BYTES = 16 << 10
_LARGEST_BYTES = 256 << 10
_LONGEST_PAUSE_SECONDS = 0.01
_PATCH_TYPE = "application/openstack-images-v2.1-json-patch"


def run_writer(config_file: str, log: str) -> None:
    """As ``glance-repl-writer``."""
    _begin(log)
    os._exit(writer.serve(["--config-file", config_file]))


def run_api(config_file: str, log: str, glance: str, token: str, seed: str) -> None:
    """Users who upload, rename and delete images until the power goes."""
    _begin(log)
    forward = Forward(glance, token)
    replicated = filter_factory({}, config_file=config_file)(forward)
    users = [
        threading.Thread(target=_User(replicated, forward, f"{seed} {number}").run)
        for number in range(_USERS)
    ]
    for user in users:
        user.start()
    for user in users:
        user.join()


def _begin(log: str) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output, stream.fileno())


class Forward:
    """A WSGI application that sends each request on to Glance as it comes."""

    def __init__(self, glance: str, token: str) -> None:
        self._glance = glance.rstrip("/")
        self._token = token
        self._local = threading.local()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        pieces = iter(lambda: environ["wsgi.input"].read(_PIECE_BYTES), b"")
        answer = self._http().request(
            method,
            self._glance + environ["PATH_INFO"],
            data=pieces if method == "PUT" else b"".join(pieces),
            headers={
                "X-Auth-Token": self._token,
                "Content-Type": environ.get("CONTENT_TYPE") or "application/json",
            },
        )
        start_response(
            f"{answer.status_code} {answer.reason}",
            [("Content-Type", "application/json"), ("Content-Length", str(len(answer.content)))],
        )
        return [answer.content]

    def _http(self) -> requests.Session:
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
            self._local.http.trust_env = False
        return self._local.http


class _SlowBody(io.RawIOBase):
    """A body whose pieces come one after the other."""

    def __init__(self, data: bytes, pause_seconds: float) -> None:
        self._pieces = _pieces(data, pause_seconds)

    def read(self, size: int = -1) -> bytes:
        return next(self._pieces, b"")


class _User:
    """:param bare: Glance without the filter before it"""

    def __init__(self, replicated: Any, bare: Any, seed: str) -> None:
        self._replicated = replicated
        self._bare = bare
        self._rng = random.Random(seed)
        self._images: list[str] = []

    def run(self) -> None:
        try:
            self._live()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _live(self) -> NoReturn:
        while True:
            chance = self._rng.random()
            if not self._images or chance < 0.6:
                self._upload()
            elif chance < 0.8:
                self._send("DELETE", self._images.pop(self._rng.randrange(len(self._images))))
            else:
                name = f"name {self._rng.random()}"
                change = {"op": "replace", "path": "/name", "value": name}
                self._send("PATCH", self._rng.choice(self._images), json=[change])

    def _upload(self) -> None:
        record = {"name": "image", "disk_format": "raw", "container_format": "bare"}
        made = webob.Request.blank("/v2/images", method="POST", json=record)
        image_id = made.get_response(self._bare).json["id"]
        data = image_bytes(int(2 ** self._rng.uniform(0, 18)), self._rng.randbytes)
        request = webob.Request.blank(f"/v2/images/{image_id}/file", method="PUT")
        request.content_type = "application/octet-stream"
        if self._rng.random() < 0.6:
            request.content_length = len(data)
        pause = self._rng.choice((0.0, self._rng.uniform(0, _LONGEST_PAUSE_SECONDS)))
        request.environ["wsgi.input"] = _SlowBody(data, pause)
        if request.get_response(self._replicated).status_int == 204:
            self._images.append(image_id)

    def _send(self, method: str, image_id: str, **body: Any) -> None:
        request = webob.Request.blank(f"/v2/images/{image_id}", method=method, **body)
        request.content_type = _PATCH_TYPE
        request.get_response(self._replicated)


def _pieces(data: bytes, pause_seconds: float) -> Iterator[bytes]:
    for offset in range(0, len(data), _PIECE_BYTES):
        yield data[offset : offset + _PIECE_BYTES]
        time.sleep(pause_seconds)
