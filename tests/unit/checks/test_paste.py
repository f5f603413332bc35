# SPDX-License-Identifier: Apache-2.0
"""What the paste configuration says, read without loading it."""

import pytest

from glance_repl_mw.checks.deployment import Deployment, read
from glance_repl_mw.checks.paste import PasteFile
from glance_repl_mw.checks.pipeline import check
from glance_repl_mw.exceptions import ConfigError
from tests.unit.checks.config import make_conf

PASTE = """
[composite:glance-api]
paste.composite_factory = glance.api:root_app_factory
/: api
/healthcheck: healthcheck
[composite:glance-api-cached]
/: api
[pipeline:glance-api-old]
pipeline = context %(ours)s rootapp
[composite:api]
default = unauthenticated-context %(ours)s rootapp
cached = %(cached)s
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
[filter:unauthenticated-context]
paste.filter_factory = glance.api.middleware.context:UnauthenticatedContextMiddleware.factory
[filter:cache]
paste.filter_factory = glance.api.middleware.cache:CacheFilter.factory
[filter:other]
use = egg:glance_repl_mw_too#replication
[filter:loop]
use = pool
[filter:pool]
use = loop
[filter:by-factory]
paste.filter_factory = glance_repl_mw.filter:filter_factory
[filter:by-egg]
use = egg:glance-repl-mw#replication
[filter:by-call]
use = call:glance_repl_mw.filter:filter_factory
[filter:by-other-section]
use = by-egg
"""


@pytest.fixture
def write_paste(tmp_path):
    def write(ours="by-factory", cached="context by-factory cache rootapp", text=PASTE):
        path = tmp_path / "glance-api-paste.ini"
        path.write_text(text % {"ours": ours, "cached": cached})
        return path

    return write


def findings(path, flavor=None):
    conf = make_conf(path.parent, paste_deploy={"config_file": path, "flavor": flavor})
    return [str(finding) for finding in check(read(conf))]


@pytest.mark.parametrize(
    "name",
    ["by-factory", "by-egg", "by-call", "by-other-section", "egg:glance_repl_mw#replication"],
)
@pytest.mark.parametrize("flavor", [None, "old"])
def test_filter_is_known_by_what_it_stands_for(write_paste, name, flavor):
    (found,) = findings(write_paste(ours=name), flavor)
    assert found.startswith("ok: ")


@pytest.mark.parametrize("name", ["other", "loop", "nowhere", "context"])
def test_other_filters_are_not_ours(write_paste, name):
    assert not PasteFile(str(write_paste())).is_replication(name)


@pytest.mark.parametrize(
    ("cached", "finding"),
    [
        ("context by-egg cache rootapp", "ok: "),
        ("context cache by-egg rootapp", "warning: .*: by-egg is after cache; move it between"),
        ("by-egg context cache rootapp", "error: .*: by-egg is before context; move it behind"),
        ("context cache rootapp by-egg", "error: .*: by-egg is at the end, after the application"),
        ("by-egg cache rootapp", "error: .*: there is no context filter; put context before"),
        ("context by-egg by-call rootapp", "error: .*: the replication filter is there twice"),
        ("context rootapp", "error: .*: the replication filter is not in the pipeline; put its"),
    ],
)
def test_place_in_the_pipeline(write_paste, cached, finding):
    (found,) = findings(write_paste(cached=cached), "cached")
    assert pytest.RaisesExc(AssertionError, match=finding).matches(AssertionError(found))


def test_section_is_shown_where_there_is_none(write_paste):
    text = PASTE.partition("[filter:by-factory]")[0]
    (found,) = findings(write_paste(cached="context rootapp", text=text), "cached")
    assert "add the section [filter:replication] paste.filter_factory = glance_repl_mw" in found


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[composite:glance-api-other]", r"has no section \[composite:glance-api\]"),
        ("[composite:glance-api]\n/v3: api", "names no application for /"),
        ("[composite:glance-api]\n/: api\n[composite:api]\n", "has no pipeline 'default'"),
    ],
)
def test_pipeline_that_is_not_there(write_paste, text, hint):
    with pytest.raises(ConfigError, match=hint):
        PasteFile(str(write_paste(text=text))).pipeline(None)


@pytest.mark.parametrize(
    "content", [b"[composite", b"[a]\n[a]\n", b"\xff\xfe\x00", b"[a]\nx = %(y)s\n"]
)
def test_file_that_cannot_be_read_is_one_line(tmp_path, content):
    path = tmp_path / "paste.ini"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        PasteFile(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paste_file_is_found_beside_the_last_configuration_file(write_paste):
    path = write_paste()
    deployment = read(make_conf(path.parent))
    assert deployment.paste_file.path == str(path)


def test_no_paste_file_is_an_error(tmp_path):
    conf = make_conf(tmp_path)
    (found,) = check(Deployment(conf, conf, None, "it was not found"))
    assert str(found).startswith("error: pipeline: it was not found; ")


def test_options_come_from_the_file_that_the_section_names(write_paste, tmp_path):
    text = PASTE.replace("[filter:by-egg]", "[filter:by-egg]\nconfig_file = %%(here)s/own.conf")
    (tmp_path / "own.conf").write_text("[replication]\nspool_dir = /own\n")
    deployment = read(make_conf(write_paste("by-egg", text=text).parent))
    assert deployment.replication.replication.spool_dir == "/own"
    (tmp_path / "own.conf").unlink()
    with pytest.raises(ConfigError, match=r"config_file of the replication filter: .*own.conf"):
        read(make_conf(tmp_path))
