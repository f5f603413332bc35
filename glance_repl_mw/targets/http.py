# SPDX-License-Identifier: Apache-2.0
"""Replicas on an HTTP server that takes PUT and DELETE, with or without WebDAV.

A body that breaks off leaves nothing on most servers, but the partial object on some. Where the
server can MOVE, an object is therefore written as ``NAME.partial``, proven, and moved to its name.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent import futures

from oslo_config import cfg

from glance_repl_mw import exceptions
from glance_repl_mw.model import Stored
from glance_repl_mw.targets import base, httpconfig, httpprobe
from glance_repl_mw.targets.border import Bordered
from glance_repl_mw.targets.httpclient import Client
from glance_repl_mw.targets.sendfile import Upload
from glance_repl_mw.targets.webdav import WRITTEN, WebCollection

PARTIAL = ".partial"
_NO_COLLECTION = (404, 409)


class HTTPTarget(Bordered, base.Target):
    """Objects in one collection of an HTTP server; may be used by many threads.

    :raises ValueError: an option is missing or wrong; the text begins with its name
    """

    options = httpconfig.OPTIONS

    def __init__(self, name: str, conf: cfg.ConfigOpts.GroupAttr) -> None:
        super().__init__(name, conf)
        url = httpconfig.collection_url(conf, "url")
        location_url = (
            httpconfig.collection_url(conf, "location_url") if conf.location_url else url
        )
        self._elsewhere = httpconfig.origin(url) != httpconfig.origin(location_url)
        self._client = Client(name, httpconfig.access(conf))
        signer = httpconfig.signer(conf)
        if signer:
            self.renewal_seconds = signer.step_seconds
        self._collection = WebCollection(self._client, url, location_url, signer)
        self._probe = httpprobe.Probe(self._client, self._collection)
        self._lock = threading.Lock()
        self._publish: futures.Future[str] | None = None

    @property
    def places(self) -> Sequence[str]:
        urls = (self._collection.url, self._collection.location_url)
        return [httpconfig.normalized(url) for url in urls]

    def close(self) -> None:
        self._client.close()

    def put(self, name: str, reader: base.Reader, size: int | None) -> Stored:
        move = self._publish_mode() == "move"
        written = name + PARTIAL if move else name
        try:
            sent, status = self._upload(written, reader, size)
            stored = self._proof(written, sent, status)
            if move:
                status = self._collection.move("put", written, name, WRITTEN)
                stored = self._proof(name, sent, status)
            return stored
        except BaseException as error:
            if isinstance(error, exceptions.TargetError):
                # Before the next body is sent, a probe finds out whether the server takes it.
                self._forget_publish_mode()
            self._collection.clean_up(*dict.fromkeys((written, name)))
            raise

    def stat(self, name: str) -> Stored | None:
        return self._collection.stat("stat", name)

    def open(self, name: str, offset: int = 0) -> Iterator[bytes]:
        url = self._collection.readable(name)
        return self._client.blocks("open", url, offset, anonymous=self._elsewhere)

    def read(self, name: str, most_bytes: int, seconds: float) -> bytes | None:
        return self._collection.read("read", name, most_bytes, seconds)

    def delete(self, name: str) -> None:
        self._collection.delete("delete", name + PARTIAL, name)

    def object_name(self, location_url: str) -> str | None:
        return self._collection.name_at(location_url)

    def location(self, url: str) -> str:
        signer = self._collection.signer
        return signer.signed(url) if signer else super().location(url)

    def list(self) -> Iterator[str]:
        yield from self._collection.names("list")

    def probe(self, name: str | None) -> None:
        self._probe.look(name, self.conf.stall_timeout_seconds)

    def check(self) -> Sequence[base.Remark]:
        return self._probe.check(self.conf.publish)

    def _publish_mode(self) -> str:
        """``move`` or ``direct``; asks the server at the first call.

        Who calls while another thread asks waits for that answer, or for its error.
        """
        with self._lock:
            asked = self._publish
            if asked is None:
                asking = self._publish = futures.Future()
        if asked is not None:
            return asked.result()
        try:
            asking.set_result(self._probe.publish_mode(self.conf.publish))
        except BaseException as error:
            self._forget_publish_mode()
            asking.set_exception(error)
        return asking.result()

    def _forget_publish_mode(self) -> None:
        with self._lock:
            self._publish = None

    def _upload(self, name: str, reader: base.Reader, size: int | None) -> tuple[int, int]:
        """PUT the body; returns how many bytes were sent, and the status."""
        address = self._collection.address(name)
        by_sendfile = size is not None and address.startswith("http:")
        stall_seconds = self.conf.stall_timeout_seconds
        upload = Upload(self.name, reader, size, by_sendfile, stall_seconds)
        answer = self._client.upload("put", address, upload, (*WRITTEN, *_NO_COLLECTION))
        if answer.status in _NO_COLLECTION:
            raise self._failed(f"PUT {address}: {answer.status}, the collection has gone")
        if not upload.complete:
            raise self._failed(f"PUT {address}: {answer.status} before the end of the body")
        return upload.sent, answer.status

    def _proof(self, name: str, sent: int, status: int) -> Stored:
        """The object, which has as many bytes as were sent.

        :param status: the server's answer
        """
        stored = self._collection.stat_after("put", name, status, sent)
        if stored is None:
            hint = f"{self._collection.address(name)} is not there after the PUT"
            raise self._failed(f"{hint} ({status})")
        if stored.size != sent:
            raise self._failed(
                f"{self._collection.address(name)} has {stored.size} bytes; {sent} were sent"
            )
        return stored

    def _failed(self, hint: str) -> exceptions.TargetError:
        return self._client.error(exceptions.TargetUnavailable, "put", hint)
