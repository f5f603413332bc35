# SPDX-License-Identifier: Apache-2.0
"""Database servers: MariaDB and PostgreSQL."""

import contextlib
import os
import shutil
import signal
from itertools import count
from pathlib import Path

import psutil
import sqlalchemy as sa

from tests.lab.process import HOST, Server, run, wait_until
from tests.lab.webserver_base import find_program

POSTGRESQL_PROGRAMS = Path("/usr/lib/postgresql")
NOBODY = ("nobody", "nogroup")
OWNER = "owner_of_databases"


class DatabaseServer(Server):
    """An SQL server whose administrator needs no password.

    What it has acknowledged outlives the end of its process, not that of the machine. Started as
    root it runs as `account`, to whom every directory above must be open.
    """

    account = NOBODY

    driver: str
    administrator: str
    first_database: str
    options = ""
    clients: str
    """The query that tells all connections but its own."""
    end_client: str
    """The statement that breaks one of them."""
    make_owner: tuple[str, ...]
    """The statements that give a database to a user without further rights."""

    def __init__(self, directory: Path, name: str = "", port: int | None = None) -> None:
        super().__init__(directory, name or type(self).__name__.lower(), port)
        self.data = self.directory / "data"
        self._numbers = count(1)

    @classmethod
    def available(cls) -> str | None:
        """Return None, or why this server cannot be started here."""
        raise NotImplementedError

    def connection(self, database: str, user: str = "") -> str:
        """Return the SQLAlchemy URL of one of its databases, by default the administrator's."""
        user = user or self.administrator
        return f"{self.driver}://{user}@{HOST}:{self.port}/{database}{self.options}"

    def new_database(self) -> str:
        """Make an empty database as its defaults say; return the SQLAlchemy URL."""
        name = f"replication_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.connection(name)

    def new_owned_database(self) -> str:
        """As `new_database`, for a user whose writes can be refused."""
        database = self.new_database().rpartition("/")[2].partition("?")[0]
        for statement in self.make_owner:
            self.execute(statement.format(database=database, owner=OWNER))
        return self.connection(database, OWNER)

    def refuse_writes(self) -> None:
        """Let the owner of databases read only from now on."""
        raise NotImplementedError

    def accept_writes(self) -> None:
        raise NotImplementedError

    def execute(self, statement: str, **parameters: object) -> list[tuple[object, ...]]:
        """Run a statement of the administrator's outside of any transaction; return its rows."""
        engine = sa.create_engine(
            self.connection(self.first_database),
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
        )
        with engine.connect() as connection:
            result = connection.execute(sa.text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    def end_connections(self) -> int:
        """Break all connections of clients; return how many there were, when they are gone."""
        ended = self.execute(self.clients)
        for (client,) in ended:
            self.execute(self.end_client.format(client))
        wait_until(lambda: not set(ended) & set(self.execute(self.clients)), 60, "connections end")
        return len(ended)

    def pause(self) -> None:
        """Let it answer nothing from now on; the kernel still accepts connections for it."""
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        for process in self._processes():
            process.resume()

    def _processes(self) -> list[psutil.Process]:
        server = psutil.Process(self.pid)
        return [server, *server.children()]

    def prepare(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            for path in (self.directory, self.data):
                shutil.chown(path, *self.account)

    def ready(self) -> bool:
        try:
            self.execute("SELECT 1")
        except sa.exc.DBAPIError:
            return False
        return True

    def unprivileged(self, *command: str) -> list[str]:
        """Return the command without the rights of root."""
        if os.geteuid() != 0:
            return list(command)
        user, group = self.account
        # A change of the user forgets the signal that tells of the launcher's end.
        dropped = ["--reuid", user, "--regid", group, "--clear-groups", "--pdeathsig", "TERM"]
        return ["setpriv", *dropped, *command]


class MariaDb(DatabaseServer):
    """MariaDB with the defaults that it comes with: latin1, REPEATABLE READ.

    As newer releases do by default, it refuses to lock a row that has changed since the
    transaction has read it (error 1020).
    """

    driver = "mysql+pymysql"
    administrator = "root"
    first_database = "mysql"
    # Else PyMySQL reads all certificates of the system for each connection.
    options = "?ssl_disabled=1"
    clients = (
        "SELECT id FROM information_schema.processlist"
        " WHERE command <> 'Daemon' AND id <> connection_id()"
    )
    end_client = "KILL {}"
    make_owner = (
        "CREATE USER IF NOT EXISTS {owner}@'%'",
        "GRANT ALL PRIVILEGES ON {database}.* TO {owner}@'%'",
    )

    @classmethod
    def available(cls) -> str | None:
        return None if find_program("mariadbd") else "mariadbd is not installed"

    def prepare(self) -> None:
        super().prepare()
        install = [
            find_program("mariadb-install-db") or "mariadb-install-db",
            "--no-defaults",
            f"--datadir={self.data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        run(self.unprivileged(*install), self.environment(), self.log)

    def command(self) -> list[str]:
        return self.unprivileged(
            find_program("mariadbd") or "mariadbd",
            "--no-defaults",
            f"--datadir={self.data}",
            f"--socket={self.directory}/socket",
            f"--pid-file={self.directory}/pid",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=32M",
            "--loose-innodb-snapshot-isolation=ON",
        )

    def refuse_writes(self) -> None:
        self.execute("SET GLOBAL read_only = 1")

    def accept_writes(self) -> None:
        self.execute("SET GLOBAL read_only = 0")


class PostgreSql(DatabaseServer):
    """PostgreSQL with the defaults that it comes with."""

    driver = "postgresql+psycopg2"
    administrator = "postgres"
    first_database = "postgres"
    clients = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    end_client = "SELECT pg_terminate_backend({})"
    make_owner = (
        "DO $$ BEGIN CREATE ROLE {owner} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$",
        "ALTER DATABASE {database} OWNER TO {owner}",
    )

    @classmethod
    def available(cls) -> str | None:
        return None if cls._programs() else "postgresql is not installed"

    @classmethod
    def _programs(cls) -> Path | None:
        """The directory of the newest release's programs."""
        if found := find_program("postgres"):
            return Path(found).parent
        releases = POSTGRESQL_PROGRAMS.glob("*/bin/postgres")
        newest = max(releases, key=lambda path: int(path.parts[-3]), default=None)
        return newest.parent if newest else None

    def _program(self, name: str) -> str:
        return str((self._programs() or Path()) / name)

    def prepare(self) -> None:
        super().prepare()
        initdb = [self._program("initdb"), "-D", str(self.data), "-A", "trust", "-N"]
        initdb += ["-U", self.administrator, "-E", "UTF8", "--locale=C.UTF-8"]
        run(self.unprivileged(*initdb), self.environment(), self.log)

    def command(self) -> list[str]:
        arguments = ["-D", str(self.data), "-h", HOST, "-p", str(self.port)]
        arguments += ["-k", str(self.directory), "-c", "fsync=off"]
        return self.unprivileged(self._program("postgres"), *arguments)

    def refuse_writes(self) -> None:
        self._let_owner_begin("SET default_transaction_read_only = on")

    def accept_writes(self) -> None:
        self._let_owner_begin("RESET default_transaction_read_only")

    def _let_owner_begin(self, setting: str) -> None:
        """Only new sessions heed it."""
        self.execute(f"ALTER ROLE {OWNER} {setting}")
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :owner",
            owner=OWNER,
        )

    def stop(self) -> None:
        """End it without waiting for its clients."""
        if self.running:
            self.signal(signal.SIGINT)
        super().stop()

    def kill(self) -> None:
        """End all of its processes with SIGKILL, as a crash of the machine would."""
        workers = psutil.Process(self.pid).children() if self.running else []
        super().kill()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        wait_until(lambda: not any(_holds_memory(each) for each in workers), 60, "all is ended")


def _holds_memory(process: psutil.Process) -> bool:
    """Whether a server that is started now would find it in its way."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
