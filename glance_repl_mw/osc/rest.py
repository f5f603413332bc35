# SPDX-License-Identifier: Apache-2.0
"""The REST resources of replicas, as the commands of openstackclient use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from openstack import exceptions as sdk_exceptions
from osc_lib import exceptions
from osc_lib.command.command import Command

from glance_repl_mw.foreign_text import printable

_MOST = 1000
_PASSING = (500, 502, 503, 504)


class Unavailable(exceptions.CommandError):
    """Glance, or a proxy before it, cannot answer now; asking again can help.

    :ivar retry_after_seconds: for how long it asked to be left alone
    """

    retry_after_seconds = 0.0


class Answer(NamedTuple):
    """A replica as the service shows it, and when it wants to be asked again."""

    replica: dict[str, Any]
    retry_after_seconds: float = 0.0


class ReplicaService:
    """Blocks; may be used from any thread.

    Every call raises ``CommandError`` with what Glance says when it does not answer 2xx.

    :param image_client: the image proxy of openstacksdk, with its session and endpoint
    """

    def __init__(self, image_client: Any) -> None:
        self._image_client = image_client

    @classmethod
    def of(cls, command: Command) -> ReplicaService:
        """The service that a command is to ask: region, interface and so on as it was told."""
        client_manager: Any = command.app.client_manager
        return cls(client_manager.image)

    def image_id(self, name_or_id: str) -> str:
        """The id of an image that is named as for ``openstack image show``."""
        image_id: str = self._image_client.find_image(name_or_id, ignore_missing=False).id
        return image_id

    def replicas(self, image_id: str) -> list[dict[str, Any]]:
        """The replicas of an image at all targets."""
        found = self._request("GET", f"/images/{image_id}/replicas").json()["replicas"]
        return [_printable(replica) for replica in found]

    def replica(self, image_id: str, target: str, wait_seconds: int = 0) -> Answer:
        """One replica; the service may wait so long until it is active."""
        parameters = {"wait": wait_seconds} if wait_seconds else {}
        return self._answer("GET", image_id, target, params=parameters)

    def synchronise(self, image_id: str, target: str) -> Answer:
        """Ask for the replica now; returns at once."""
        return self._answer("PUT", image_id, target)

    def delete(self, image_id: str, target: str) -> None:
        """Ask that location and object be removed; returns at once."""
        self._request("DELETE", _path(image_id, target))

    def targets(self) -> list[dict[str, Any]]:
        """What the caller may know of every target."""
        found = self._request("GET", "/replication/targets").json()["targets"]
        return [_printable(target) for target in found]

    def _answer(self, method: str, image_id: str, target: str, **arguments: Any) -> Answer:
        response = self._request(method, _path(image_id, target), **arguments)
        return Answer(_printable(response.json()), _retry_after(response.headers))

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        response = self._image_client.request(path, method, raise_exc=False, **arguments)
        try:
            sdk_exceptions.raise_from_response(response)
        except sdk_exceptions.HttpException as error:
            details = printable(str(error.details or ""), _MOST)
            message = f"{details} (HTTP {response.status_code})"
            if response.status_code not in _PASSING:
                raise exceptions.CommandError(message) from error
            unavailable = Unavailable(message)
            unavailable.retry_after_seconds = _retry_after(response.headers)
            raise unavailable from error
        return response


def _printable(answer: dict[str, Any]) -> dict[str, Any]:
    """What the service tells, with its texts, which come from servers, fit for a terminal."""
    return {
        name: printable(value, _MOST) if isinstance(value, str) else value
        for name, value in answer.items()
    }


def _path(image_id: str, target: str) -> str:
    return f"/images/{image_id}/replicas/{quote(target, safe='')}"


def _retry_after(headers: Mapping[str, str]) -> float:
    """The seconds of the header; a date counts as none, since the service sends seconds."""
    try:
        return max(0.0, float(headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0
