# SPDX-License-Identifier: Apache-2.0
"""What the HTTP servers of the lab have in common."""

import base64
import hashlib
import os
import re
import shutil
from pathlib import Path

from tests.lab.process import Server


def find_program(*names: str) -> str | None:
    """Return the path of the first of these programs, also where a plain user's PATH ends."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin"
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


class WebServer(Server):
    """A server whose collection /images/ anyone may read and write, or only who has the password.

    Its access log has the lines "METHOD PATH STATUS".
    """

    request_line = re.compile(r"^(?P<method>[A-Z]+) (?P<path>\S+) (?P<status>\d{3})$")

    def __init__(
        self,
        directory: Path,
        name: str = "",
        port: int | None = None,
        *,
        username: str = "",
        password: str = "",
    ) -> None:
        super().__init__(directory, name or type(self).__name__.lower(), port)
        self.username = username
        self.password = password
        self.document_root = self.directory / "root"
        self.root = self.document_root / "images"

    @classmethod
    def available(cls) -> str | None:
        """Return None, or why this server cannot be started here."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"{super().url}images/"

    @property
    def access_log(self) -> Path:
        return self.directory / f"{self.name}-access.log"

    @property
    def auth(self) -> tuple[str, str] | None:
        return (self.username, self.password) if self.username else None

    @property
    def password_file(self) -> Path:
        return self.directory / "htpasswd"

    def prepare(self) -> None:
        for directory in (self.root, self.directory / "tmp"):
            directory.mkdir(parents=True, exist_ok=True)
        if self.username:
            digest = base64.b64encode(hashlib.sha1(self.password.encode()).digest()).decode()
            self.password_file.write_text(f"{self.username}:{{SHA}}{digest}\n")


class ConfiguredServer(WebServer):
    """A server that reads one configuration file, written before its first start."""

    @property
    def config_file(self) -> Path:
        return self.directory / f"{self.name}.conf"

    def config(self) -> str:
        raise NotImplementedError

    def prepare(self) -> None:
        super().prepare()
        self.config_file.write_text(self.config())
