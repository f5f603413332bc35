# SPDX-License-Identifier: Apache-2.0
"""``glance-repl-status upgrade check``: its exit status, and what it prints."""

import json

import pytest

from glance_repl_mw.cmd import status
from glance_repl_mw.db import schema

CHECKS = ["Database schema", "Options", "Targets", "Spool", "Policy file"]


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command on a node with these options; returns its status and what it printed."""
    (tmp_path / "spool").mkdir(mode=0o700)
    config = tmp_path / "glance-api.conf"

    def run(*arguments, options=(), **settings):
        settings = {
            "connection": f"sqlite:///{tmp_path}/replication.sqlite",
            "spool_dir": tmp_path / "spool",
            "spool_min_free_bytes": 0,
            **settings,
        }
        lines = ["[replication]", *(f"{name} = {value}" for name, value in settings.items())]
        config.write_text("\n".join([*options, *lines, ""]))
        code = status.status(["--config-file", str(config), "upgrade", "check", *arguments])
        return code, capsys.readouterr()

    return run


def results(captured):
    return {each["check"]: each for each in json.loads(captured.out)["checks"]}


def test_node_that_is_ready(run, tmp_path):
    schema.upgrade(schema.open_database(f"sqlite:///{tmp_path}/replication.sqlite"))
    code, captured = run()
    assert code == 0
    assert captured.out.count("Result: Success") == len(CHECKS)
    assert captured.err == ""


def test_json_names_all_checks(run):
    code, captured = run("--json")
    assert code == 0
    assert list(results(captured)) == CHECKS
    assert all(each["result"] == 0 for each in results(captured).values())


def test_unknown_option_is_a_warning(run):
    code, captured = run("--json", abolished=1)
    assert code == 1
    told = results(captured)["Options"]
    assert told["result"] == 1
    assert "[replication] abolished: is unknown" in told["details"]


def test_failure_outweighs_a_warning(run, tmp_path):
    (tmp_path / "spool").chmod(0o755)
    code, captured = run("--json", abolished=1)
    assert code == 2
    assert results(captured)["Spool"]["result"] == 2
    assert "make its mode 0700" in results(captured)["Spool"]["details"]


def test_policy_file_in_json_is_a_failure(run, tmp_path):
    (tmp_path / "policy.json").write_text("{}")
    policy = ["[oslo_policy]", f"policy_file = {tmp_path}/policy.json"]
    code, captured = run("--json", options=policy)
    assert code == 2
    assert results(captured)["Policy file"]["result"] == 2


def test_no_secret_is_shown(run):
    code, captured = run("--json", connection="mysql+pymysql://user:hunter2@127.0.0.1:1/database")
    assert code == 2
    assert "cannot be used" in captured.out
    assert "hunter2" not in captured.out + captured.err


def test_configuration_that_is_not_there(tmp_path, capsys, monkeypatch):
    assert status.status(["--config-file", str(tmp_path / "none"), "upgrade", "check"]) == 255
    monkeypatch.setenv("OS_GLANCE_CONFIG_DIR", str(tmp_path))
    assert status.status(["upgrade", "check"]) == 255
    captured = capsys.readouterr()
    assert captured.out == ""
    for line in captured.err.splitlines():
        assert line.startswith("glance-repl-status: ")
    assert captured.err.endswith("name one with --config-file\n")
