# SPDX-License-Identifier: Apache-2.0
"""HTTP servers that take PUT: nginx, Apache, lighttpd and WsgiDAV."""

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.certificates import KeyPair
from tests.lab.process import HOST, ServerError, free_port
from tests.lab.webserver_base import ConfiguredServer, WebServer, find_program

APACHE_MODULES = Path("/usr/lib/apache2/modules")
APACHE_USER = "www-data"
LIGHTTPD_MODULES = Path("/usr/lib/lighttpd")


class Nginx(ConfiguredServer):
    """Nginx with its own DAV module; `token` and `client_ca` are further ways to protect it.

    :cvar most_body_bytes: of a request, 0 for any number
    """

    most_body_bytes = 0

    def __init__(
        self,
        directory: Path,
        name: str = "",
        port: int | None = None,
        *,
        username: str = "",
        password: str = "",
        token: str = "",
        tls: KeyPair | None = None,
        client_ca: Path | None = None,
        dav_methods: Sequence[str] = ("PUT", "DELETE", "MKCOL", "COPY", "MOVE"),
        autoindex: bool = False,
    ) -> None:
        super().__init__(directory, name, port, username=username, password=password)
        self.token = token
        self.tls = tls
        self.client_ca = client_ca
        self.dav_methods = dav_methods
        self.autoindex = autoindex

    @classmethod
    def available(cls) -> str | None:
        return None if find_program("nginx") else "nginx is not installed"

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:") if self.tls else super().url

    def command(self) -> list[str]:
        program = find_program("nginx") or "nginx"
        # Without -e it first tries the log of the system's nginx.
        arguments = ["-p", f"{self.directory}/", "-e", str(self.log), "-c", str(self.config_file)]
        return [program, *arguments]

    def config(self) -> str:
        return f"""
daemon off; master_process off; pid {self.name}.pid; error_log {self.log} info;
events {{ worker_connections 512; }}
http {{
{temporary_paths()}
  log_format lab '$request_method $uri $status';
  access_log {self.access_log} lab;
  client_max_body_size {self.most_body_bytes}; client_body_buffer_size 256k;
  default_type application/octet-stream; sendfile on;
  server {{
    listen {HOST}:{self.port}{" ssl" if self.tls else ""};
    root {self.document_root};
    {self._protection()}
    location / {{
      dav_methods {" ".join(self.dav_methods) or "off"};
      create_full_put_path on; min_delete_depth 0;
      {"autoindex on; autoindex_format json;" if self.autoindex else ""}
    }}
  }}
}}
"""

    def _protection(self) -> str:
        lines = []
        if self.tls:
            lines.append(f"ssl_certificate {self.tls.certificate};")
            lines.append(f"ssl_certificate_key {self.tls.key};")
        if self.client_ca:
            lines.append(f"ssl_client_certificate {self.client_ca}; ssl_verify_client on;")
        if self.username:
            lines.append(f"auth_basic lab; auth_basic_user_file {self.password_file};")
        if self.token:
            lines.append(f'if ($http_authorization != "Bearer {self.token}") {{ return 401; }}')
        return "\n    ".join(lines)


class SignedNginx(ConfiguredServer):
    """Nginx as the sample for signed locations has it, without TLS.

    What is written at `url` with the password is read at `location_url` with a signature.
    """

    request_line = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+)" (?P<status>\d{3}) ')
    sample = Path(__file__).parents[2] / "etc/glance-repl-mw/nginx-signed-locations.conf.sample"

    def __init__(self, directory: Path, key: str) -> None:
        super().__init__(directory, "nginx", username="writer", password="lab-writer-password")
        self.key = key
        self.location_port = free_port()

    available = Nginx.available
    command = Nginx.command

    @property
    def location_url(self) -> str:
        return f"http://{HOST}:{self.location_port}/images/"

    def config(self) -> str:
        text = self.sample.read_text()
        for ours, here in {
            "listen 443 ssl;": f"listen {HOST}:{self.location_port};",
            "listen 8443 ssl;": f"listen {HOST}:{self.port};",
            "ssl_certificate /etc/nginx/site-a.pem;": "",
            "ssl_certificate_key /etc/nginx/site-a.key;": "",
            "root /srv/replicas;": f"root {self.document_root};",
            "/etc/nginx/replicas.htpasswd": str(self.password_file),
            "/var/log/nginx/replicas.log replicas;": f"{self.access_log} replicas;",
            '$secure_link_expires$uri KEY"': f'$secure_link_expires$uri {self.key}"',
        }.items():
            assert ours in text, f"{ours} is not in {self.sample.name}"
            text = text.replace(ours, here)
        return f"""
daemon off; master_process off; pid nginx.pid; error_log {self.log} info;
events {{ worker_connections 512; }}
http {{
{temporary_paths()}
{text}
}}
"""


class SampleNginx(ConfiguredServer):
    """Nginx as the sample of a plain target has it, without TLS."""

    sample = Path(__file__).parents[2] / "etc/glance-repl-mw/nginx-target.conf.sample"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "nginx", username="writer", password="lab-writer-password")

    available = Nginx.available
    command = Nginx.command

    def config(self) -> str:
        text = self.sample.read_text()
        for ours, here in {
            "listen 443 ssl;": f"listen {HOST}:{self.port};",
            "ssl_certificate /etc/nginx/site-a.pem;": f"access_log {self.access_log} lab;",
            "ssl_certificate_key /etc/nginx/site-a.key;": "",
            "root /srv/replicas;": f"root {self.document_root};",
            "/srv/replicas/.receiving": f"{self.document_root}/.receiving",
            "/etc/nginx/replicas.htpasswd": str(self.password_file),
        }.items():
            assert ours in text, f"{ours} is not in {self.sample.name}"
            text = text.replace(ours, here)
        return f"""
daemon off; master_process off; pid nginx.pid; error_log {self.log} info;
events {{ worker_connections 512; }}
http {{
{temporary_paths().replace("  client_body_temp_path tmp/client_body;", "")}
  log_format lab '$request_method $uri $status';
{text}
}}
"""


class Apache(ConfiguredServer):
    """Apache with mod_dav.

    Started as root it serves as www-data, to whom every directory above must be open.

    :cvar most_body_bytes: of a request, 0 for any number
    """

    most_body_bytes = 0

    modules = (
        "mpm_event",
        "authn_core",
        "authn_file",
        "authz_core",
        "authz_user",
        "auth_basic",
        "dav",
        "dav_fs",
    )

    def __init__(
        self,
        directory: Path,
        name: str = "",
        port: int | None = None,
        *,
        username: str = "",
        password: str = "",
        tls: KeyPair | None = None,
    ) -> None:
        super().__init__(directory, name, port, username=username, password=password)
        self.tls = tls

    @classmethod
    def available(cls) -> str | None:
        if not find_program("apache2"):
            return "apache2 is not installed"
        return None if APACHE_MODULES.is_dir() else "the modules of apache2 were not found"

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:") if self.tls else super().url

    def command(self) -> list[str]:
        return [find_program("apache2") or "apache2", "-f", str(self.config_file), "-DFOREGROUND"]

    def prepare(self) -> None:
        super().prepare()
        locks = self.directory / "locks"
        locks.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            closed = [str(p) for p in self.root.resolve().parents if not p.stat().st_mode & 0o001]
            if closed:
                raise ServerError(f"{APACHE_USER} cannot enter {closed[-1]}")
            for directory in (self.document_root, self.root, locks):
                shutil.chown(directory, APACHE_USER, APACHE_USER)

    def config(self) -> str:
        modules = (*self.modules, "ssl") if self.tls else self.modules
        load = "\n".join(f"LoadModule {m}_module {APACHE_MODULES}/mod_{m}.so" for m in modules)
        return f"""
ServerRoot {self.directory}
ServerName {HOST}
PidFile {self.name}.pid
DefaultRuntimeDir {self.directory}
Listen {HOST}:{self.port}
ErrorLog {self.log}
{load}
{f"User {APACHE_USER}" if os.geteuid() == 0 else ""}
{f"Group {APACHE_USER}" if os.geteuid() == 0 else ""}
ThreadsPerChild 32
LogFormat "%m %U %>s" lab
CustomLog {self.access_log} lab
DavLockDB {self.directory}/locks/db
DocumentRoot {self.document_root}
LimitRequestBody {self.most_body_bytes}
{self._tls()}
<Directory {self.document_root}>
  Dav On
  {self._protection()}
</Directory>
"""

    def _tls(self) -> str:
        if not self.tls:
            return ""
        return f"""SSLEngine on
SSLCertificateFile {self.tls.certificate}
SSLCertificateKeyFile {self.tls.key}"""

    def _protection(self) -> str:
        if not self.username:
            return "Require all granted"
        return f"""AuthType Basic
  AuthName lab
  AuthUserFile {self.password_file}
  Require valid-user"""


class Lighttpd(ConfiguredServer):
    """Lighttpd with mod_webdav."""

    @classmethod
    def available(cls) -> str | None:
        if not find_program("lighttpd"):
            return "lighttpd is not installed"
        installed = (LIGHTTPD_MODULES / "mod_webdav.so").exists()
        return None if installed else "mod_webdav of lighttpd is not installed"

    def command(self) -> list[str]:
        return [find_program("lighttpd") or "lighttpd", "-D", "-f", str(self.config_file)]

    def config(self) -> str:
        return f"""
server.modules = ("mod_auth", "mod_authn_file", "mod_webdav", "mod_accesslog")
server.bind = "{HOST}"
server.port = {self.port}
server.document-root = "{self.document_root}"
server.errorlog = "{self.log}"
server.upload-dirs = ("{self.directory}/tmp")
server.max-request-size = 0
accesslog.filename = "{self.access_log}"
accesslog.format = "%m %U %s"
webdav.activate = "enable"
{self._protection()}
"""

    def _protection(self) -> str:
        if not self.username:
            return ""
        return f"""auth.backend = "htpasswd"
auth.backend.htpasswd.userfile = "{self.password_file}"
auth.require = ("/" => ("method" => "basic", "realm" => "lab", "require" => "valid-user"))"""


class WsgiDav(WebServer):
    """WsgiDAV under cheroot: pure Python, so that it needs no package of the distribution."""

    request_line = re.compile(r'"(?P<method>[A-Z]+) (?P<path>[^"]+)".* -> (?P<status>\d{3}) ')

    @classmethod
    def available(cls) -> str | None:
        missing = [name for name in ("wsgidav", "cheroot") if not importlib.util.find_spec(name)]
        return f"{' and '.join(missing)} not installed" if missing else None

    @property
    def access_log(self) -> Path:
        return self.log

    @property
    def config_file(self) -> Path:
        return self.directory / f"{self.name}.json"

    def command(self) -> list[str]:
        program = Path(sys.executable).with_name("wsgidav")
        return [sys.executable, str(program), "--config", str(self.config_file)]

    def prepare(self) -> None:
        super().prepare()
        users = {self.username: {"password": self.password}} if self.username else True
        config = {
            "host": HOST,
            "port": self.port,
            "provider_mapping": {"/": str(self.document_root)},
            "simple_dc": {"user_mapping": {"*": users}},
            "http_authenticator": {"accept_basic": True, "accept_digest": False},
            "server_args": {"numthreads": 32},
            "logging": {"enable": True},
            "verbose": 3,
        }
        self.config_file.write_text(json.dumps(config))


def temporary_paths() -> str:
    """Keeps the temporary files of nginx in its own directory."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join(f"  {kind}_temp_path tmp/{kind};" for kind in kinds)
