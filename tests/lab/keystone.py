# SPDX-License-Identifier: Apache-2.0
"""A real Keystone: SQLite, Fernet tokens, users with passwords."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from keystoneauth1.loading import BaseLoader, get_plugin_loader
from keystoneauth1.session import Session
from keystoneclient.v3.client import Client

from tests.lab.process import clean_environment, run
from tests.lab.uwsgi import PATIENT_SQLITE, UwsgiServer

REGION = "RegionOne"
INTERFACES = ("public", "internal", "admin")
TOKEN_SECONDS = 3600


def open_session(credentials: Mapping[str, str]) -> Session:
    loader: BaseLoader[Any] = get_plugin_loader("password")
    return Session(auth=loader.load_from_options(**credentials))


class Keystone(UwsgiServer):
    """Keystone with the user and project `admin`, and whoever is added.

    The first start takes some seconds. All methods that talk to it block.
    """

    module = "keystone.wsgi.api:application"

    def __init__(self, directory: Path, name: str = "keystone", port: int | None = None) -> None:
        # It notes on which day users were active: the day's first tokens would meet.
        super().__init__(directory, name, port, uwsgi_arguments=PATIENT_SQLITE)
        self.config_file = self.directory / "keystone.conf"
        self._token_seconds = TOKEN_SECONDS
        self._passwords = {"admin": "lab-admin-password"}

    @property
    def auth_url(self) -> str:
        return f"{self.url}v3"

    def environment(self) -> dict[str, str]:
        return clean_environment(OS_KEYSTONE_CONFIG_FILES=str(self.config_file))

    def prepare(self) -> None:
        for repository in ("fernet", "credential"):
            self._write_keys(self.directory / repository)
        self._write_config()
        self._manage("db_sync")
        urls = [f"--bootstrap-{interface}-url={self.auth_url}" for interface in INTERFACES]
        password = f"--bootstrap-password={self._passwords['admin']}"
        self._manage("bootstrap", password, f"--bootstrap-region-id={REGION}", *urls)

    def issue_tokens_for(self, seconds: int) -> None:
        """Let tokens live so long; those that were issued before keep their time."""
        self._token_seconds = seconds
        self._write_config()
        self.reload()

    def _write_config(self) -> None:
        self.config_file.write_text(
            f"""[database]
connection = sqlite:///{self.directory}/keystone.sqlite
[token]
provider = fernet
expiration = {self._token_seconds}
[fernet_tokens]
key_repository = {self.directory}/fernet
[fernet_receipts]
key_repository = {self.directory}/fernet
[credential]
key_repository = {self.directory}/credential
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memory
"""
        )

    def credentials(self, username: str = "admin", project: str = "admin") -> dict[str, str]:
        """Return keystoneauth's options for the plugin `password`, as a service reads them."""
        return {
            "auth_url": self.auth_url,
            "username": username,
            "password": self._passwords[username],
            "project_name": project,
            "user_domain_id": "default",
            "project_domain_id": "default",
        }

    def client_environment(
        self, username: str = "admin", project: str = "admin"
    ) -> dict[str, str]:
        """Return the whole environment of a command such as `openstack`."""
        options = self.credentials(username, project)
        return clean_environment(
            OS_IDENTITY_API_VERSION="3",
            OS_REGION_NAME=REGION,
            **{f"OS_{name.upper()}": value for name, value in options.items()},
        )

    def session(self, username: str = "admin", project: str = "admin") -> Session:
        return open_session(self.credentials(username, project))

    def add_user(self, name: str, password: str, project: str, roles: tuple[str, ...]) -> None:
        """Let a user have these roles in the project; whatever is missing is made."""
        client = self._client()
        projects = {entry.name: entry for entry in client.projects.list()}
        home = projects.get(project) or client.projects.create(project, "default")
        found = client.users.list(name=name)
        # To set a password again would revoke tokens, those of the same second included.
        if found and self._passwords.get(name) == password:
            user = found[0]
        else:
            user = client.users.create(name, domain="default", password=password)
        known = {role.name: role for role in client.roles.list()}
        for role in roles:
            entry = known.get(role) or client.roles.create(role)
            client.roles.grant(entry, user=user, project=home)
        self._passwords[name] = password

    def take_role(self, name: str, project: str, role: str) -> None:
        """Take a role away; tokens of the user that have no other one become invalid."""
        client, user, home, entry = self._assignment(name, project, role)
        client.roles.revoke(entry, user=user, project=home)

    def give_role(self, name: str, project: str, role: str) -> None:
        """Give a role that exists to a user, who may have it already."""
        client, user, home, entry = self._assignment(name, project, role)
        client.roles.grant(entry, user=user, project=home)

    def _assignment(self, name: str, project: str, role: str) -> tuple[Client, Any, Any, Any]:
        client = self._client()
        (user,) = client.users.list(name=name)
        (home,) = client.projects.list(name=project)
        (entry,) = client.roles.list(name=role)
        return client, user, home, entry

    def add_service(self, service_type: str, url: str, region: str = REGION) -> None:
        """Put the service into the catalogue, or move the one of this region to the URL."""
        self.add_endpoints(service_type, dict.fromkeys(INTERFACES, url), region)

    def add_endpoints(
        self, service_type: str, urls: Mapping[str, str], region: str = REGION
    ) -> None:
        """Let these be the region's endpoints of the service, by interface."""
        client = self._client()
        found = client.services.list(type=service_type)
        service = found[0] if found else client.services.create(service_type, service_type)
        for endpoint in client.endpoints.list(service=service, region_id=region):
            client.endpoints.delete(endpoint)
        for interface, url in urls.items():
            client.endpoints.create(service, url, interface=interface, region=region)

    def remove_service(self, service_type: str) -> None:
        client = self._client()
        for service in client.services.list(type=service_type):
            client.services.delete(service)

    def add_application_credential(self, username: str, project: str, name: str) -> dict[str, str]:
        """Make one with the user's roles; return the options of `v3applicationcredential`."""
        session = self.session(username, project)
        client = Client(session=session, interface="public")
        made = client.application_credentials.create(name, user=session.get_user_id())
        return {
            "auth_url": self.auth_url,
            "application_credential_id": made.id,
            "application_credential_secret": made.secret,
        }

    def revoke_tokens(self, username: str) -> None:
        """End all tokens of the user; setting a password does, also to what it was."""
        users = self._client().users
        (user,) = users.list(name=username)
        users.update(user, password=self._passwords[username])

    def _client(self) -> Client:
        return Client(session=self.session(), interface="public")

    def _manage(self, *arguments: str) -> None:
        program = str(Path(sys.executable).with_name("keystone-manage"))
        command = [sys.executable, program, "--config-file", str(self.config_file), *arguments]
        run(command, self.environment(), self.log)

    @staticmethod
    def _write_keys(repository: Path) -> None:
        # As fernet_setup and credential_setup do, which take two seconds each.
        repository.mkdir(mode=0o700, exist_ok=True)
        for name in ("0", "1"):
            key = repository / name
            key.touch(mode=0o600)
            key.write_bytes(Fernet.generate_key())
