# SPDX-License-Identifier: Apache-2.0
"""Users who upload, import, change, read and delete images all the time."""

import collections
import hashlib
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests
from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.session import Session

from tests.chaos.bodies import Body, BrokenOff, SizedBody
from tests.chaos.ledger import Entry, Ledger
from tests.functional.cloud import Cloud
from tests.lab.images import image_bytes
from tests.lab.process import wait_until

LARGEST_BYTES = 16 << 20
_LONGEST_PAUSE_SECONDS = 0.04
_REQUEST_SECONDS = (5, 60)
_IDLE_SECONDS = 150
_AFTER_A_FAILURE_SECONDS = 0.3
_LONGEST_REST_SECONDS = 0.3
_IMPORT_SECONDS = 10
_MOST_IMAGES = 40
_PATCH_TYPE = "application/openstack-images-v2.1-json-patch"
_FAILURES = (requests.RequestException, keystone_errors.ClientException, OSError)


class Load:
    """Workers, each a user with a connection of its own.

    :param downloads: bodies by the URL that web-download may read
    """

    def __init__(
        self, cloud: Cloud, downloads: Mapping[str, bytes], seed: int, workers: int = 4
    ) -> None:
        self.ledger = Ledger()
        self._running = threading.Event()
        self._ended = threading.Event()
        self._workers = [
            _Worker(
                self,
                cloud,
                downloads,
                random.Random(f"{seed} worker {number}"),
                cloud.nodes[number % len(cloud.nodes)].url,
            )
            for number in range(workers)
        ]

    def __enter__(self) -> "Load":
        self.resume()
        for worker in self._workers:
            worker.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._running.set()
        for worker in self._workers:
            worker.thread.join()

    @property
    def counts(self) -> collections.Counter[tuple[str, str]]:
        """What was done with which outcome, by (what, outcome)."""
        return sum((worker.counts for worker in self._workers), collections.Counter())

    def resume(self) -> None:
        self._running.set()

    def pause(self) -> None:
        """Let the workers finish what they are doing; returns when all of them rest.

        :raises TimeoutError: a request was never answered
        """
        self._running.clear()
        wait_until(
            lambda: not any(worker.is_at_work for worker in self._workers),
            _IDLE_SECONDS,
            "every user's request is answered",
        )

    def clear_away(self) -> None:
        """Delete what imports left unfinished, and what Glance has half deleted; after `pause`.

        Glance removes the primary's data first, so that an image may be left with its replicas
        only. Its users, who got no answer, ask again.
        """
        self._workers[0].clear_away()

    def goes_on(self) -> bool:
        """Wait while the load is paused; returns whether there is more to do."""
        self._running.wait()
        return not self._ended.is_set()

    def is_paused(self) -> bool:
        return not self._running.is_set()


class _Worker:
    def __init__(
        self,
        load: Load,
        cloud: Cloud,
        downloads: Mapping[str, bytes],
        rng: random.Random,
        glance: str,
    ) -> None:
        self.is_at_work = False
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self.thread = threading.Thread(target=self._run, name="user", daemon=True)
        self._load = load
        self._ledger = load.ledger
        self._rng = rng
        self._downloads = dict(downloads)
        self._targets = sorted(cloud.targets)
        self._glance = glance
        self._keystone: Session = cloud.keystone.session("alice", "demo")
        self._http = requests.Session()
        self._http.trust_env = False
        self._what: Sequence[tuple[int, Callable[[], str | None]]] = (
            (10, self.upload),
            (2, self.upload_again),
            (3, self.import_staged),
            (1, self.stage_only),
            (2, self.import_from_web),
            (4, self.change),
            (4, self.read),
            (3, self.ask_for_replica),
            (6, self.delete),
        )

    def _run(self) -> None:
        while self._load.goes_on():
            self.is_at_work = True
            try:
                if not self._load.is_paused():
                    self._do_something()
            finally:
                self.is_at_work = False

    def _do_something(self) -> None:
        weights, actions = zip(*self._what, strict=True)
        (action,) = self._rng.choices(actions, weights)
        if len(self._ledger.left()) >= _MOST_IMAGES:
            action = self.delete
        try:
            outcome = action()
        except BrokenOff:
            outcome = "broken off by the client"
        except _FAILURES:
            outcome = "not answered"
        if outcome is not None:
            self.counts[action.__name__, outcome] += 1
        if outcome == "not answered":
            time.sleep(_AFTER_A_FAILURE_SECONDS)
        time.sleep(self._rng.uniform(0, _LONGEST_REST_SECONDS))

    # What users do; each returns its outcome, None where there was nothing to do it with.

    def upload(self) -> str:
        entry = self._create()
        try:
            return self._fill(entry)
        finally:
            self._ledger.let_go(entry)

    def upload_again(self) -> str | None:
        """Fill an image whose upload failed before."""
        entry = self._ledger.take(self._rng, filled=False)
        if entry is None:
            return None
        try:
            return self._fill(entry)
        finally:
            self._ledger.let_go(entry)

    def import_staged(self) -> str:
        entry = self._create()
        try:
            staged = self._stage(entry)
            return self._import(entry, {"name": "glance-direct"}) if staged == "done" else staged
        finally:
            self._ledger.let_go(entry)

    def stage_only(self) -> str:
        entry = self._create()
        try:
            return self._stage(entry)
        finally:
            self._ledger.let_go(entry)

    def import_from_web(self) -> str:
        url = self._rng.choice(sorted(self._downloads))
        entry = self._create()
        try:
            entry.sent.add(_sha512(self._downloads[url]))
            return self._import(entry, {"name": "web-download", "uri": url})
        finally:
            self._ledger.let_go(entry)

    def change(self) -> str | None:
        """Rename an image, or hide it or show it again.

        None that is being uploaded: Glance may write its earlier status back
        (doc/source/admin/troubleshooting.rst). Nor one that is being deleted.
        """
        entry = self._ledger.take(self._rng)
        if entry is None:
            return None
        changes = [
            {"op": "replace", "path": "/name", "value": f"name {self._rng.random()}"},
            {"op": "replace", "path": "/os_hidden", "value": self._rng.random() < 0.5},
        ]
        try:
            return self._outcome(
                "PATCH",
                f"images/{entry.image_id}",
                headers={"Content-Type": _PATCH_TYPE},
                json=[self._rng.choice(changes)],
            )
        finally:
            self._ledger.let_go(entry)

    def read(self) -> str | None:
        """Download an image and compare it with what was uploaded."""
        entry = self._ledger.pick(self._rng, filled=True)
        if entry is None:
            return None
        answer = self._request("GET", f"images/{entry.image_id}/file")
        if answer.status_code == 200 and _sha512(answer.content) != entry.acknowledged:
            self._ledger.report(f"image {entry.image_id}: a download had other bytes")
            return "other bytes"
        return _said(answer)

    def ask_for_replica(self) -> str | None:
        """Have an image synchronised to a target now."""
        entry = self._ledger.pick(self._rng)
        if entry is None:
            return None
        target = self._rng.choice(self._targets)
        return self._outcome("PUT", f"images/{entry.image_id}/replicas/{target}")

    def delete(self) -> str | None:
        """Delete an image, or try again where the answer did not come."""
        entry = self._ledger.take_to_delete(self._rng)
        if entry is None:
            return None
        is_second, entry.is_wanted = not entry.is_wanted, False
        try:
            answer = self._request("DELETE", f"images/{entry.image_id}")
            entry.is_deleted = answer.ok or (is_second and answer.status_code == 404)
            return _said(answer)
        finally:
            self._ledger.let_go(entry)

    def clear_away(self) -> None:
        give_up_at = time.monotonic() + _IMPORT_SECONDS
        for entry in self._ledger.left():
            while (status := self._status(entry)) == "importing":
                if time.monotonic() > give_up_at:
                    break
                time.sleep(_AFTER_A_FAILURE_SECONDS)
            if status is None:
                entry.is_deleted = not entry.is_wanted
            elif status in ("uploading", "importing") or not entry.is_wanted:
                entry.is_wanted = False
                entry.is_deleted = self._outcome("DELETE", f"images/{entry.image_id}") == "done"

    # Their requests

    def _status(self, entry: Entry) -> str | None:
        answer = self._request("GET", f"images/{entry.image_id}")
        return answer.json()["status"] if answer.ok else None

    def _create(self) -> Entry:
        body = {"name": "image", "disk_format": "raw", "container_format": "bare"}
        answer = self._request("POST", "images", json=body)
        answer.raise_for_status()
        return self._ledger.open(answer.json()["id"])

    def _fill(self, entry: Entry) -> str:
        body, digest = self._body(empty_share=0.05)
        entry.sent.add(digest)
        outcome = self._put(f"images/{entry.image_id}/file", body)
        if outcome == "done":
            entry.acknowledged = digest
        return outcome

    def _stage(self, entry: Entry) -> str:
        body, digest = self._body(empty_share=0.0)
        entry.sent.add(digest)
        return self._put(f"images/{entry.image_id}/stage", body)

    def _import(self, entry: Entry, method: Mapping[str, str]) -> str:
        return self._outcome(
            "POST", f"images/{entry.image_id}/import", json={"method": dict(method)}
        )

    def _put(self, path: str, body: Body) -> str:
        headers = {"Content-Type": "application/octet-stream"}
        # An iterable of no length at all would be sent chunked.
        data = b"" if isinstance(body, SizedBody) and not len(body) else body
        return self._outcome("PUT", path, data=data, headers=headers)

    def _body(self, *, empty_share: float) -> tuple[Body, str]:
        """A body of a size from 1 byte to the largest, all magnitudes alike, and its sha512."""
        rng = self._rng
        size = int(2 ** rng.uniform(0, LARGEST_BYTES.bit_length() - 1))
        data = b"" if rng.random() < empty_share else image_bytes(size, rng.randbytes)
        kind = SizedBody if rng.random() < 0.6 or not data else Body
        pause = rng.choice((0.0, rng.uniform(0, _LONGEST_PAUSE_SECONDS)))
        breaks_off_at = rng.randrange(len(data)) if data and rng.random() < 0.15 else None
        return kind(data, pause, breaks_off_at), _sha512(data)

    def _outcome(self, method: str, path: str, **arguments: Any) -> str:
        return _said(self._request(method, path, **arguments))

    def _request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        headers = {**arguments.pop("headers", {}), "X-Auth-Token": self._keystone.get_token()}
        url = f"{self._glance}v2/{path}"
        return self._http.request(
            method, url, headers=headers, timeout=_REQUEST_SECONDS, **arguments
        )


def _said(answer: requests.Response) -> str:
    if answer.ok:
        return "done"
    return "failed" if answer.status_code >= 500 else "refused"


def _sha512(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest()
