"""The paste-deploy filter in the glance-api pipeline.

::

    [filter:replication]
    paste.filter_factory = glance_repl_mw.filter:filter_factory

It stands after ``context`` and before ``cache`` and ``rootapp``. It copies the body of every
``PUT /v2/images/{image_id}/file`` to the spool while Glance reads it, and records Glance's answer
there before the uploader sees it. On the way of an upload it opens no connection and no database,
and whatever fails in the spool leaves the upload alone. It answers
``/v2/images/{image_id}/replicas`` itself. Everything else passes untouched.

With ``config_file = PATH`` in its section the options are read from that file, else from Glance's
own configuration.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from oslo_config import cfg
from oslo_log import log
from oslo_middleware import base

from glance_repl_mw import opts
from glance_repl_mw.api import ReplicaAPI
from glance_repl_mw.images import ImageService
from glance_repl_mw.launcher import WriterLauncher
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets import loader
from glance_repl_mw.tee import ChunkedInput, TeeInput

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

try:
    import uwsgi
except ImportError:  # another WSGI server: a chunked body is in wsgi.input there
    uwsgi = None

LOG = log.getLogger(__name__)

_HEX = "[0-9a-fA-F]"
_UPLOAD_PATH = re.compile(
    f"/v2/images/({_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}})/file/?"
)


class ReplicationFilter(base.ConfigurableMiddleware):
    """Tees uploads to the spool and keeps the embedded writer alive.

    :raises ConfigError: the configuration cannot work; names section and option
    """

    def __init__(self, application: WSGIApplication, conf: Any = None) -> None:
        super().__init__(application, conf)
        self._application = application
        if "config_file" in self.conf:
            self.oslo_conf = cfg.ConfigOpts()
            self.oslo_conf([], default_config_files=[self.conf["config_file"]])
        opts.register_opts(self.oslo_conf)
        loader.check_values(self.oslo_conf)
        self._has_targets = bool(loader.load_targets(self.oslo_conf))
        options = self.oslo_conf.replication
        self._spool = Spool(
            options.spool_dir, options.spool_max_bytes, options.spool_min_free_bytes
        )
        self._spool.prepare()
        self._launcher: WriterLauncher | None = None
        if options.writer == "embedded":
            # The writer's own complaint about its credentials would be far from the start.
            ImageService(self.oslo_conf)
            self._launcher = WriterLauncher(self.oslo_conf)
        self._api = ReplicaAPI(self.oslo_conf, application)
        self._unrecorded: collections.deque[tuple[str, str]] = collections.deque()

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        if self._launcher is not None:
            self._launcher.ensure_started()
        if self._unrecorded:
            self._record_again()
        if self._api.serves(environ.get("PATH_INFO", "")):
            request = base.NoContentTypeRequest(environ)
            return self._api.respond(request)(environ, start_response)
        image_id = _uploaded_image(environ) if self._has_targets else None
        if image_id is None:
            return self._application(environ, start_response)
        return self._tee_upload(image_id, environ, start_response)

    def _tee_upload(
        self, image_id: str, environ: dict[str, Any], start_response: Callable
    ) -> Iterable[bytes]:
        attempt = _Attempt(self._spool, image_id, _announced_size(environ))
        environ["wsgi.input"] = TeeInput(_body(environ), attempt.append)
        try:
            response = base.NoContentTypeRequest(environ).get_response(self._application)
        except BaseException:
            attempt.reject()
            raise
        if 200 <= response.status_int < 300:
            unspooled = attempt.accept()
            if unspooled:
                self._unrecorded.append((image_id, unspooled))
                self._record_again()
        else:
            attempt.reject()
        return response(environ, start_response)

    def _record_again(self) -> None:
        """Leave word of images without a tee; what cannot be written waits in memory."""
        for _ in range(len(self._unrecorded)):
            try:
                image_id, error = self._unrecorded.popleft()
            except IndexError:
                return
            try:
                self._spool.record_unspooled(image_id, error)
            except OSError:
                self._unrecorded.append((image_id, error))
                return


class _Attempt:
    """One upload attempt; spooled from the first byte that Glance reads, owned by its request."""

    def __init__(self, spool: Spool, image_id: str, size: int | None) -> None:
        self._spool = spool
        self._image_id = image_id
        self._size = size
        self._appender: Appender | None = None
        self._failure: str | None = None

    def append(self, data: bytes) -> None:
        if self._failure is not None:
            return
        try:
            if self._appender is None:
                self._appender = Appender(self._spool, self._image_id, self._size)
            self._appender.append(data)
        except Exception as error:
            self._fail(error)

    def accept(self) -> str | None:
        """Record that Glance has the image; returns why the spool does not hold it, if so."""
        if self._failure is None:
            try:
                if self._appender is None:
                    self._appender = Appender(self._spool, self._image_id, 0)
                self._appender.accept()
            except Exception as error:
                self._fail(error)
        return self._failure

    def reject(self) -> None:
        """Record that Glance does not have these bytes."""
        if self._appender is None or self._failure is not None:
            return
        try:
            self._appender.reject()
        except Exception as error:
            LOG.warning("Image %s: a refused upload stays in the spool: %s", self._image_id, error)

    def _fail(self, error: Exception) -> None:
        self._failure = f"the upload could not be spooled: {error}"
        LOG.error("Image %s: %s", self._image_id, self._failure)
        if self._appender is None:
            return
        try:
            self._appender.reject(self._failure)
        except Exception as another:
            LOG.warning("Image %s: a broken spool file stays: %s", self._image_id, another)


def _uploaded_image(environ: dict[str, Any]) -> str | None:
    if environ["REQUEST_METHOD"] != "PUT":
        return None
    match = _UPLOAD_PATH.fullmatch(environ.get("PATH_INFO", ""))
    return match.group(1) if match else None


def _announced_size(environ: dict[str, Any]) -> int | None:
    for name in ("CONTENT_LENGTH", "HTTP_X_OPENSTACK_IMAGE_SIZE"):
        value = environ.get(name) or ""
        if value.isascii() and value.isdigit():
            return int(value)
    return None


def _body(environ: dict[str, Any]) -> Any:
    """The input to read the body from.

    uWSGI keeps a chunked body out of ``wsgi.input``, and Glance then reads it past any filter; so
    it is put there, and the header that leads Glance past it is taken away.
    """
    chunked = environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
    if uwsgi is None or not chunked:
        return environ["wsgi.input"]
    del environ["HTTP_TRANSFER_ENCODING"]
    environ["wsgi.input_terminated"] = True
    return ChunkedInput(uwsgi.chunked_read)


def filter_factory(global_conf: dict[str, Any] | None, **local_conf: Any) -> Callable:
    """For paste.deploy: returns what wraps an application in the filter."""
    return ReplicationFilter.factory(global_conf, **local_conf)
