"""Glance as the service user sees it: reading an image, adding locations."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import glanceclient.exc
import keystoneauth1.exceptions
from glanceclient.v2 import client as glance_client
from keystoneauth1 import loading
from oslo_config import cfg

from glance_repl_mw import exceptions, opts
from glance_repl_mw.model import Image

_BY_PASSWORD = ("password", "v3password")
_PATCH_TYPE = "application/openstack-images-v2.1-json-patch"


class ImageService:
    """Glance's API with the service user's credentials from ``[replication]``.

    May be used from any thread. Every call blocks and may raise ``GlanceUnavailable`` (a retry can
    help), ``GlanceRefused`` (it cannot) or ``ImageGone``.

    :raises ConfigError: the credentials' options are incomplete; opens no connection
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        try:
            auth = loading.load_auth_from_conf_options(conf, opts.GROUP)
            if auth is None:
                raise _wrong_credentials("auth_type: is missing")
            session = loading.load_session_from_conf_options(conf, opts.GROUP, auth=auth)
            adapter = loading.load_adapter_from_conf_options(conf, opts.GROUP, session=session)
            _check_password(conf)
        except keystoneauth1.exceptions.NoMatchingPlugin as error:
            raise _wrong_credentials(f"auth_type: {error}") from error
        except (keystoneauth1.exceptions.ClientException, cfg.Error, TypeError) as error:
            raise _wrong_credentials(str(error)) from error
        self._session = session
        self._client = glance_client.Client(
            session=session,
            service_type=adapter.service_type,
            interface=adapter.interface,
            region_name=adapter.region_name,
            endpoint_override=adapter.endpoint_override,
        )

    def get(self, image_id: str) -> Image:
        """Glance's record of an image."""
        return _image(self._request(image_id, "read the image", "GET", f"/v2/images/{image_id}"))

    def find(self, image_ids: Sequence[str]) -> dict[str, Image]:
        """Glance's records of several images in one request; hidden images are not among them."""
        path = f"/v2/images?visibility=all&limit={len(image_ids)}&id=in:{','.join(image_ids)}"
        body = self._request(None, "list images", "GET", path)
        return {image.image_id: image for image in map(_image, body["images"])}

    def add_locations(self, image_id: str, urls: Sequence[str]) -> None:
        """Add locations at the end of an image's list, all in one request or none."""
        changes = [
            {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}}
            for url in urls
        ]
        self._request(
            image_id,
            "add locations",
            "PATCH",
            f"/v2/images/{image_id}",
            headers={"Content-Type": _PATCH_TYPE},
            data=json.dumps(changes),
        )

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

    def delete(self, image_id: str) -> None:
        """Delete an image."""
        self._send(image_id, "delete the image", "DELETE", f"/v2/images/{image_id}")

    def authenticate(self) -> None:
        """Get a token from Keystone, unless there is one already."""
        with _translated(None, "authenticate"):
            self._session.get_auth_headers()

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
            _, body = self._client.http_client.request(path, method, **kwargs)
        return body


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
        KeyError,  # glanceclient's, of an error without a Content-Type, as proxies send them
    ) as error:
        raise exceptions.GlanceUnavailable(image_id, None, operation, _text(error)) from error


def _http_status(error: BaseException | None) -> int:
    """0 where it is not known: glanceclient keeps only the most common ones."""
    found = (getattr(error, name, None) for name in ("http_status", "code"))
    return next((status for status in found if isinstance(status, int)), 0)


def _check_password(conf: cfg.ConfigOpts) -> None:
    """Say now what Keystone would say at the first request."""
    options = conf[conf[opts.GROUP].auth_section or opts.GROUP]
    if options.auth_type in _BY_PASSWORD:
        if not (options.username or options.user_id):
            raise _wrong_credentials("username: is missing")
        if not options.password:
            raise _wrong_credentials("password: is missing")


def _image(body: Mapping[str, Any]) -> Image:
    return Image(
        image_id=body["id"],
        status=body["status"],
        size=body.get("size"),
        checksum=body.get("checksum"),
        os_hash_algo=body.get("os_hash_algo"),
        os_hash_value=body.get("os_hash_value"),
        locations=tuple(location["url"] for location in body.get("locations", ())),
    )


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _wrong_credentials(hint: str) -> exceptions.ConfigError:
    return exceptions.ConfigError(
        operation="read configuration", hint=f"[{opts.GROUP}] service user: {hint}"
    )
