# SPDX-License-Identifier: Apache-2.0
"""A Glance that is measured, and what every contender needs from it."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import requests

from benchmarks.accounting import GLANCE
from benchmarks.bodies import Body
from tests.functional.cloud import Cloud
from tests.lab.glance import Glance
from tests.lab.keystone import Keystone
from tests.lab.process import Server, wait_until
from tests.lab.webservers import Nginx

# Nothing takes so long: what hangs ends the run.
SECONDS = 300
# uWSGI answers no Expect: 100-continue, for which curl would wait a second before each upload.
OCTETS = ["-H", "Content-Type: application/octet-stream", "-H", "Expect:"]


class Site:
    """A running Glance with nginx servers beside it; `cloud` is set where it has the filter."""

    def __init__(
        self,
        glance: Glance,
        keystone: Keystone,
        targets: Sequence[Any],
        cloud: Cloud | None = None,
        database: Server | None = None,
    ) -> None:
        self.glance = glance
        self.keystone = keystone
        self.targets = targets
        self.cloud = cloud
        self.database = database
        self._session = keystone.session()
        self._users_session = keystone.session("alice", "demo")
        self._http = requests.Session()
        self._http.trust_env = False

    def token(self) -> str:
        """The administrator's; made anew before it is too old."""
        return self._session.get_token() or ""

    def users_token(self) -> str:
        """One of an ordinary user, for whom the filter need not look for a write concern."""
        return self._users_session.get_token() or ""

    def url(self, image_id: str) -> str:
        return f"{self.glance.url}v2/images/{image_id}"

    def ask(
        self, method: str, url: str, token: str | None = None, **arguments: Any
    ) -> requests.Response:
        """Send a request to Glance.

        :param token: the administrator's by default
        :raises requests.HTTPError: Glance refuses it
        """
        headers = {"X-Auth-Token": token or self.token()}
        answer = self._http.request(method, url, headers=headers, timeout=SECONDS, **arguments)
        answer.raise_for_status()
        return answer

    def create(self, disk_format: str = "raw", token: str | None = None) -> str:
        """Make an image without data; returns its id."""
        body = {"name": "bench", "disk_format": disk_format, "container_format": "bare"}
        return self.ask("POST", f"{self.glance.url}v2/images", token, json=body).json()["id"]

    def image(self, image_id: str) -> dict[str, Any]:
        return self.ask("GET", self.url(image_id)).json()

    def put(self, body: Body, url: str, *curl: str) -> None:
        """Send the file with curl, in one request with Content-Length unless told otherwise.

        :raises subprocess.CalledProcessError: it was refused
        """
        token = ["-H", f"X-Auth-Token: {self.token()}"]
        command = ["curl", "-sSf", "-T", str(body.path), *token, *OCTETS, *curl, url]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def delete(self, image_id: str) -> None:
        """Delete the image; Glance may refuse it while it ends an import."""
        headers = {"X-Auth-Token": self.token()}

        def deleted() -> bool:
            answer = self._http.delete(self.url(image_id), headers=headers, timeout=SECONDS)
            return answer.status_code in (204, 404)

        wait_until(deleted, SECONDS, "the image is deleted")

    def forget(self, image_id: str) -> None:
        """Delete the image and all its copies, and wait until nobody is busy with it."""
        self.delete(image_id)
        for target in self.targets:
            for path in target.root.glob(f"{image_id}*"):
                path.unlink(missing_ok=True)
        if self.cloud is not None:
            self.cloud.wait_settled()

    def wait_for_locations(self, image_id: str, number: int) -> None:
        """Wait until the image has so many locations."""
        wait_until(
            lambda: len(self.image(image_id)["locations"]) >= number, SECONDS, "all locations"
        )

    def writer(self) -> psutil.Process:
        """The writer of a Glance with the filter."""
        assert self.cloud is not None, "there is no filter"
        return self.cloud.writer()

    def roles(self) -> Mapping[str, Sequence[int]]:
        """The processes that work for an upload, by kind."""
        nginx = [server.pid for server in map(behind, self.targets) if server.running]
        roles = {
            GLANCE: [self.glance.pid, *self.glance.worker_pids()],
            "targets": nginx,
            "Keystone": [self.keystone.pid, *self.keystone.worker_pids()],
        }
        if self.database is not None:
            roles["database"] = [self.database.pid]
        if self.cloud is not None:
            roles["writer"] = [self.writer().pid]
        return roles

    def downloads(self, image_id: str) -> int:
        """How often the image's data was asked for."""
        wanted = ("GET", f"/v2/images/{image_id}/file")
        return sum((each.method, each.path) == wanted for each in self.glance.requests())


def behind(target: Any) -> Nginx:
    """The server itself, where something stands before it."""
    return getattr(target, "server", target)


def timed(work: Any, *arguments: Any) -> float:
    """Seconds that a call takes."""
    began = time.monotonic()
    work(*arguments)
    return time.monotonic() - began
