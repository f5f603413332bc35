# SPDX-License-Identifier: Apache-2.0
"""A whole deployment: Keystone, Glance with the filter, and the targets that it replicates to.

::

    with Cloud(workdir("cloud"), keystone) as cloud:
        image_id = cloud.new_image(b"body")
        cloud.wait_replicated(image_id)

Every wait ends with a TimeoutError that says what was waited for.
"""

import functools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import oslo_db.exception
import psutil
import requests
from requests.adapters import HTTPAdapter

from glance_repl_mw.checks.database import sqlite_file
from glance_repl_mw.db import schema
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.targets.guarded import MARKER
from tests.lab.copies import Copies
from tests.lab.databases import DatabaseServer
from tests.lab.faults import FaultyProxy
from tests.lab.galera import Galera
from tests.lab.glance import Glance, Options
from tests.lab.keystone import Keystone
from tests.lab.process import Request, Server, wait_until
from tests.lab.uwsgi import PATIENT_SQLITE
from tests.lab.webservers import Nginx

MIB = 1 << 20
CHUNK_BYTES = 256 << 10
# Longer than a target may stall by default: such a push is tried again, and succeeds.
WAIT_SECONDS = 150
KEPT = {"writer.lock", "api.lock", "locks", "node", "bell", "deployment", "secret"}
TOP = Path(__file__).parents[2]
CLOSED = (ReplicaStatus.ACTIVE, ReplicaStatus.DELETED)


class Cloud:
    """Glance with the filter, and targets by name; the Keystone is shared and keeps running.

    :param targets: servers by name, started with the cloud unless they run already; each has
        `url`, `port` and, for what reads objects, `root`. Three Nginx by default: site-a to site-c
    :param target_options: options for the section [replication:NAME] by target name
    :param options: sections for glance-api.conf; they win over what is written here
    :param server: how Glance is served
    :param connection: SQLAlchemy URL of the replicas' database, whose tables are made at the
        start; an SQLite file by default
    :param glance: further arguments of `tests.lab.glance.Glance` (stores, processes, ...)
    :ivar glance: the Glance server: reload(), kill(), requests(), worker_pids(), log ...
    :ivar targets: the servers by name
    :ivar nodes: the Glance servers of all nodes, here just the one
    :ivar spool: the spool directory
    :ivar connection: SQLAlchemy URL of the replicas' database
    :ivar ways_to_glance: by which each node's writer reaches Glance, where that can be cut; they
        start and stop with the cloud
    :ivar other_glances: Glances of the same Keystone that have nothing to do with it, by name;
        not started, and stopped with the cloud
    :ivar database: the server of ``connection``, where its writes can be refused
    :ivar copies: of what the rows were at earlier times, where such are taken
    """

    ways_to_glance: Sequence[FaultyProxy] = ()
    other_glances: Mapping[str, Glance] = MappingProxyType({})
    database: DatabaseServer | Galera | None = None
    copies: Copies | None = None

    def __init__(
        self,
        directory: Path,
        keystone: Keystone,
        *,
        targets: Mapping[str, Any] | None = None,
        target_options: Options | None = None,
        options: Options | None = None,
        server: type[Glance] = Glance,
        connection: str | None = None,
        **glance: Any,
    ) -> None:
        self.directory = directory
        self.keystone = keystone
        self.spool = directory / "spool"
        self.connection = connection or f"sqlite:///{directory}/replication.sqlite"
        self.targets = dict(targets) if targets is not None else three_targets(directory)
        self.glance = server(
            directory / "glance",
            keystone,
            target_ports=[target.port for target in self.targets.values()],
            replication=True,
            **{"uwsgi_arguments": PATIENT_SQLITE, **glance},
        )
        self.glance.options = merged(self._options(target_options or {}), options or {})
        self.nodes = [self.glance]
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.mount("http://", HTTPAdapter(pool_maxsize=64))
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}
        self._store: ReplicaStore | None = None

    # Life

    def start(self) -> Self:
        """Start the targets and ways that do not run yet, then Glance."""
        for target in self.targets.values():
            if not target.running:
                target.start()
        for way in self.ways_to_glance:
            if not way.running:
                way.start()
        if not self.connection.startswith("sqlite"):
            schema.upgrade(schema.open_database(self.connection))
        self.glance.start()
        return self

    def stop(self) -> None:
        """Stop everything but Keystone; the embedded writer ends with Glance, or is killed."""
        self.glance.stop()
        try:
            wait_until(lambda: not self.writers(), 60, "the writer ends after Glance")
        finally:
            for writer in self.writers():
                writer.kill()
            for each in (
                *self.ways_to_glance,
                *self.other_glances.values(),
                *self.targets.values(),
            ):
                each.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    # Requests to Glance

    def token(self, user: str = "alice") -> str:
        """A token of `alice` (member of `demo`), `admin` or `replicator`; made once."""
        with self._lock:
            if user not in self._tokens:
                project = {"alice": "demo", "replicator": "service"}.get(user, user)
                self._tokens[user] = self.keystone.session(user, project).get_token() or ""
            return self._tokens[user]

    def request(
        self,
        method: str,
        path: str,
        *,
        user: str | None = "alice",
        headers: Mapping[str, str] | None = None,
        glance: Glance | None = None,
        **arguments: Any,
    ) -> requests.Response:
        """Send a request to Glance, or to another one; blocks; whatever the status is.

        :param path: begins with v2/
        :param user: whose token is sent, None for no token
        """
        sent = {"X-Auth-Token": self.token(user)} if user else {}
        url = f"{(glance or self.glance).url}{path}"
        return self._http.request(method, url, headers={**sent, **(headers or {})}, **arguments)

    def create_image(
        self, *, user: str = "alice", glance: Glance | None = None, **properties: str
    ) -> str:
        """Make an image record, raw and bare unless said otherwise; returns its id."""
        body = {
            "name": "image", "disk_format": "raw", "container_format": "bare", **properties
        }  # fmt: skip
        answer = self.request("POST", "v2/images", json=body, user=user, glance=glance)
        answer.raise_for_status()
        return answer.json()["id"]

    def upload(
        self,
        image_id: str,
        body: Any,
        *,
        chunked: bool = False,
        announce: int | None = None,
        headers: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> requests.Response:
        """PUT the image's data; returns Glance's answer, whatever its status.

        :param body: bytes, sent with Content-Length; or an iterable of bytes, sent chunked
        :param chunked: send bytes chunked as well
        :param announce: the value of x-openstack-image-size, None for no such header
        :param arguments: as for request()
        """
        sent = {"Content-Type": "application/octet-stream", **(headers or {})}
        if announce is not None:
            sent["x-openstack-image-size"] = str(announce)
        data = pieces(body) if chunked and isinstance(body, bytes) else body
        if data == b"":
            sent["Content-Length"] = "0"
        path = f"v2/images/{image_id}/file"
        return self.request("PUT", path, data=data, headers=sent, **arguments)

    def new_image(self, body: Any, **upload: Any) -> str:
        """Create an image, upload its data and see that Glance answered 204; returns its id."""
        image_id = self.create_image()
        answer = self.upload(image_id, body, **upload)
        assert answer.status_code == 204, (answer.status_code, answer.text)
        return image_id

    def image(self, image_id: str) -> dict[str, Any]:
        """The image's record as the administrator sees it, with its locations."""
        answer = self.request("GET", f"v2/images/{image_id}", user="admin")
        answer.raise_for_status()
        return answer.json()

    def locations(self, image_id: str) -> list[str]:
        """The URLs of all locations, the primary store's first."""
        return [location["url"] for location in self.image(image_id)["locations"]]

    def forget(self, image_id: str) -> None:
        """Delete the image, and its objects at the targets, to have the room again."""
        self.request("DELETE", f"v2/images/{image_id}", user="admin")
        for target in self.targets.values():
            for path in target.root.glob(f"{image_id}*"):
                path.unlink(missing_ok=True)

    # What replication has done

    def rows(self, image_id: str | None = None) -> list[Replica]:
        """The replicas' rows that count, of one image or of all; none before the first start."""
        file = sqlite_file(self.connection)
        if file is not None and not file.exists():
            return []
        if self._store is None:
            self._store = ReplicaStore(schema.open_database(self.connection))
        try:
            return self._store.replicas(image_id)
        except oslo_db.exception.DBNonExistentTable:
            # The first writer is just making the file.
            return []

    def row(self, image_id: str, target: str) -> Replica | None:
        """The row of one image at one target."""
        return next((row for row in self.rows(image_id) if row.target == target), None)

    def statuses(self, image_id: str) -> dict[str, str]:
        """The status word by target."""
        return {row.target: str(row.status) for row in self.rows(image_id)}

    def replica_urls(self, image_id: str, targets: Iterable[str] | None = None) -> dict[str, str]:
        """The locations at these targets (all by default) by target name; missing: no key."""
        urls = self.locations(image_id)
        found: dict[str, str] = {}
        for name in self.targets if targets is None else targets:
            here = [url for url in urls if url.startswith(self.targets[name].url)]
            assert len(here) < 2, f"{name} is named twice: {here}"
            if here:
                found[name] = here[0]
        return found

    def wait_replicated(
        self, image_id: str, targets: Sequence[str] | None = None, seconds: float = WAIT_SECONDS
    ) -> dict[str, str]:
        """Wait until the targets (all by default) are locations and their rows `active`.

        Returns the locations' URLs by target name.
        """
        wanted = set(self.targets if targets is None else targets)

        def done() -> dict[str, str]:
            active = {row.target for row in self.rows(image_id) if row.status == "active"}
            found = self.replica_urls(image_id, wanted) if wanted <= active else {}
            return found if set(found) == wanted else {}

        try:
            return wait_until(done, seconds, "replicated")
        except TimeoutError as error:
            rows = [(row.target, str(row.status), row.error) for row in self.rows(image_id)]
            raise TimeoutError(f"{image_id} is not replicated: {rows}") from error

    def wait_settled(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the spool is empty and the writer has nothing more to do.

        Every row is then `active`, `deleted`, or in `error` without a next attempt.
        """
        try:
            wait_until(lambda: not self.spool_files() and not self.open_rows(), seconds, "settled")
        except TimeoutError as error:
            rows = [(row.image_id, row.target, str(row.status)) for row in self.open_rows()]
            raise TimeoutError(f"spool {self.spool_files()}, open rows {rows}") from error

    def open_rows(self) -> list[Replica]:
        """Rows that the writer still has something to do about."""
        return [
            row
            for row in self.rows()
            if row.status not in CLOSED
            and (row.status != ReplicaStatus.ERROR or row.next_attempt_at is not None)
        ]

    def spool_files(self) -> set[str]:
        """Names of the files in the spool; those that always stay are left out."""
        return set(os.listdir(self.spool)) - KEPT

    def object_bytes(self, target: str, url: str) -> bytes:
        """The object of a location, as it lies on the target's disk."""
        server = self.targets[target]
        assert url.startswith(server.url), url
        return (server.root / url.removeprefix(server.url)).read_bytes()

    def objects(self, image_id: str = "") -> dict[str, list[str]]:
        """Names of the files by target; only targets that have some.

        Unfinished ones are among them, the markers are not.

        :param image_id: only files whose name holds it
        """
        found = {name: sorted(_files(server, image_id)) for name, server in self.targets.items()}
        return {name: names for name, names in found.items() if names}

    def puts(self, image_id: str, target: str) -> list[tuple[str, int]]:
        """Path and status of each PUT for the image in the target's access log."""
        return [
            (path, status)
            for method, path, status in self.targets[target].requests()
            if method == "PUT" and image_id in path
        ]

    def assert_replicated(self, image_id: str, body: bytes) -> None:
        """Wait until the image is replicated, and see that each target has it once, all of it.

        That is: one location, one file with the body and nothing else of the image, and a row
        that tells of no failure; besides the targets the image has one location, the primary's.
        """
        urls = self.wait_replicated(image_id)
        self.wait_settled()
        for name, url in urls.items():
            assert self.object_bytes(name, url) == body, f"{name} has other bytes"
            # What earlier attempts have left goes a little later.
            only = [url.rpartition("/")[2]]
            has_only = functools.partial(self._has, image_id, name, only)
            wait_until(has_only, WAIT_SECONDS, f"{name} has only {only}")
            row = self.row(image_id, name)
            assert row and (row.attempts, row.error, row.next_attempt_at) == (0, None, None), row
        assert len(self.locations(image_id)) == 1 + len(urls)

    def _has(self, image_id: str, target: str, names: list[str]) -> bool:
        return self.objects(image_id).get(target) == names

    def downloads(self, image_id: str) -> list[Request]:
        """The requests for the image's data that Glance has in its log."""
        path = f"/v2/images/{image_id}/file"
        return [
            each for each in self.glance.requests() if (each.method, each.path) == ("GET", path)
        ]

    def assert_no_trace(self, image_id: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until replication has ended with a refused upload, and see that it left nothing.

        That is: an empty spool, no file at any target, no row other than a `deleted` one. What was
        active already goes a little later.
        """
        self.wait_settled(seconds)
        try:
            wait_until(
                lambda: set(self.statuses(image_id).values()) <= {"deleted"}, seconds, "deleted"
            )
        except TimeoutError as error:
            raise TimeoutError(f"{image_id} is left: {self.statuses(image_id)}") from error
        assert not self.objects(image_id), self.objects(image_id)

    # Processes

    def writers(self) -> list[psutil.Process]:
        """The embedded writers that run for this Glance: at most one, unless there is a bug."""
        return writers_of(self.glance)

    def wake(self) -> None:
        """Send each node that runs a request, with which its writer starts."""
        for node in self.nodes:
            if node.running:
                self.request("GET", "v2/images", glance=node).raise_for_status()

    def spool_of(self, node: Glance) -> Path:
        """The spool directory of a node."""
        return Path(node.options["replication"]["spool_dir"])

    def writer(self, seconds: float = WAIT_SECONDS) -> psutil.Process:
        """The embedded writer; waits until it runs (Glance starts it with its first request)."""
        return wait_until(self.writers, seconds, "a writer runs")[0]

    def _options(self, target_options: Options) -> Options:
        replication = {
            "enabled_targets": ",".join(f"{name}:http" for name in self.targets),
            "spool_dir": str(self.spool),
            "connection": self.connection,
            "auth_type": "password",
            "endpoint_override": self.glance.url,
            # A small file system under the tests is no reason not to spool.
            "spool_min_free_bytes": str(16 * MIB),
            # Other tests keep the processors busy, and no test waits for its replicas for ever.
            "writer_nice": "0",
            "give_way_seconds": "0",
            **self.keystone.credentials("replicator", "service"),
        }
        sections = {
            f"replication:{name}": {"url": target.url, **target_options.get(name, {})}
            for name, target in self.targets.items()
        }
        return {"replication": replication, **sections}


def writers_of(glance: Glance) -> list[psutil.Process]:
    """The embedded writers that run for this Glance."""
    mark = str(glance.config_dir)
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if "glance_repl_mw.cmd.writer" in words and any(mark in word for word in words):
            found.append(process)
    return found


def three_targets(directory: Path) -> dict[str, Nginx]:
    """Three Nginx, not started, by the names that targets have by default."""
    return {name: Nginx(directory / name) for name in ("site-a", "site-b", "site-c")}


def pieces(body: bytes, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The body as a client sends it chunked."""
    view = memoryview(body)
    for offset in range(0, len(body), size):
        yield bytes(view[offset : offset + size])


def at_once(number: int, work: Any, arguments: Iterable[Any]) -> list[Any]:
    """Call `work` with each argument, so many at a time; returns the results in order."""
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(work, arguments))


def merged(*layers: Options) -> dict[str, dict[str, str]]:
    """Sections of configuration files laid over each other, option by option."""
    result: dict[str, dict[str, str]] = {}
    for layer in layers:
        for section, values in layer.items():
            result.setdefault(section, {}).update(values)
    return result


def _files(server: Server, part: str) -> Iterator[str]:
    root: Path = server.root  # type: ignore[attr-defined]
    for path in root.rglob("*"):
        if path.is_file() and part in path.name and path.name != MARKER:
            yield path.name
