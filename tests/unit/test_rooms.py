"""The rooms keep their ranks: a module imports only from lower ones; and none grows too large."""

import ast
from pathlib import Path

import pytest

import glance_repl_mw

PACKAGE = Path(glance_repl_mw.__file__).parent
RANKS = {
    "exceptions": 0,
    "opts": 0,
    "policies": 0,
    "pace": 0,
    "signing": 0,
    "osc": 0,
    "foreign_text": -1,
    "sizes": 0,
    "spare_threads": 1,
    "credentials": 1,
    "model": 1,
    "spool": 1,
    "tee": 1,
    "locking": 1,
    "nearest": 1,
    "bodies": 2,
    "own_requests": 2,
    "proxying": 2,
    "patches": 1,
    "nodes": 2,
    "notifications": 2,
    "coordination": 3,
    "images": 3,
    "inquiry": 2,
    "routes": 2,
    "rules": 2,
    "choice": 3,
    "targets.base": 2,
    "db.models": 2,
    "db.migrations": 2,
    "targets": 3,
    "db": 3,
    "writer": 5,
    "reconciler": 4,
    "launcher": 4,
    "attempt": 4,
    "background": 0,
    "concern": 4,
    "download": 4,
    "checks": 4,
    "rest": 4,
    "api": 5,
    "filter": 6,
    "cmd": 6,
}
MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path.name not in ("__init__.py", "env.py")
]
MOST_LINES = 340
MOST_FUNCTION_LINES = 45


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room_of(module):
    """The entry of the table that a module belongs to, the longest that fits."""
    fitting = [room for room in RANKS if module == room or module.startswith(f"{room}.")]
    assert fitting, f"{module} is in no room of the table"
    return max(fitting, key=len)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("glance_repl_mw"):
            base = node.module.removeprefix("glance_repl_mw").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                is_module = (PACKAGE / inner.replace(".", "/")).with_suffix(".py").exists()
                yield inner if is_module else base


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_imports_only_from_lower_ranks_or_its_own_room(path):
    room = room_of(name_of(path))
    for imported in imports_of(path):
        other = room_of(imported)
        assert other == room or RANKS[other] < RANKS[room], f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_rooms_and_functions_stay_small(path):
    assert path.read_text().count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < MOST_FUNCTION_LINES, node.name


def test_every_init_is_empty():
    assert all(path.read_text() == "" for path in PACKAGE.rglob("__init__.py"))
