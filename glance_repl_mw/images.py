"""Glance as the service user sees it: reading an image, adding locations.

This is the only place where locations have signatures: they are signed on the way to Glance, and
are plain URLs everywhere else.
"""

from __future__ import annotations

import contextlib
import datetime
import http
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import glanceclient.exc
import keystoneauth1.exceptions
import requests
from glanceclient.v2 import client as glance_client
from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import credentials, exceptions, patches
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.model import Image
from glance_repl_mw.own_requests import OwnRequests
from glance_repl_mw.signing import without_signatures

USER_AGENT = "glance-repl-mw"
_CHANGE_ATTEMPTS = 5
_MOST_OF_AN_ERROR = 500
# Glance shows these for a moment, and for ever where it died in the middle of a delete.
_BEING_DELETED = ("deleted", "pending_delete")
_NO_PROPERTY = "glance_repl_no_such_property"
_PATCH_TYPE = "application/openstack-images-v2.1-json-patch"


class ImageService:
    """Glance's API with the service user's credentials from ``[replication]``.

    May be used from any thread. Every call blocks and may raise ``GlanceUnavailable`` (a retry can
    help), ``GlanceRefused`` (it cannot) or ``ImageGone``.

    :param sign: gives the URL that Glance gets for a location; by default the same
    :raises ConfigError: the credentials' options are incomplete; opens no connection
    """

    def __init__(self, conf: cfg.ConfigOpts, sign: Callable[[str], str] = str) -> None:
        adapter = credentials.load_adapter(conf)
        self._session = adapter.session
        self._sign = sign
        self._own = OwnRequests(conf)
        self._client = glance_client.Client(
            session=adapter.session,
            service_type=adapter.service_type,
            service_name=adapter.service_name,
            interface=adapter.interface,
            region_name=adapter.region_name,
            endpoint_override=adapter.endpoint_override,
            user_agent=USER_AGENT,
        )

    def get(self, image_id: str) -> Image:
        """Glance's record of an image."""
        operation = "read the image"
        image = image_of(self._request(image_id, operation, "GET", f"/v2/images/{image_id}"))
        if image.status in _BEING_DELETED:
            raise exceptions.ImageGone(image_id, None, operation, f"it is {image.status}")
        return image

    def find(self, image_ids: Sequence[str]) -> dict[str, Image]:
        """Glance's records of several images, in one request, or two where some are hidden."""
        images: dict[str, Image] = {}
        for more in ("", "&os_hidden=true"):
            missing = [image_id for image_id in image_ids if image_id not in images]
            if missing:
                path = f"/v2/images?visibility=all&limit={len(missing)}&id=in:{','.join(missing)}"
                body = self._request(None, "list images", "GET", path + more)
                found = {each["id"]: image_of(each) for each in body["images"]}
                images |= found | _asked_otherwise(missing, found)
        return {
            image_id: image
            for image_id, image in images.items()
            if image.status not in _BEING_DELETED
        }

    def page(self, after: str | None, limit: int, *, hidden: bool = False) -> list[Image]:
        """The next images, of all projects, in Glance's own order.

        :param after: the last image of the page before, None for the first page
        :param hidden: the hidden ones instead of the others
        :raises ImageGone: Glance does not know the image ``after`` any more
        """
        path = f"/v2/images?visibility=all&limit={limit}&sort=created_at:asc,id:asc"
        path += "&os_hidden=true" if hidden else ""
        path += f"&marker={after}" if after else ""
        try:
            body = self._request(after, "list images", "GET", path)
        except exceptions.GlanceRefused as error:
            if after is None or status_of(error) != http.HTTPStatus.BAD_REQUEST:
                raise
            raise exceptions.ImageGone(after, None, error.operation, error.hint) from error
        return [image_of(each) for each in body["images"]]

    def download(self, image_id: str) -> Iterator[bytes]:
        """The image's bytes, in blocks, from whichever location Glance reads them."""
        with _translated(image_id, "download the image"):
            _, blocks = self._ask("GET", f"/v2/images/{image_id}/file")
            if not isinstance(blocks, Iterator):
                raise exceptions.GlanceUnavailable(
                    image_id, None, "download the image", "Glance answers without data"
                )
            yield from blocks

    def remove_locations(self, image_id: str, urls: Collection[str]) -> Collection[str]:
        """Remove locations, but never the last one; returns those that stay for that reason.

        :raises GlanceUnavailable: also where others change the locations all the time
        :raises GlanceRefused:
        :raises ImageGone:
        """
        left = self._change_locations(
            image_id, "remove locations", lambda found: patches.removals(found, urls)
        )
        return [url for url in map(patches.plain_url, left) if url in urls]

    def replace_locations(self, image_id: str, replaced: Mapping[str, str]) -> None:
        """Give locations other URLs, all in one request; what is there no more is left out.

        :param replaced: the new URL by the present one, both as Glance has them
        :raises GlanceUnavailable: also where others change the locations all the time, or Glance
            cannot read the new ones
        :raises GlanceRefused:
        :raises ImageGone:
        """
        self._change_locations(
            image_id, "replace locations", lambda found: patches.replacements(found, replaced)
        )

    def _change_locations(
        self,
        image_id: str,
        operation: str,
        changes_of: Callable[[Sequence[patches.Location]], Sequence[patches.Change]],
    ) -> Sequence[patches.Location]:
        """Change the locations until nothing is to be changed any more; returns them.

        Glance removes by position, and with a location of its own store goes the data. So the
        request begins with replacing the locations by those that were read: Glance refuses that
        as soon as others are there, and puts them into the order in which they were read.
        """
        refusal: exceptions.GlanceRefused | None = None
        for _ in range(_CHANGE_ATTEMPTS):
            found = self._locations(image_id)
            changes = changes_of(found)
            if not changes:
                return found
            try:
                self._patch(image_id, operation, [patches.unchanged(found), *changes])
            except exceptions.GlanceRefused as error:
                if status_of(error) != http.HTTPStatus.BAD_REQUEST:
                    raise
                refusal = error
        hint = refusal.hint if refusal else "others add them again all the time"
        raise exceptions.GlanceUnavailable(image_id, None, operation, hint) from refusal

    def add_locations(self, image_id: str, urls: Sequence[str]) -> Image:
        """Add locations at the end of an image's list, all in one request or none.

        Returns the image as Glance stored it.
        """
        locations = [{"url": self._sign(url), "metadata": {}} for url in urls]
        return image_of(self._patch(image_id, "add locations", patches.additions(locations)))

    def create(self, image_id: str, name: str, owner: str) -> None:
        """Make an image without data that belongs to the project ``owner``."""
        body = {
            "id": image_id,
            "name": name,
            "owner": owner,
            "visibility": "private",
            "disk_format": "raw",
            "container_format": "bare",
        }
        self._send(image_id, "create the image", "POST", "/v2/images", data=body)

    def find_foreign(self) -> str | None:
        """An active image that another project has for itself, None where this user sees none."""
        own = self._session.get_project_id()
        for visibility in ("private", "shared"):
            path = f"/v2/images?visibility={visibility}&status=active&limit=100"
            for image in self._request(None, "list images", "GET", path)["images"]:
                if image["owner"] != own:
                    return image["id"]
        return None

    def try_location(self, image_id: str, url: str) -> None:
        """Have Glance judge a location without adding it.

        The request ends with a change that Glance refuses to everybody, for one reason or another;
        it makes all changes of a request or none.

        :raises GlanceRefused: it refuses the location
        """
        changes: list[Mapping[str, Any]] = [
            {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}},
            {"op": "remove", "path": f"/{_NO_PROPERTY}"},
        ]
        try:
            self._patch(image_id, "try a location", changes)
        except exceptions.GlanceRefused as error:
            if status_of(error) not in (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.CONFLICT):
                raise

    def delete(self, image_id: str) -> None:
        """Delete an image."""
        self._send(image_id, "delete the image", "DELETE", f"/v2/images/{image_id}")

    def authenticate(self) -> None:
        """Get a token from Keystone, unless there is one already."""
        with _translated(None, "authenticate"):
            self._session.get_auth_headers()

    def _locations(self, image_id: str) -> Sequence[patches.Location]:
        body = self._request(image_id, "read the image", "GET", f"/v2/images/{image_id}")
        return body.get("locations", ())

    def _patch(
        self, image_id: str, operation: str, changes: Sequence[patches.Change]
    ) -> Mapping[str, Any]:
        return self._request(
            image_id,
            operation,
            "PATCH",
            f"/v2/images/{image_id}",
            headers={"Content-Type": _PATCH_TYPE},
            data=json.dumps(changes),
        )

    def _request(
        self, image_id: str | None, operation: str, method: str, path: str, **kwargs: Any
    ) -> Mapping[str, Any]:
        body = self._send(image_id, operation, method, path, **kwargs)
        if not isinstance(body, Mapping):
            raise exceptions.GlanceUnavailable(image_id, None, operation, "no JSON in the answer")
        return body

    def _send(
        self, image_id: str | None, operation: str, method: str, path: str, **kwargs: Any
    ) -> Any:
        with _translated(image_id, operation):
            _, body = self._ask(method, path, **kwargs)
        return body

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> Any:
        headers = {**(headers or {}), **self._own.headers(method, path)}
        return self._client.http_client.request(path, method, headers=headers, **kwargs)


def status_of(error: exceptions.GlanceRefused) -> int:
    """The HTTP status that Glance or Keystone refused with."""
    return _http_status(error.__cause__)


@contextlib.contextmanager
def _translated(image_id: str | None, operation: str) -> Iterator[None]:
    """Turn the errors of the clients into those of ``ImageService``."""
    try:
        yield
    except glanceclient.exc.HTTPNotFound as error:
        raise exceptions.ImageGone(image_id, None, operation, _text(error)) from error
    except (glanceclient.exc.HTTPException, keystoneauth1.exceptions.HttpError) as error:
        status = _http_status(error)
        kind = (
            exceptions.GlanceUnavailable
            if status >= 500 or status in (0, 408, 429)
            else exceptions.GlanceRefused
        )
        raise kind(image_id, None, operation, _text(error)) from error
    except (
        glanceclient.exc.BaseException,
        keystoneauth1.exceptions.ClientException,
        requests.RequestException,  # an answer that breaks off
        KeyError,  # glanceclient's, of an error without a Content-Type, as proxies send them
    ) as error:
        raise exceptions.GlanceUnavailable(image_id, None, operation, _text(error)) from error


def _http_status(error: BaseException | None) -> int:
    """0 where it is not known: glanceclient keeps only the most common ones."""
    found = (getattr(error, name, None) for name in ("http_status", "code"))
    return next((status for status in found if isinstance(status, int)), 0)


def _asked_otherwise(asked: Sequence[str], found: Mapping[str, Image]) -> dict[str, Image]:
    """By ids as they were asked for, images that Glance has with other capitals in their ids.

    Some databases find them so; who asks must not take them for missing.
    """
    by_letters = {image_id.lower(): image for image_id, image in found.items()}
    return {
        image_id: by_letters[image_id.lower()]
        for image_id in asked
        if image_id not in found and image_id.lower() in by_letters
    }


_HASHES = ("checksum", "os_hash_algo", "os_hash_value")
_AS_THEY_ARE = ("size", *_HASHES, "visibility", "owner", "container_format", "disk_format")


def image_of(body: Mapping[str, Any]) -> Image:
    """The image that Glance shows so."""
    locations = body.get("locations", ())
    return Image(
        image_id=body["id"],
        status=body["status"],
        locations=tuple(dict.fromkeys(map(patches.plain_url, locations))),
        given_locations=tuple(location["url"] for location in locations),
        updated_at=_time(body.get("updated_at")),
        tags=frozenset(body.get("tags", ())),
        properties={name: value for name, value in body.items() if isinstance(value, str)},
        **{name: body.get(name) for name in _AS_THEY_ARE},
    )


def _time(text: str | None) -> datetime.datetime | None:
    return timeutils.normalize_time(timeutils.parse_isotime(text)) if text else None


def _text(error: Exception) -> str:
    return printable(without_signatures(str(error)), _MOST_OF_AN_ERROR) or type(error).__name__
