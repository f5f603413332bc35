# SPDX-License-Identifier: Apache-2.0
"""A configuration that cannot work stops the start, with one line that says what is wrong."""

from configparser import ConfigParser

import pytest
from paste import deploy

from glance_repl_mw import exceptions
from tests.functional.cloud import MIB, Cloud, merged
from tests.lab import commands
from tests.lab.glance import Glance
from tests.lab.images import image_bytes
from tests.lab.process import ServerError
from tests.lab.webservers import Nginx

PASSWORD = "lab-not-to-be-shown"
AUTH = {
    "auth_type": "password",
    "auth_url": "http://127.0.0.1:1/v3",
    "username": "replicator",
    "password": PASSWORD,
    "project_name": "service",
    "user_domain_id": "default",
    "project_domain_id": "default",
}
OK = "http://127.0.0.1:1/images/"

# Options that differ from a good configuration (None: left out), and what the line says.
# HERE stands for the directory of the test, in which `file` is a file.
BAD = {
    "unknown-driver": (
        {"replication": {"enabled_targets": "site-a:ftp"}},
        ["[replication] enabled_targets", "'site-a'", "'ftp'", "http"],
    ),
    "missing-section": (
        {"replication": {"enabled_targets": "site-a:http,site-b:http"}},
        ["[replication:site-b]", "missing"],
    ),
    "missing-url": (
        {"replication:site-a": {"url": None}},
        ["[replication:site-a] url", "missing"],
    ),
    "url-of-another-kind": (
        {"replication:site-a": {"url": "ftp://127.0.0.1/"}},
        ["[replication:site-a] url"],
    ),
    "url-with-password": (
        {"replication:site-a": {"url": f"http://user:{PASSWORD}@127.0.0.1/"}},
        ["[replication:site-a] url", "credentials"],
    ),
    "bad-location-url": (
        {"replication:site-a": {"location_url": "site-a"}},
        ["[replication:site-a] location_url"],
    ),
    "name-twice": (
        {"replication": {"enabled_targets": "site-a:http, site-a:http"}},
        ["[replication] enabled_targets", "'site-a'", "twice"],
    ),
    "name-without-driver": (
        {"replication": {"enabled_targets": "site-a"}},
        ["[replication] enabled_targets", "'site-a'", "NAME:DRIVER"],
    ),
    "name-with-slash": (
        {"replication": {"enabled_targets": "site/a:http"}},
        ["[replication] enabled_targets", "'site/a:http'", "NAME:DRIVER"],
    ),
    "target-option-of-another-type": (
        {"replication:site-a": {"stall_timeout_seconds": "soon"}},
        ["[replication:site-a] stall_timeout_seconds", "soon"],
    ),
    "target-option-out-of-range": (
        {"replication:site-a": {"max_connections": "0"}},
        ["[replication:site-a] max_connections", "1"],
    ),
    "target-option-unknown-word": (
        {"replication:site-a": {"publish": "now"}},
        ["[replication:site-a] publish", "now"],
    ),
    "rule-that-is-none": (
        {"replication:site-a": {"replicate_if": "visibility:public and"}},
        ["[replication:site-a] replicate_if", "visibility:public and", "not of the form"],
    ),
    "rule-with-an-unknown-word": (
        {"replication:site-a": {"replicate_if": "size:<=1GiB or visibility:publik"}},
        ["[replication:site-a] replicate_if", "visibility:publik", "community"],
    ),
    "option-unknown-word": (
        {"replication": {"writer": "elsewhere"}},
        ["[replication] writer", "elsewhere"],
    ),
    "option-of-another-type": (
        {"replication": {"spool_max_bytes": "plenty"}},
        ["[replication] spool_max_bytes", "plenty"],
    ),
    "password-without-username": (
        {"replication:site-a": {"password": PASSWORD}},
        ["[replication:site-a] password", "username"],
    ),
    "missing-ca-file": (
        {"replication:site-a": {"ca_file": "HERE/none.pem"}},
        ["[replication:site-a] ca_file", "none.pem"],
    ),
    "spool-below-a-file": (
        {"replication": {"spool_dir": "HERE/file/spool"}},
        ["[replication] spool_dir", "file/spool", "Not a directory"],
    ),
    "spool-open-to-others": (
        {"replication": {"spool_dir": "HERE/open"}},
        ["[replication] spool_dir", "0700"],
    ),
    "database-is-no-url": (
        {"replication": {"connection": "replication.sqlite"}},
        ["[replication] connection"],
    ),
    "database-without-driver": (
        {"replication": {"connection": f"oracle+none://user:{PASSWORD}@127.0.0.1/x"}},
        ["[replication] connection", "oracle"],
    ),
    "database-below-a-file": (
        {"replication": {"connection": "sqlite:///HERE/file/x.sqlite"}},
        ["[replication] connection", "HERE/file"],
    ),
    "no-auth-type": ({"replication": {"auth_type": None}}, ["[replication]", "auth_type"]),
    "unknown-auth-type": (
        {"replication": {"auth_type": "handshake"}},
        ["[replication]", "auth_type", "handshake"],
    ),
    "no-auth-url": ({"replication": {"auth_url": None}}, ["[replication]", "auth_url"]),
    "no-username": ({"replication": {"username": None}}, ["[replication]", "username"]),
    "no-password": ({"replication": {"password": None}}, ["[replication]", "password"]),
}

# Those that are told also by a process of its own: a second or two for each.
BAD_FOR_THE_COMMAND = (
    "unknown-driver",
    "missing-section",
    "missing-url",
    "target-option-out-of-range",
    "rule-that-is-none",
    "spool-below-a-file",
    "database-without-driver",
    "database-below-a-file",
    "unknown-auth-type",
    "no-password",
)


@pytest.fixture
def here(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    return tmp_path


def good(here):
    return {
        "replication": {
            "enabled_targets": "site-a:http",
            "spool_dir": f"{here}/spool",
            "connection": f"sqlite:///{here}/replication.sqlite",
            **AUTH,
        },
        "replication:site-a": {"url": OK},
    }


def sections(here, changes):
    return {
        section: {name: text(value, here) for name, value in values.items() if value is not None}
        for section, values in merged(good(here), changes).items()
    }


def write(path, options):
    parser = ConfigParser(interpolation=None)
    parser.read_dict(options)
    with path.open("w") as file:
        parser.write(file)
    return path


def config_file(here, changes):
    return write(here / "replication.conf", sections(here, changes))


def text(value, here):
    return value.replace("HERE", str(here))


@pytest.mark.parametrize("name", BAD_FOR_THE_COMMAND)
def test_writer_says_in_one_line_what_is_wrong(name, here):
    changes, words = BAD[name]
    ended = commands.writer("--config-file", config_file(here, changes))
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("glance-repl-writer: ")
    assert [word for word in words if text(word, here) not in line] == [], line
    assert PASSWORD not in line


@pytest.mark.parametrize("name", BAD)
def test_filter_refuses_to_be_made(name, here):
    changes, words = BAD[name]
    with pytest.raises(exceptions.ConfigError) as raised:
        load_with_paste(here, config_file(here, changes))
    line = str(raised.value)
    assert [word for word in words if text(word, here) not in line] == [], line
    assert "\n" not in line
    assert PASSWORD not in line


FACTORY = "paste.filter_factory = glance_repl_mw.filter:filter_factory"
EGG = "use = egg:glance_repl_mw#replication"
EGG_BY_DISTRIBUTION = "use = egg:glance-repl-mw#replication"


def load_with_paste(here, config, name_of_filter=FACTORY):
    """Load the filter before an application that says so, as a WSGI server would."""
    paste = here / "paste.ini"
    paste.write_text(
        f"""[pipeline:main]
pipeline = replication application
[filter:replication]
{name_of_filter}
config_file = {config}
[app:application]
paste.app_factory = tests.functional.test_configuration:make_application
"""
    )
    return deploy.loadapp(f"config:{paste}")


def make_application(_global_conf):
    def application(_environ, start_response):
        start_response("200 OK", [])
        return [b"the application"]

    return application


@pytest.mark.parametrize("name_of_filter", [FACTORY, EGG, EGG_BY_DISTRIBUTION])
def test_filter_is_loaded_by_each_of_its_names(name_of_filter, here):
    config = config_file(here, {"replication": {"writer": "external"}})
    application = load_with_paste(here, config, name_of_filter)
    answer = application({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
    assert list(answer) == [b"the application"]
    assert (here / "spool").is_dir()


def test_filter_names_a_configuration_file_that_is_missing(here):
    with pytest.raises(Exception, match=r"none\.conf"):
        load_with_paste(here, here / "none.conf")


# Under a real Glance


@pytest.mark.parametrize("name", ["missing-url", "spool-below-a-file"])
def test_glance_does_not_start(name, keystone, workdir):
    changes, words = BAD[name]
    directory = workdir("refused")
    (directory / "file").touch()
    options = sections(directory, changes)
    glance = Glance(directory, keystone, processes=1, options=options, replication=True)
    with pytest.raises(ServerError):
        glance.start()
    assert not glance.running
    complaints = [
        line
        for line in glance.log.read_text().splitlines()
        if all(text(word, directory) in line for word in words)
    ]
    assert complaints, glance.log_tail()
    assert PASSWORD not in glance.log.read_text()


def test_options_from_a_file_of_their_own(keystone, workdir, require):
    """Glance's own configuration knows nothing of replication; the writer finds the file, too."""
    require(Nginx)
    cloud = Cloud(workdir("separate"), keystone)
    cloud.glance.config_dir.mkdir(parents=True)
    config = cloud.glance.config_dir / "replication.conf"
    own = {name: values for name, values in cloud.glance.options.items() if "replic" in name}
    cloud.glance.options = {}
    cloud.glance.paste_filters = {
        "replication": {"use": "egg:glance_repl_mw#replication", "config_file": str(config)}
    }
    write(config, own)
    with cloud:
        assert "replication" not in cloud.glance.config_file.read_text()
        body = image_bytes(MIB)
        urls = cloud.wait_replicated(cloud.new_image(body))
        assert [cloud.object_bytes(*place) == body for place in urls.items()] == [True] * 3
