# SPDX-License-Identifier: Apache-2.0
"""The configuration of a node, as Glance and the filter read it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from oslo_config import cfg

from glance_repl_mw import exceptions, opts
from glance_repl_mw.checks import paste

_DIRECTORY_VARIABLE = "OS_GLANCE_CONFIG_DIR"
_DIRECTORY = "/etc/glance"
_MAIN_FILE = "glance-api.conf"
_FILES = ("glance-image-import.conf", _MAIN_FILE)


@dataclasses.dataclass(frozen=True)
class Deployment:
    """What the checks look at.

    :ivar glance: Glance's own configuration
    :ivar replication: where the filter reads its options; the same unless the paste file says
    :ivar paste_file: None where none was found or it cannot be read
    :ivar paste_problem: why not
    """

    glance: cfg.ConfigOpts
    replication: cfg.ConfigOpts
    paste_file: paste.PasteFile | None
    paste_problem: str = ""


def default_config_files() -> list[str]:
    """Those of the files that Glance's WSGI application reads which are there."""
    paths = (os.path.join(_config_directory(), name) for name in _FILES)
    return [path for path in paths if os.path.exists(path)]


def main_file() -> str:
    """The file that Glance's WSGI application cannot do without."""
    return os.path.join(_config_directory(), _MAIN_FILE)


def _config_directory() -> str:
    return os.environ.get(_DIRECTORY_VARIABLE, _DIRECTORY).strip()


def require_file(conf: cfg.ConfigOpts) -> None:
    """See that some file was read.

    :raises ConfigError: there is none
    """
    if not conf.config_file and not conf.config_dir:
        raise exceptions.ConfigError(
            operation="read configuration",
            hint=f"there is no {main_file()}; name one with --config-file",
        )


def read(conf: cfg.ConfigOpts) -> Deployment:
    """The deployment that ``conf``, which is Glance's configuration, describes.

    :raises ConfigError: the file that the filter's section names cannot be read
    """
    conf.register_opts(paste.OPTIONS, group=paste.GROUP)
    file, problem = _read_paste(conf)
    settings = _filter_settings(conf, file) if file else {}
    replication = read_own(settings["config_file"]) if settings.get("config_file") else conf
    opts.register_opts(replication)
    return Deployment(conf, replication, file, problem)


def _read_paste(conf: cfg.ConfigOpts) -> tuple[paste.PasteFile | None, str]:
    path = paste.find(conf)
    if path is None:
        return None, "glance-api-paste.ini was not found beside the configuration"
    try:
        return paste.PasteFile(path), ""
    except exceptions.ConfigError as error:
        return None, str(error)


def _filter_settings(conf: cfg.ConfigOpts, file: paste.PasteFile) -> dict[str, str]:
    try:
        _, words = file.pipeline(conf.paste_deploy.flavor)
    except exceptions.ConfigError:
        return {}
    names: Sequence[str] = [word for word in words if file.is_replication(word)]
    return dict(file.settings(names[0])) if names else {}


def read_own(path: str) -> cfg.ConfigOpts:
    """The configuration in a file of replication's own.

    :raises ConfigError: it cannot be read
    """
    conf = cfg.ConfigOpts()
    try:
        conf([], default_config_files=[path])
    except cfg.Error as error:
        raise exceptions.ConfigError(
            operation="config_file of the replication filter", hint=str(error)
        ) from error
    return conf
