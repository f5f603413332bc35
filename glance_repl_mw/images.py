# SPDX-License-Identifier: Apache-2.0
"""Glance as the service user sees it: reading an image, adding locations.

This is the only place where locations have signatures: they are signed on the way to Glance, and
are plain URLs everywhere else.
"""

from __future__ import annotations

import contextlib
import http
import json
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import Any
from urllib import parse

from glanceclient.v2 import client as glance_client
from oslo_config import cfg

from glance_repl_mw import bounded, credentials, exceptions, patches
from glance_repl_mw.answers import Listing, image_of, listing_of, locations_of
from glance_repl_mw.causes import causes
from glance_repl_mw.glance_errors import http_status, translated
from glance_repl_mw.model import Image
from glance_repl_mw.own_requests import NO_CACHE, OwnRequests

USER_AGENT = "glance-repl-mw"
_BLOCK_BYTES = 1024**2
_CHANGE_ATTEMPTS = 5
# Glance shows these for a moment, and for ever where it died in the middle of a delete.
_BEING_DELETED = ("deleted", "pending_delete")
_NO_PROPERTY = "glance_repl_no_such_property"
_LIST = "list images"
# So many images are looked at for one of another project, unless Glance shows fewer at once.
_FOREIGN_PAGE = 100
_FOREIGN_PAGES = 20
_PATCH_TYPE = "application/openstack-images-v2.1-json-patch"


class ImageService:
    """Glance's API with the service user's credentials from ``[replication]``.

    May be used from any thread. Every call blocks and may raise ``GlanceUnavailable`` (a retry can
    help), ``GlanceRefused`` (it cannot) or ``ImageGone``.

    :param sign: gives the URL that Glance gets for a location; by default the same
    :param readability: of locations, as far as is known
    :raises ConfigError: the credentials' options are incomplete; opens no connection
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        sign: Callable[[str], str] = str,
        readability: patches.Readability = patches.NOTHING_KNOWN,
    ) -> None:
        adapter = credentials.load_adapter(conf)
        self._session = adapter.session
        self._sign = sign
        self._readability = readability
        self._own = OwnRequests(conf)
        self._timeout_seconds = conf.replication.timeout
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
        image = image_of(self._record(image_id, operation), image_id)
        if image.status in _BEING_DELETED:
            raise exceptions.ImageGone(image_id, None, operation, f"it is {image.status}")
        return image

    def find(self, image_ids: Collection[str]) -> dict[str, Image]:
        """Glance's records of those of the images that it lists, by the ids that were asked for.

        One request where Glance shows all of them, and one for those that are hidden. Glance may
        show fewer images at once than it is asked for: then those that remain are asked for.
        """
        found: dict[str, Image] = {}
        for hidden in (False, True):
            has_more = True
            while has_more and (missing := [each for each in image_ids if each not in found]):
                page = self._some_of(missing, hidden)
                images = {image.image_id.lower(): image for image in page.images}
                found |= {each: images[each.lower()] for each in missing if each.lower() in images}
                has_more = page.has_more and bool(page.images)
        return {
            image_id: image
            for image_id, image in found.items()
            if image.status not in _BEING_DELETED
        }

    def page(self, after: str | None, limit: int, *, hidden: bool = False) -> list[Image]:
        """The next images, of all projects, in Glance's own order; none only at the end.

        They may be fewer than ``limit`` before the end.

        :param after: the last image of the page before, None for the first page
        :param hidden: the hidden ones instead of the others
        :raises ImageGone: Glance does not know the image ``after`` any more
        """
        query = {"visibility": "all", "sort": "created_at:asc,id:asc"}
        query |= {"os_hidden": "true"} if hidden else {}
        page = self._page(query, after, limit)
        if any(image.image_id == after for image in page.images):
            hint = "Glance's list of images leads in a circle"
            raise exceptions.GlanceUnavailable(after, None, _LIST, hint)
        return page.images

    def _some_of(self, image_ids: Sequence[str], hidden: bool) -> Listing:
        """Those of the images that Glance shows on one page; large records halve the page."""
        query = {"visibility": "all", "limit": len(image_ids), "id": f"in:{','.join(image_ids)}"}
        query |= {"os_hidden": "true"} if hidden else {}
        try:
            body = self._request(None, _LIST, "GET", _path(query))
        except exceptions.GlanceUnavailable as error:
            if not _is_too_large(error) or len(image_ids) == 1:
                raise
            first = self._some_of(image_ids[: len(image_ids) // 2], hidden)
            second = self._some_of(image_ids[len(image_ids) // 2 :], hidden)
            return Listing([*first.images, *second.images], first.has_more or second.has_more)
        return listing_of(body, len(image_ids), image_ids)

    def _page(self, query: Mapping[str, Any], after: str | None, limit: int) -> Listing:
        """As ``page``, with this query; large records halve the page."""
        marker = {"marker": after} if after else {}
        try:
            path = _path({**query, "limit": limit, **marker})
            return listing_of(self._request(after, _LIST, "GET", path), limit, None)
        except exceptions.GlanceUnavailable as error:
            if not _is_too_large(error) or limit == 1:
                raise
            return self._page(query, after, limit // 2)
        except exceptions.GlanceRefused as error:
            if after is None or status_of(error) != http.HTTPStatus.BAD_REQUEST:
                raise
            raise exceptions.ImageGone(after, None, error.operation, error.hint) from error

    def download(self, image_id: str, *, past_cache: bool = False) -> Generator[bytes, None, None]:
        """The image's bytes as they come, from whichever location Glance reads them.

        A block may be of a single byte, so that who reads sees how slowly they come.

        :param past_cache: not from Glance's image cache; a Glance without the filter may still
        """
        headers = {"Cache-Control": NO_CACHE} if past_cache else None
        operation = "download the image"
        with self._translated(image_id, operation):
            path = f"{_image_path(image_id)}/file"
            response, blocks = self._ask("GET", path, headers)
            if not isinstance(blocks, Iterator):
                raise exceptions.GlanceUnavailable(
                    image_id, None, operation, "Glance answers without data"
                )
            with response:
                while block := bounded.part(response, _BLOCK_BYTES):
                    yield block

    def remove_locations(
        self, image_id: str, urls: Collection[str], proven: str | None = None
    ) -> Collection[str]:
        """Remove locations, but never the last one, nor the last one that can be read.

        Returns those that stay for that reason.

        :param proven: another location that was just seen to be readable

        :raises GlanceUnavailable: also where others change the locations all the time
        :raises GlanceRefused:
        :raises ImageGone:
        """
        left = self._change_locations(
            image_id,
            "remove locations",
            lambda found: patches.removals(found, urls, self._readability, proven),
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
            found = self._locations(image_id, operation)
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
        body = self._patch(image_id, "add locations", patches.additions(locations))
        return image_of(body, image_id)

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
        with self._translated(None, "authenticate"):
            own = self._session.get_project_id()
        for visibility in ("private", "shared"):
            query = {"visibility": visibility, "status": "active"}
            after: str | None = None
            for _ in range(_FOREIGN_PAGES):
                page = self._page(query, after, _FOREIGN_PAGE)
                for image in page.images:
                    if image.owner != own:
                        return image.image_id
                if not page.has_more or not page.images:
                    break
                after = page.images[-1].image_id
        return None

    def try_location(self, image_id: str, url: str) -> None:
        """Have Glance judge a location without adding it.

        The request ends with a change that Glance refuses to everybody, for one reason or another;
        it makes all changes of a request or none.

        :raises GlanceRefused: it refuses the location
        """
        changes: list[Mapping[str, Any]] = [
            *patches.additions([{"url": self._sign(url), "metadata": {}}]),
            {"op": "remove", "path": f"/{_NO_PROPERTY}"},
        ]
        try:
            self._patch(image_id, "try a location", changes)
        except exceptions.GlanceRefused as error:
            if status_of(error) not in (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.CONFLICT):
                raise

    def delete(self, image_id: str) -> None:
        """Delete an image."""
        self._send(image_id, "delete the image", "DELETE", _image_path(image_id))

    def project_id(self) -> str | None:
        """The service user's own project, None where it has none."""
        with self._translated(None, "authenticate"):
            return self._session.get_project_id()

    def members(self, image_id: str) -> list[str]:
        """The projects that an image is shared with, as far as Glance shows them."""
        path = f"/v2/images/{image_id}/members"
        body = self._request(image_id, "list members", "GET", path)
        return [str(member.get("member_id")) for member in body.get("members", ())]

    def deployment(self) -> str | None:
        """The id of the deployment of replication that this Glance belongs to.

        None where it tells none, as a Glance without the filter.
        """
        try:
            path = "/v2/replication/targets"
            told = self._request(None, "read the deployment", "GET", path).get("deployment")
        except (exceptions.ImageGone, exceptions.GlanceRefused):
            return None
        return told if isinstance(told, str) else None

    def authenticate(self) -> None:
        """Get a token from Keystone, unless there is one already."""
        with self._translated(None, "authenticate"):
            self._session.get_auth_headers()

    def _translated(
        self, image_id: str | None, operation: str
    ) -> contextlib.AbstractContextManager[None]:
        return translated(image_id, operation, self._timeout_seconds)

    def _locations(self, image_id: str, operation: str) -> Sequence[patches.Location]:
        """What is to be changed; raises ``GlanceRefused`` where Glance hides it."""
        record = self._record(image_id, "read the image")
        found = locations_of(record, image_id)
        if not found and image_of(record, image_id).has_data:
            hint = "Glance does not show the locations"
            raise exceptions.GlanceRefused(image_id, None, operation, hint)
        return found

    def endpoint(self) -> str:
        """Glance's URL, from the option or from Keystone's catalogue.

        :raises GlanceUnavailable: Keystone cannot be asked, or knows none
        :raises GlanceRefused: Keystone does not accept the credentials
        """
        with self._translated(None, "find the endpoint of Glance"):
            found = self._client.http_client.get_endpoint()
        if not found:
            hint = "the catalogue of Keystone has none"
            raise exceptions.GlanceUnavailable(None, None, "find the endpoint of Glance", hint)
        return str(found)

    def _record(self, image_id: str, operation: str) -> Mapping[str, Any]:
        return self._request(image_id, operation, "GET", _image_path(image_id))

    def _patch(
        self, image_id: str, operation: str, changes: Sequence[patches.Change]
    ) -> Mapping[str, Any]:
        return self._request(
            image_id,
            operation,
            "PATCH",
            _image_path(image_id),
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
        with self._translated(image_id, operation):
            _, body = self._ask(method, path, **kwargs)
        return body

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> Any:
        headers = {**(headers or {}), **self._own.headers(method, path)}
        return self._client.http_client.request(path, method, headers=headers, **kwargs)


def status_of(error: exceptions.GlanceRefused) -> int:
    """The HTTP status that Glance or Keystone refused with."""
    return http_status(error.__cause__)


def _image_path(image_id: str) -> str:
    return f"/v2/images/{parse.quote(image_id, safe='')}"


def _path(query: Mapping[str, Any]) -> str:
    return f"/v2/images?{parse.urlencode(query, safe=':,')}"


def _is_too_large(error: BaseException) -> bool:
    """Whether an answer of Glance was read only to the bound."""
    return any(isinstance(each, bounded.AnswerTooLarge) for each in causes(error))
