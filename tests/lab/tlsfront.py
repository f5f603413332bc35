# SPDX-License-Identifier: Apache-2.0
"""TLS in front of a server that has none."""

from pathlib import Path

from tests.lab.certificates import KeyPair
from tests.lab.process import HOST, Server
from tests.lab.webserver_base import ConfiguredServer, find_program


class TlsFront(ConfiguredServer):
    """Nginx that passes requests on to another server, as a load balancer that ends TLS."""

    def __init__(self, directory: Path, behind: Server, tls: KeyPair) -> None:
        super().__init__(directory, "tls-front")
        self.behind = behind
        self.tls = tls

    @classmethod
    def available(cls) -> str | None:
        return None if find_program("nginx") else "nginx is not installed"

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}/"

    def command(self) -> list[str]:
        program = find_program("nginx") or "nginx"
        # Without -e it first tries the log of the system's nginx.
        arguments = ["-p", f"{self.directory}/", "-e", str(self.log), "-c", str(self.config_file)]
        return [program, *arguments]

    def config(self) -> str:
        temporary = "\n".join(
            f"  {kind}_temp_path tmp/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""
daemon off; master_process off; pid {self.name}.pid; error_log {self.log} info;
events {{ worker_connections 512; }}
http {{
{temporary}
  log_format lab '$request_method $uri $status';
  access_log {self.access_log} lab;
  server {{
    listen {HOST}:{self.port} ssl;
    ssl_certificate {self.tls.certificate};
    ssl_certificate_key {self.tls.key};
    location / {{
      proxy_pass {self.behind.url};
      # The server makes links from these.
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto https;
    }}
  }}
}}
"""
