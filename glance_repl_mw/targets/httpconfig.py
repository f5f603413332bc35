# SPDX-License-Identifier: Apache-2.0
"""The options of an HTTP target, and what is wrong with them."""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Sequence
from urllib import parse

from oslo_config import cfg

from glance_repl_mw.seconds import LONGEST_TIMEOUT_SECONDS, SecondsOpt
from glance_repl_mw.signing import Signer
from glance_repl_mw.targets.access import Access

_KEY = re.compile(r"[A-Za-z0-9+/=_.~-]{16,}")
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]*)?"
)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")

OPTIONS: Sequence[cfg.Opt] = (
    cfg.StrOpt(
        "url",
        sample_default="https://site-a.example/images/",
        help="Collection that objects are written to with PUT; http or https, without "
        "credentials. Required. Where a WebDAV server lacks the collection it is made.",
    ),
    cfg.StrOpt(
        "location_url",
        sample_default="https://site-a.example/images/",
        help="The same collection as Glance reads it, without credentials; begins the location "
        "of every replica. Default: url.",
    ),
    cfg.StrOpt(
        "location_signing_key",
        secret=True,
        help="Key that locations are signed with, as the secure_link module of nginx checks it, "
        "so that only Glance can read the replicas; see Replicas that only Glance can read in the "
        "documentation. 16 or more letters, digits and +/=_.~-; not signed without a key.",
    ),
    SecondsOpt(
        "location_valid_seconds",
        default=7 * 24 * 3600,
        min=600,
        whole=True,
        help="Seconds that a signed location is valid, at least; at most an eighth longer. The "
        "writer renews the signature when half of them are left. Choose it longer than the "
        "writer may ever be down.",
    ),
    cfg.StrOpt("username", help="User for Basic authentication at url."),
    cfg.StrOpt("password", secret=True, help="Password of username."),
    cfg.StrOpt("token", secret=True, help="Bearer token for url, instead of username."),
    cfg.StrOpt(
        "ca_file",
        help="PEM file of the authorities that may sign the server's certificate. Default: those "
        "that the Python package certifi brings.",
    ),
    cfg.StrOpt(
        "cert_file",
        help="PEM file of the client certificate for url, with the key unless key_file is given.",
    ),
    cfg.StrOpt("key_file", help="PEM file of the client certificate's key, not encrypted."),
    cfg.StrOpt(
        "publish",
        default="auto",
        choices=[
            ("auto", "The server is asked, with a small object, whether it can MOVE."),
            ("move", "Objects are written as NAME.partial and moved once they are proven."),
            (
                "direct",
                "Objects are written under their names. Some servers then show a partial object "
                "until a broken upload is cleaned up.",
            ),
        ],
        help="How a finished object gets its name.",
    ),
    SecondsOpt(
        "connect_timeout_seconds",
        default=5.0,
        min=0.1,
        max=LONGEST_TIMEOUT_SECONDS,
        help="Seconds that a connection to the server may take.",
    ),
    SecondsOpt(
        "stall_timeout_seconds",
        default=60.0,
        min=0.1,
        max=LONGEST_TIMEOUT_SECONDS,
        help="Seconds for which the server may neither accept a byte nor answer. However slow, a "
        "transfer that makes progress goes on.",
    ),
)


def collection_url(conf: cfg.ConfigOpts.GroupAttr, option: str) -> str:
    """The value of the option, with a slash at its end.

    :raises ValueError: it is missing or not the URL of a collection; begins with the option
    """
    value = conf[option]
    if not value:
        raise ValueError(f"{option}: is missing")
    try:
        parts = parse.urlsplit(value)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(character <= " " or character > "~" for character in value):
        raise ValueError(f"{option}: is not a URL of the form http(s)://HOST[:PORT]/PATH/")
    if "@" in parts.netloc:
        raise ValueError(f"{option}: must not hold credentials; there are options for them")
    if not _HOST.fullmatch(parts.netloc):
        raise ValueError(f"{option}: its host is neither a name nor an address")
    if "?" in value or "#" in value:
        raise ValueError(f"{option}: must have neither query nor fragment")
    value = _with_small_host(value)
    return value if value.endswith("/") else f"{value}/"


def _with_small_host(url: str) -> str:
    """The URL with scheme and host in small letters, as clients and Glance compare them."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.lower()}{slash}{path}"


def normalized(url: str) -> str:
    """The one form of all URLs that lead to the same collection, as far as the text tells.

    Scheme and host are in small letters, the port is left out where it is the scheme's own,
    escapes stand only for what needs them, the path has neither dots nor more than one slash at
    its end.

    :param url: as ``collection_url`` returns it
    """
    scheme, host, port = origin(url)
    host = (host or "").rstrip(".")
    netloc = f"[{host}]" if ":" in host else host
    if port != _PORTS.get(scheme):
        netloc += f":{port}"
    path = _ESCAPE.sub(_unescaped, parse.urlsplit(url).path)
    return f"{scheme}://{netloc}{_without_dots(path)}"


def _unescaped(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()


def _without_dots(path: str) -> str:
    """The path from the root on, with one slash at its end."""
    segments: list[str] = []
    for segment in path.rstrip("/").split("/")[1:]:
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    return "/".join(["", *segments]).rstrip("/") + "/"


def signer(conf: cfg.ConfigOpts.GroupAttr) -> Signer | None:
    """What signs locations, None where they are not signed.

    :raises ValueError: the key is not usable; begins with the option
    """
    key = conf.location_signing_key
    if not key:
        return None
    if not _KEY.fullmatch(key):
        raise ValueError("location_signing_key: is not 16 or more letters, digits and +/=_.~-")
    return Signer(key, conf.location_valid_seconds)


def origin(url: str) -> tuple[str, str | None, int]:
    """Scheme, host and port."""
    parts = parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)


def access(conf: cfg.ConfigOpts.GroupAttr) -> Access:
    """Timeouts, credentials and certificates.

    :raises ValueError: an option is wrong; begins with its name and holds no secret
    """
    authorization, secrets = _credentials(conf)
    _check_certificates(conf)
    return Access(
        connect_seconds=conf.connect_timeout_seconds,
        stall_seconds=conf.stall_timeout_seconds,
        connections=conf.max_connections,
        authorization=authorization,
        ca_file=conf.ca_file,
        certificate=(conf.cert_file, conf.key_file or conf.cert_file) if conf.cert_file else None,
        secrets=secrets,
    )


def _credentials(conf: cfg.ConfigOpts.GroupAttr) -> tuple[str | None, tuple[str, ...]]:
    """The header's value, and what must never be shown."""
    if conf.token and conf.username:
        raise ValueError("token: cannot be combined with username")
    if conf.password and not conf.username:
        raise ValueError("password: needs username")
    if conf.token:
        if any(character <= " " or character > "~" for character in conf.token):
            raise ValueError("token: holds blanks or characters that are not ASCII")
        return f"Bearer {conf.token}", (conf.token,)
    if not conf.username:
        return None, ()
    if ":" in conf.username:
        raise ValueError("username: must not hold a colon")
    password = conf.password or ""
    encoded = base64.b64encode(f"{conf.username}:{password}".encode()).decode()
    return f"Basic {encoded}", (encoded, password) if password else (encoded,)


def _check_certificates(conf: cfg.ConfigOpts.GroupAttr) -> None:
    if conf.key_file and not conf.cert_file:
        raise ValueError("key_file: needs cert_file")
    for option in ("ca_file", "cert_file", "key_file"):
        path = conf[option]
        if path and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise ValueError(f"{option}: {path} does not exist or cannot be read")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    option = "ca_file"
    try:
        if conf.ca_file:
            context.load_verify_locations(conf.ca_file)
        option = "cert_file"
        if conf.cert_file:
            # Without a password OpenSSL would ask for that of an encrypted key at the terminal.
            context.load_cert_chain(conf.cert_file, conf.key_file, password="")
    except OSError as error:
        raise ValueError(f"{option}: {conf[option]} is not usable: {error}") from error
