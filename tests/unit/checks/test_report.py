# SPDX-License-Identifier: Apache-2.0
"""How findings are put together, printed and counted; and what is never printed."""

import io

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.checks import report, secrecy, targets, writers
from glance_repl_mw.checks.deployment import read
from glance_repl_mw.checks.finding import error, ok, warning
from glance_repl_mw.targets.base import Remark
from tests.unit.checks.config import make_conf

A = ok("a", "is well")
B = warning("b", "is odd", "look")
C = error("c", "is broken", "mend it")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(writers, "_PATIENCE_SECONDS", 0.0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(*findings, acknowledged=(), **sections):
        monkeypatch.setattr(report, "_findings", lambda *_: iter(findings))
        out = io.StringIO()
        status = report.report(read(make_conf(tmp_path, **sections)), out, acknowledged)
        return status, out.getvalue().splitlines()

    return run


@pytest.mark.parametrize(
    ("findings", "status", "summary"),
    [
        ([], 0, "Everything is ready for the first upload."),
        ([A], 0, "Everything is ready for the first upload."),
        ([A, B], 1, "0 errors and 1 warning."),
        ([C, B, B], 2, "1 error and 2 warnings."),
    ],
)
def test_status_is_that_of_the_worst_finding(run, findings, status, summary):
    assert run(*findings) == (status, [*map(str, findings), summary])


@pytest.mark.parametrize(
    ("acknowledged", "status"),
    [([], 2), (["is odd"], 2), (["b"], 2), (["nothing", ""], 2)],
)
def test_errors_cannot_be_acknowledged(run, acknowledged, status):
    assert run(A, B, C, acknowledged=[*acknowledged, "is broken"])[0] == status


def test_warnings_can_be_acknowledged(run):
    status, lines = run(A, B, acknowledged=["is odd"])
    assert status == 0
    assert lines[1:] == [
        "note: b: is odd (acknowledged)",
        "Everything is ready for the first upload.",
    ]
    assert run(A, B, acknowledged=["is even"])[0] == 1


def test_text_of_a_server_is_made_printable():
    text = str(error("c", "red \x1b[31m\x07\nok: d: is well", "mend it"))
    assert text == "error: c: red ok: d: is well; mend it"


def test_finding_is_one_line():
    assert str(error("c", "is\nbroken. ", "mend\n it")) == "error: c: is broken; mend it"


def test_secrets_are_not_printed(run):
    said = error("x", "pw-1 pw-2 http://bob:pw-3@h/ mysql://u:pw-4@h/d pw-4", "ask u:pw-1")
    _, lines = run(
        said,
        replication={
            "auth_type": "password",
            "password": "pw-1",
            "auth_section": "service",
            "connection": "mysql://u:pw-4@h/d",
        },
        service={"auth_type": "v3token", "token": "pw-2"},
    )
    assert "pw-2" not in lines[0]
    assert "pw-3" not in lines[0]
    assert "pw-4" not in lines[0]


def test_parts_of_passwords_are_not_printed(run):
    said = error("x", "no port 'hunter2', no host 'corn-x'", "ask hunter2#")
    _, lines = run(
        said,
        replication={
            "coordination_url": "etcd3+http://u:hunter2#@h",
            "connection": "mysql+pymysql://u:pop@corn-x:3@h/d",
        },
    )
    assert lines[0] == "error: x: no port '***', no host '***'; ask ***"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("http://bob:pw@host/x", "http://***@host/x"),
        ("http://bob:p@w@host/x", "http://***@host/x"),
        ("see https://bob@host:1/ and a@b", "see https://***@host:1/ and a@b"),
        ("http://host/a@b", "http://host/a@b"),
        ("key and longer-key", "*** and ***"),
    ],
)
def test_redact(text, redacted):
    assert secrecy.redact(text, ["key", "longer-key"]) == redacted


def test_secrets_of_targets_are_known(tmp_path):
    conf = make_conf(
        tmp_path,
        replication={"enabled_targets": "a:http,b:http", "auth_type": "nonsense"},
        **{
            "replication:a": {"url": "http://a/", "username": "u", "password": "pw-a"},
            "replication:b": {"url": "http://b/", "token": "pw-b"},
        },
    )
    replication = read(conf).replication
    loaded, findings = targets.load(replication)
    assert findings == []
    assert {"pw-a", "pw-b"} <= secrecy.secrets_of(replication, loaded.values())


def test_failed_check_does_not_stop_the_others(tmp_path, monkeypatch):
    def fail(*_):
        yield A
        raise RuntimeError("out of luck")

    monkeypatch.setattr(report.pipeline, "check", fail)
    monkeypatch.setattr(report.access, "check", lambda *_: [B])
    conf = make_conf(tmp_path, replication={"spool_dir": tmp_path / "spool"})
    lines = list(map(str, report._findings(read(conf), {})))
    assert lines[0] == str(A)
    assert lines[1].startswith("error: pipeline: the check failed: RuntimeError: out of luck; ")
    assert any("spool_dir" in line for line in lines)
    assert lines[-2] == str(B)
    assert lines[-1].startswith("warning: writer: none runs on this node; ")


def test_each_wrong_value_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(report.access, "check", lambda *_: [])
    conf = make_conf(
        tmp_path,
        DEFAULT={"image_location_quota": "many"},
        replication={
            "enabled_targets": "site-a:http,site-b:ftp",
            "spool_dir": tmp_path / "spool",
            "spool_min_free_bytes": "much",
            "scrub_interval_seconds": "daily",
            "connection": "sqlite:///$nowhere/x",
            "timeout": "soon",
        },
        **{
            "replication:site-a": {
                "url": "http://127.0.0.1:1/",
                "mode": "idle",
                "stall_timeout_seconds": "inf",
            },
            "replication:site-b": {"mode": "idle"},
        },
    )
    lines = list(map(str, report._findings(read(conf), {})))
    options = {
        "[replication] spool_min_free_bytes": "invalid literal for int() with base 10: 'much'",
        "[replication] connection": "holds a $, ",
        "[replication] scrub_interval_seconds": "must be a number of seconds from 0.1 to ",
        "[replication] timeout": "could not convert string to float: 'soon'",
        "[replication:site-a] mode": "Valid values are [eager, lazy], but found 'idle'",
        "[replication:site-a] stall_timeout_seconds": "must be a number of seconds from 0.1 to ",
    }
    for where, text in options.items():
        (line,) = [line for line in lines if f" {where.split()[1]}: " in line]
        assert line.startswith(f"error: {where}: {text}")
        assert line.endswith("; correct the value; Glance does not start before")
    # Those of Glance are as they were.
    assert any("glance: image_location_quota: invalid literal" in line for line in lines)
    assert any("target 'site-b': no driver 'ftp'" in line for line in lines)


def test_secrets_that_cannot_be_read_stop_no_report(run):
    replication = {"connection": "sqlite:///$nowhere/x", "auth_type": "password", "password": "$a"}
    assert run(B, replication=replication)[0] == 1


def test_place_that_is_closed_to_the_operator_is_named(tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied", "/closed/spool")

    monkeypatch.setattr(report.spooldir, "check", fail)
    monkeypatch.setattr(report.access, "check", lambda *_: [])
    lines = list(map(str, report._findings(read(make_conf(tmp_path)), {})))
    remedy = "run this check as the user of glance-api"
    assert f"error: spool: /closed/spool may not be looked at; {remedy}" in lines


class FakeTarget:
    def __init__(self, name, outcome=()):
        self.name = name
        self.outcome = outcome

    def check(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def test_probe_returns_the_targets_that_work():
    down = exceptions.TargetUnavailable(target="b", operation="check: write", hint="no answer")
    closed = exceptions.TargetRefused(target="c", operation="check: delete", hint="403")
    working = FakeTarget("a", [Remark("url: no TLS"), Remark("url: open", "close it")])
    probing = targets.probe(
        {"a": working, "b": FakeTarget("b", down), "c": FakeTarget("c", closed)}
    )
    lines = []
    try:
        while True:
            lines.append(str(next(probing)))
    except StopIteration as end:
        assert end.value == [working]
    assert lines[0].startswith("ok: a: an object was written")
    assert lines[1] == "note: a: url: no TLS"
    assert lines[2] == "warning: a: url: open; close it"
    assert lines[3].startswith("error: b: check: write: no answer; see that the server runs")
    assert lines[4].startswith("error: c: check: delete: 403; correct [replication:c]")
