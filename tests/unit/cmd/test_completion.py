# SPDX-License-Identifier: Apache-2.0
"""The script that ``completion`` prints, in a real bash."""

import shutil
import subprocess

import pytest

from glance_repl_mw.cmd import manage

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
ASK = """
eval "$SCRIPT"
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"_${1//-/_}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script():
    """What the command prints where there is no configuration."""
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setenv("OS_GLANCE_CONFIG_DIR", "/nonexistent")
        patch.setattr("builtins.print", lambda text, end: lines.append(text + end))
        assert manage.manage(["completion"]) == 0
    return "".join(lines)


@pytest.fixture
def complete(script, tmp_path):
    """What bash offers for the last of these words."""

    def complete(*words):
        done = subprocess.run(
            ["bash", "-c", ASK, "bash", *words],
            env={"SCRIPT": script, "PATH": "/usr/bin:/bin"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tar"], ["target"]),
        (["target", "dr"], ["drain"]),
        (["--config-file", "some.conf", "target", "dr"], ["drain"]),
        (["db", ""], ["--help", "sync"]),
        (["status", "--form"], ["--format"]),
        (["status", "--format", ""], ["json", "table"]),
        (["status", "--format", "j"], ["json"]),
        # A name that is like a command's, where none can stand.
        (["status", "target", "--wat"], ["--watch"]),
        (["target", "drain", "--no"], ["--no-wait"]),
        (["nonsense"], []),
    ],
)
def test_manage(complete, words, expected):
    assert sorted(complete("glance-repl-manage", *words)) == expected


def test_every_command_is_offered(complete):
    offered = complete("glance-repl-manage", "")
    assert {"backfill", "check", "completion", "db", "status", "sync", "verify"} <= set(offered)
    assert "--version" in offered


def test_files_follow_an_option_that_takes_one(complete, tmp_path):
    (tmp_path / "glance-api.conf").touch()
    assert complete("glance-repl-writer", "--config-file", "gla") == ["glance-api.conf"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["up"], ["upgrade"]), (["upgrade", ""], ["check"]), (["upgrade", "check", "-"], ["--json"])],
)
def test_status(complete, words, expected):
    assert complete("glance-repl-status", *words) == expected


def test_writer(complete):
    assert complete("glance-repl-writer", "--v") == ["--version"]
