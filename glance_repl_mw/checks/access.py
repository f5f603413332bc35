# SPDX-License-Identifier: Apache-2.0
"""May the service user do at Glance what the writer does there?"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from oslo_config import cfg

from glance_repl_mw import exceptions, opts
from glance_repl_mw.checks import proxies
from glance_repl_mw.checks.finding import Finding, error, ok, warning
from glance_repl_mw.images import ImageService, status_of
from glance_repl_mw.spool.reader import Gate, SpoolReader
from glance_repl_mw.targets.base import Target, given_location
from glance_repl_mw.targets.httpprobe import PREFIX

IMAGE_NAME = "glance-repl-check"
# Glance asks the policy first, and then refuses such a location whatever its configuration.
_NEVER_ACCEPTED = "file:///glance-repl-check"
_BODY = b"glance-repl-manage looks whether this can become a location\n"
_WHERE = f"[{opts.GROUP}] service user"
_ROLE = "give the user the role admin in its project, or what Glance's policies ask for"

_Add = Callable[[ImageService, str, str], None]


def check(
    conf: cfg.ConfigOpts, targets: Sequence[Target], store: str = "[glance_store]"
) -> Iterator[Finding]:
    """Get a token, make an image for a trial, give it a location at each target, delete it.

    A user who may do no more than replicate cannot make images. Then Glance is asked to judge
    locations for an image that is there, which does not change.

    :param targets: those that were found to work
    :param store: the section of Glance's http store
    """
    try:
        images = ImageService(conf, partial(given_location, targets))
        yield from proxies.check("Keystone", _auth_url(conf))
        images.authenticate()
    except exceptions.ConfigError as problem:
        remedy = "set auth_type, auth_url, username and so on, as in [keystone_authtoken]"
        yield error(_WHERE, problem.hint.removeprefix(f"{_WHERE}: "), remedy)
    except exceptions.GlanceRefused as problem:
        remedy = "correct username, password, project and domains"
        yield error(_WHERE, f"Keystone does not accept it: {problem.hint}", remedy)
    except exceptions.GlanceUnavailable as problem:
        remedy = "see that it runs, and that auth_url is right"
        yield error(_WHERE, f"Keystone cannot be reached: {problem.hint}", remedy)
    else:
        yield ok(_WHERE, "Keystone accepts it")
        with suppress(exceptions.ReplicationError):
            yield from proxies.check("Glance", images.endpoint())
        yield from _try_image(images, targets, store)


def _auth_url(conf: cfg.ConfigOpts) -> str | None:
    return getattr(conf[conf.replication.auth_section or opts.GROUP], "auth_url", None)


def _try_image(images: ImageService, targets: Iterable[Target], store: str) -> list[Finding]:
    """An image of another project, as those are whose locations the writer adds."""
    image_id = str(uuid.uuid4())
    try:
        images.create(image_id, IMAGE_NAME, owner=uuid.uuid4().hex)
    except exceptions.GlanceUnavailable as problem:
        with suppress(exceptions.ReplicationError):
            images.delete(image_id)
        remedy = "see that it runs, and that the catalogue or endpoint_override is right"
        return [error(_WHERE, f"Glance cannot be reached: {problem.hint}", remedy)]
    except (exceptions.GlanceRefused, exceptions.ImageGone) as problem:
        return _try_existing(images, targets, problem.hint, store)
    findings: list[Finding] = []
    try:
        findings += _try_locations(images, image_id, targets, _add, store)
    finally:
        findings += _delete(images, image_id)
    return findings


def _try_existing(
    images: ImageService, targets: Iterable[Target], hint: str, store: str
) -> list[Finding]:
    try:
        image_id = images.find_foreign()
    except exceptions.ReplicationError as problem:
        return [error(_WHERE, f"may not list images: {problem.hint}", _ROLE)]
    if image_id is None:
        text = f"may not write images of other projects: {hint}"
        remedy = f"{_ROLE}; if it has, upload an image in another project for this check"
        return [error(_WHERE, text, remedy)]
    return _try_locations(images, image_id, targets, ImageService.try_location, store)


def _add(images: ImageService, image_id: str, url: str) -> None:
    images.add_locations(image_id, [url])


def _try_locations(
    images: ImageService, image_id: str, targets: Iterable[Target], add: _Add, store: str
) -> list[Finding]:
    findings = _try_policy(images, image_id)
    if not findings:
        findings.append(ok(_WHERE, "may add locations to images of other projects"))
        for target in targets:
            findings += _try_location(images, image_id, target, add, store)
    return findings


def _try_policy(images: ImageService, image_id: str) -> list[Finding]:
    try:
        images.add_locations(image_id, [_NEVER_ACCEPTED])
    except exceptions.GlanceRefused as problem:
        if status_of(problem) == 400:
            return []
        text = f"may not add locations: {problem.hint}"
        remedy = _ROLE
        if "invisible" in problem.hint:
            remedy = "set show_multiple_locations = True and restart Glance"
        return [error(_WHERE, text, remedy)]
    except exceptions.ReplicationError as problem:
        return [error(_WHERE, f"cannot add locations: {problem.hint}", _ROLE)]
    return []


def _try_location(
    images: ImageService, image_id: str, target: Target, add: _Add, store: str
) -> Iterator[Finding]:
    name = PREFIX + uuid.uuid4().hex
    try:
        with _body() as reader:
            stored = target.put(name, reader, len(_BODY))
        add(images, image_id, stored.location_url)
    except exceptions.TargetError as problem:
        yield error(target.name, str(problem.hint), "see what the server's log says")
    except exceptions.ReplicationError as problem:
        remedy = (
            f"see that the Glance that runs reads it (network, {store} "
            "https_ca_certificates_file, REQUESTS_CA_BUNDLE in its environment), what its log "
            "says, and restart Glance after changes of its configuration"
        )
        yield error(target.name, f"Glance takes no location there: {problem.hint}", remedy)
    else:
        yield ok(target.name, "Glance takes locations there")
    finally:
        with suppress(exceptions.TargetError):
            target.delete(name)


@contextmanager
def _body() -> Iterator[SpoolReader]:
    gate = Gate()
    gate.open(len(_BODY))
    with tempfile.NamedTemporaryFile() as file:
        file.write(_BODY)
        file.flush()
        with SpoolReader(Path(file.name), gate) as reader:
            yield reader


def _delete(images: ImageService, image_id: str) -> list[Finding]:
    try:
        images.delete(image_id)
    except exceptions.ImageGone:
        return []
    except exceptions.ReplicationError as problem:
        text = f"the image {image_id} of this check stays: {problem.hint}"
        return [warning(_WHERE, text, "delete it by hand")]
    return []
