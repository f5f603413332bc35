# SPDX-License-Identifier: Apache-2.0
"""Glance behind Apache: proxied to uWSGI with mod_proxy_uwsgi, or inside it with mod_wsgi."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from tests.lab.glance import Glance
from tests.lab.process import HOST, Server, accepts_connections, free_port
from tests.lab.webserver_base import find_program
from tests.lab.webservers import APACHE_MODULES, Apache

TOP = Path(__file__).parents[2]
_ACCESS_LINE = re.compile(r"^request (?P<method>[A-Z]+) (?P<path>\S+) (?P<status>\d{3})$")


def missing_module(name: str) -> str | None:
    """Return None, or why Apache has not this module."""
    if reason := Apache.available():
        return reason
    return None if _module(name).exists() else f"mod_{name} of apache2 is not installed"


def _module(name: str) -> Path:
    return APACHE_MODULES / f"mod_{name}.so"


def _config(server: Server, modules: tuple[str, ...], rest: str) -> str:
    load = "\n".join(f"LoadModule {name}_module {_module(name)}" for name in modules)
    return f"""
ServerRoot {server.directory}
ServerName {HOST}
PidFile {server.name}.pid
DefaultRuntimeDir {server.directory}
Listen {HOST}:{server.port}
ErrorLog {server.log}
{load}
ThreadsPerChild 32
KeepAliveTimeout 600
LimitRequestBody 0
LogFormat "request %m %U %>s" lab
CustomLog {server.log} lab
{rest}
"""


def _command(config_file: Path) -> list[str]:
    """Apache in the foreground; it never serves as root.

    Who is root here remains so for the files, but has no rights and another name in a user
    namespace: no other user could enter a home directory in which Python may lie.
    """
    apache = [find_program("apache2") or "apache2", "-f", str(config_file), "-DFOREGROUND"]
    if os.geteuid() != 0:
        return apache
    # The namespace forgets the death signal that the lab has set.
    return [
        *("unshare", "--user", "--map-user=33", "--map-group=33"),
        *("setpriv", "--pdeathsig", "TERM"),
        *apache,
    ]


class _ProxyFront(Server):
    """Apache that passes everything on to a uWSGI server."""

    def __init__(self, directory: Path, port: int, protocol: str, backend_port: int) -> None:
        super().__init__(directory, "apache", port)
        self._protocol = protocol
        self._backend_port = backend_port
        self._config_file = self.directory / "apache.conf"

    def command(self) -> list[str]:
        return _command(self._config_file)

    def prepare(self) -> None:
        modules = ("mpm_event", "authz_core", "env", "proxy", f"proxy_{self._protocol}")
        passing = f"""
SetEnv proxy-sendchunked 1
ProxyPass / {self._protocol}://{HOST}:{self._backend_port}/ retry=0
ProxyTimeout 600
"""
        self._config_file.write_text(_config(self, modules, passing))


class UwsgiProxiedGlance(Glance):
    """Glance under uWSGI, which speaks its own protocol with an Apache before it.

    What is signalled and killed is uWSGI; a reload is one of both.
    """

    protocol = "uwsgi"
    socket_option = "uwsgi-socket"

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._backend_port = free_port()
        self._front = _ProxyFront(self.directory, self.port, self.protocol, self._backend_port)

    @classmethod
    def available(cls) -> str | None:
        return missing_module(f"proxy_{cls.protocol}")

    def listening(self) -> dict[str, str]:
        return {self.socket_option: f"{HOST}:{self._backend_port}"}

    def start(self) -> Self:
        self._front.start()
        return super().start()

    def stop(self) -> None:
        super().stop()
        self._front.stop()

    def begin_reload(self) -> None:
        self._front.signal(signal.SIGUSR1)
        super().begin_reload()

    def begin_stop(self) -> None:
        self._front.signal(signal.SIGWINCH)
        super().begin_stop()


class HttpProxiedGlance(UwsgiProxiedGlance):
    """As above, but Apache speaks HTTP with uWSGI."""

    protocol = "http"
    socket_option = "http-socket"


class ModWsgiGlance(Glance):
    """Glance in daemon processes of Apache's mod_wsgi."""

    request_line = _ACCESS_LINE

    @classmethod
    def available(cls) -> str | None:
        if reason := missing_module("wsgi"):
            return reason
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        program = subprocess.run(
            ["ldd", str(_module("wsgi"))], capture_output=True, text=True, check=False
        )
        is_ours = f"libpython{version}." in program.stdout
        return None if is_ours else f"mod_wsgi is made for another Python than {version}"

    def command(self) -> list[str]:
        return _command(self._apache_config)

    def environment(self) -> dict[str, str]:
        # The module is made for the distribution's Python, these packages perhaps for another
        # one of the same version.
        return {
            **super().environment(),
            "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or "",
        }

    @property
    def _apache_config(self) -> Path:
        return self.directory / "apache.conf"

    def prepare(self) -> None:
        super().prepare()
        script = self.directory / "glance.wsgi"
        script.write_text(
            "import tests.lab.patient_sqlite\nfrom glance.wsgi.api import application\n"
        )
        modules = ("mpm_event", "authz_core", "wsgi")
        serving = f"""
WSGISocketPrefix {self.directory}/wsgi
WSGIDaemonProcess glance processes={self.processes} threads={self.threads} \
display-name=%{{GROUP}} python-home={sys.prefix} python-path={TOP}
WSGIProcessGroup glance
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {script}
WSGIChunkedRequest On
<Directory {self.directory}>
  Require all granted
</Directory>
"""
        self._apache_config.write_text(_config(self, modules, serving))

    def _loaded_pids(self) -> set[int]:
        return set(self.worker_pids())

    def worker_pids(self) -> list[int]:
        found = []
        for child in psutil.Process(self.pid).children():
            with suppress(psutil.NoSuchProcess):
                if "(wsgi:glance)" in " ".join(child.cmdline()):
                    found.append(child.pid)
        return sorted(found)

    def begin_reload(self) -> None:
        """As `apachectl graceful`."""
        self.signal(signal.SIGUSR1)

    def begin_stop(self) -> None:
        """As `apachectl graceful-stop`."""
        self.signal(signal.SIGWINCH)

    def is_stopping(self) -> bool:
        """The daemon processes stay until Apache's last connection has ended."""
        return not accepts_connections(self.port)
