# SPDX-License-Identifier: Apache-2.0
"""A real Glance with file stores, an HTTP store for the replicas, and the filter if wanted."""

import functools
import importlib.metadata
import importlib.util
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from pathlib import Path

from glanceclient.v2.client import Client

from tests.lab.keystone import Keystone, open_session
from tests.lab.process import HOST, clean_environment, run
from tests.lab.uwsgi import UwsgiServer

Options = Mapping[str, Mapping[str, str]]

FLAVOR = "keystone"
REPLICATION = {"replication": {"paste.filter_factory": "glance_repl_mw.filter:filter_factory"}}


def _looks_for_uwsgi_when_imported() -> bool:
    """Whether this release of Glance must be imported by uWSGI itself, to read chunked bodies."""
    found = importlib.util.find_spec("glance.common.wsgi")
    assert found is not None and found.origin is not None
    return (
        re.search(r"^    import uwsgi$", Path(found.origin).read_text(), re.MULTILINE) is not None
    )


_APPLICATION = (
    () if _looks_for_uwsgi_when_imported() else ("glance.common.wsgi_app", "glance.api.v2.router")
)


class Glance(UwsgiServer):
    """Glance behind Keystone, under uWSGI.

    `stores` names the file stores of a multi-store Glance, its default first; None makes a
    single-store one. `target_ports` are the ports that locations may have. `options` holds
    sections and values for glance-api.conf, and wins over what the lab itself writes there.
    `paste_filters` holds sections of filters that follow `context`, in their order, after the
    replication filter.
    """

    module = "glance.wsgi.api:application"
    shared_modules = (
        *_APPLICATION,
        "keystonemiddleware.auth_token",
        # Most of what the filter needs; itself, it looks for uWSGI when it is imported.
        "glance_repl_mw.db.store",
        "glance_repl_mw.images",
    )

    def __init__(
        self,
        directory: Path,
        keystone: Keystone,
        name: str = "glance",
        port: int | None = None,
        *,
        processes: int = 2,
        threads: int = 4,
        stores: Sequence[str] | None = ("primary",),
        target_ports: Sequence[int] = (),
        options: Options | None = None,
        replication: bool = False,
        paste_filters: Options | None = None,
        uwsgi_arguments: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            directory,
            name,
            port,
            processes=processes,
            threads=threads,
            uwsgi_arguments=uwsgi_arguments,
        )
        self.keystone = keystone
        self.stores = stores
        self.target_ports = target_ports
        self.options = options or {}
        self.paste_filters = {**(REPLICATION if replication else {}), **(paste_filters or {})}
        self.config_dir = self.directory / "etc"
        self.config_file = self.config_dir / "glance-api.conf"
        self.paste_file = self.config_dir / "glance-api-paste.ini"

    def environment(self) -> dict[str, str]:
        return clean_environment(OS_GLANCE_CONFIG_DIR=str(self.config_dir))

    def prepare(self) -> None:
        for name in ("etc", "locks", "staging", "tasks", *self._store_names()):
            (self.directory / name).mkdir(exist_ok=True)
        self.write_config()
        if "connection" in self.options.get("database", {}):
            migrate_database(self.config_file, self.log)
        else:
            self._sqlite_file.write_bytes(_migrated_sqlite())

    def write_config(self) -> None:
        """Write both configuration files from the attributes; reload() makes Glance read them."""
        config = _parser()
        for options in (self._default_options(), self._store_options(), self.options):
            config.read_dict(options)
        _write(config, self.config_file)
        _write(self._paste(), self.paste_file)

    def primary_path(self, image_id: str) -> Path:
        """Return the file that holds the image in the default store."""
        return self.directory / self._store_names()[0] / image_id

    def client(self, credentials: Mapping[str, str]) -> Client:
        """Return a client of this Glance, whatever the catalogue says."""
        return Client(session=open_session(credentials), endpoint_override=self.url)

    @property
    def _sqlite_file(self) -> Path:
        return self.directory / "glance.sqlite"

    def _store_names(self) -> Sequence[str]:
        return self.stores or ("store",)

    def _paste(self) -> ConfigParser:
        paste = _parser()
        paste.read(_shipped_paste_file())
        words = paste["composite:api"][FLAVOR].split()
        after_context = words.index("context") + 1
        words[after_context:after_context] = self.paste_filters
        paste["composite:api"][FLAVOR] = " ".join(words)
        # It would look in /etc/glance only.
        paste["filter:cors"]["oslo_config_file"] = str(self.config_file)
        paste.read_dict({f"filter:{name}": body for name, body in self.paste_filters.items()})
        return paste

    def _default_options(self) -> dict[str, dict[str, str]]:
        here = self.directory
        return {
            "DEFAULT": {
                "show_multiple_locations": "True",
                "enabled_import_methods": "[glance-direct,web-download,copy-image]",
                "node_staging_uri": f"file://{here}/staging",
                "worker_self_reference_url": self.url,
            },
            "database": {"connection": f"sqlite:///{self._sqlite_file}?timeout=60"},
            "paste_deploy": {"flavor": FLAVOR, "config_file": str(self.paste_file)},
            "keystone_authtoken": {
                "auth_type": "password",
                "www_authenticate_uri": self.keystone.auth_url,
                **self.keystone.credentials(),
            },
            "oslo_concurrency": {"lock_path": f"{here}/locks"},
            "image_format": {"require_image_format_match": "True"},
            "import_filtering_opts": {
                "allowed_hosts": f"[{HOST}]",
                "allowed_ports": f"[{','.join(map(str, (80, 443, *self.target_ports)))}]",
            },
        }

    def _store_options(self) -> dict[str, dict[str, str]]:
        here = self.directory
        if self.stores is None:
            only = {
                "stores": "file,http",
                "default_store": "file",
                "filesystem_store_datadir": str(self.directory / self._store_names()[0]),
            }
            return {"glance_store": only}
        backends = ",".join([*(f"{name}:file" for name in self.stores), "http:http"])
        directories = {name: name for name in self.stores} | {
            "os_glance_staging_store": "staging",
            "os_glance_tasks_store": "tasks",
        }
        return {
            "DEFAULT": {"enabled_backends": backends},
            "glance_store": {"default_backend": self.stores[0]},
            **{
                section: {"filesystem_store_datadir": f"{here}/{name}"}
                for section, name in directories.items()
            },
        }


def migrate_database(config_file: Path, log: Path) -> None:
    """Make or update the tables of the database that a glance-api.conf names."""
    program = str(Path(sys.executable).with_name("glance-manage"))
    command = [sys.executable, program, "--config-file", str(config_file), "db_sync"]
    run(command, clean_environment(), log)


@functools.cache
def _migrated_sqlite() -> bytes:
    """A database with all tables; to make it anew for each Glance takes seconds."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = directory / "glance.conf"
        config.write_text(f"[database]\nconnection = sqlite:///{directory}/glance.sqlite\n")
        migrate_database(config, directory / "log")
        return (directory / "glance.sqlite").read_bytes()


def _shipped_paste_file() -> Path:
    for file in importlib.metadata.files("glance") or ():
        if file.name == "glance-api-paste.ini":
            return Path(str(file.locate()))
    raise FileNotFoundError("glance-api-paste.ini is not part of the installed glance")


def _parser() -> ConfigParser:
    # oslo.config and paste know no section whose values all others inherit.
    parser = ConfigParser(interpolation=None, default_section="")
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    return parser


def _write(parser: ConfigParser, path: Path) -> None:
    with path.open("w") as file:
        parser.write(file)
