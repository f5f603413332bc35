# SPDX-License-Identifier: Apache-2.0
"""The rooms keep their ranks: a module imports only from lower ones; and none grows too large."""

import ast
from pathlib import Path

import pytest

import glance_repl_mw

PACKAGE = Path(glance_repl_mw.__file__).parent
RANKS = {
    "background": 0,
    "causes": 0,
    "connections": 0,
    "db.migrations": 0,
    "foreign_text": 0,
    "imagecache": 0,
    "inquiry": 0,
    "locking": 0,
    "pace": 0,
    "policies": 0,
    "presence": 0,
    "replicas": 0,
    "seconds": 0,
    "signing": 0,
    "sizes": 0,
    "spare_threads": 0,
    "substitution": 0,
    "tee": 0,
    "urls": 0,
    "bodies": 1,
    "bounded": 1,
    "exceptions": 1,
    "launcher": 1,
    "model": 1,
    "nearest": 1,
    "network_errors": 1,
    "opts": 1,
    "osc": 1,
    "patches": 1,
    "proxies": 1,
    "proxying": 1,
    "answers": 2,
    "content": 2,
    "credentials": 2,
    "db.models": 2,
    "extras": 2,
    "glance_errors": 2,
    "nodes": 2,
    "notifications": 2,
    "rules": 2,
    "spool": 2,
    "targets.base": 2,
    "targets.bounds": 2,
    "values": 2,
    "attempt": 3,
    "choice": 3,
    "coordination": 3,
    "db": 3,
    "own_requests": 3,
    "routes": 3,
    "targets": 3,
    "concern": 4,
    "deployment": 4,
    "download": 4,
    "images": 4,
    "reconciler": 5,
    "rest": 5,
    "api": 6,
    "checks": 6,
    "writer": 6,
    "cmd": 7,
    "filter": 7,
    "healthcheck": 7,
}
MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path.name not in ("__init__.py", "env.py")
]
MOST_LINES = 450
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
