"""A real Redis, which tooz coordinates nodes with."""

from tests.lab.process import HOST, Server
from tests.lab.webserver_base import find_program


class Redis(Server):
    """Redis in memory, without a password."""

    @staticmethod
    def available() -> str | None:
        """Return None, or why it cannot be started here."""
        return None if find_program("redis-server") else "redis-server is not installed"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def command(self) -> list[str]:
        program = find_program("redis-server") or "redis-server"
        return [program, "--bind", HOST, "--port", str(self.port), "--save", ""]
