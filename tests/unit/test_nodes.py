# SPDX-License-Identifier: Apache-2.0
"""A node, its name, and what it looks after when it is alone."""

import subprocess
import sys
import threading

from glance_repl_mw import nodes as nodes_module
from glance_repl_mw.nodes import Nodes, node_name


def test_name_stays_and_tells_the_host(tmp_path, monkeypatch):
    monkeypatch.setattr(nodes_module.socket, "gethostname", lambda: "api-1.example")
    name = node_name(tmp_path)
    assert name.startswith("api-1-")
    monkeypatch.setattr(nodes_module.socket, "gethostname", lambda: "renamed")
    assert node_name(tmp_path) == name
    assert [path.name for path in tmp_path.iterdir()] == ["node"]


def test_processes_that_name_a_node_at_once_agree(tmp_path):
    names = []
    threads = [
        threading.Thread(target=lambda: names.append(node_name(tmp_path))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 1


def test_node_that_is_alone_looks_after_all():
    nodes = Nodes("me")
    nodes.start(threading.Event())
    assert (nodes.alive, nodes.share()) == ({"me"}, None)
    assert nodes.looks_after("a0b1")


def test_tooz_is_not_imported_where_a_node_is_alone():
    code = (
        "import sys, glance_repl_mw.filter, glance_repl_mw.cmd.writer, glance_repl_mw.cmd.manage;"
        "sys.exit('tooz' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code]).returncode == 0
