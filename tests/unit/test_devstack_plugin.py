# SPDX-License-Identifier: Apache-2.0
"""What the devstack plugin does, with stubs for devstack's functions that record their calls."""

import importlib.metadata
import shlex
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from oslo_config import cfg

from glance_repl_mw import opts
from glance_repl_mw.checks.paste import PasteFile
from glance_repl_mw.targets import loader

TOP = Path(__file__).parents[2]
PLUGIN = TOP / "devstack/plugin.sh"
SETTINGS = TOP / "devstack/settings"
WITH_FILTER = "authtoken context replication cache cachemanage rootapp"
ACCOUNTS = [
    ["get_or_create_role", "image_replicator"],
    ["get_or_create_project", "image-replication", "Default"],
    ["get_or_create_user", "image-replicator", "hush-hush", "Default"],
    [
        "get_or_add_user_project_role",
        *("image_replicator", "image-replicator", "image-replication", "Default", "Default"),
    ],
]
RECORDED = (
    "enable_service",
    "get_or_add_user_project_role",
    "get_or_create_project",
    "get_or_create_role",
    "get_or_create_user",
    "glance-repl-manage",
    "iniset",
    "pip_install",
    "run_process",
    "setup_develop",
    "stop_process",
)


class Devstack:
    """Sources the plugin as stack.sh does, with errexit.

    :ivar calls: the recorded calls, each a list of words
    :ivar existing: what iniget finds, by section and option
    """

    def __init__(self, directory):
        self.directory = directory
        self.conf_dir = directory / "etc"
        self.conf_dir.mkdir()
        self.paste_file = self.conf_dir / "glance-api-paste.ini"
        (shipped,) = [
            file
            for file in importlib.metadata.files("glance")
            if file.name == self.paste_file.name
        ]
        self.paste_file.write_text(shipped.read_text())
        self.data_dir = directory / "glance-replication"
        self.calls = []
        self.existing = {}
        self.services = "g-api g-repl-target"
        self.variables = {
            "DEST": str(directory),
            "DATA_DIR": str(directory),
            "GLANCE_REPL_MW_DIR": str(TOP),
            "GLANCE_CONF_DIR": str(self.conf_dir),
            "GLANCE_API_CONF": str(self.conf_dir / "glance-api.conf"),
            "GLANCE_API_PASTE_INI": str(self.paste_file),
            "HOST_IP": "192.0.2.7",
            "KEYSTONE_SERVICE_URI": "http://192.0.2.7/identity",
            "REGION_NAME": "RegionOne",
            "SERVICE_DOMAIN_NAME": "Default",
            "SERVICE_PASSWORD": "hush-hush",
        }

    def run(self, *words):
        """One phase; its calls are added to `calls`."""
        record = self.directory / "calls"
        record.write_text("")
        found = "\n".join(
            f"{shlex.quote(f'{section} {option}')}) echo {shlex.quote(value)} ;;"
            for (section, option), value in self.existing.items()
        )
        lines = [
            "set -o errexit",
            *(f"{name}={shlex.quote(value)}" for name, value in self.variables.items()),
            *(f'{name}() {{ echo {name} "${{@@Q}}" >>{record}; }}' for name in RECORDED),
            f'is_service_enabled() {{ [[ " {self.services} " == *" $1 "* ]]; }}',
            f'iniget() {{ case "$2 $3" in {found}\n*) ;; esac; }}',
            f"source {SETTINGS}",
            f"source {PLUGIN} {shlex.join(words)}",
        ]
        subprocess.run(["bash", "-c", "\n".join(lines)], check=True, cwd=self.directory)
        calls = [shlex.split(line) for line in record.read_text().splitlines()]
        self.calls += [call for call in calls if call[0] != "enable_service"]

    def called(self, name):
        return [call[1:] for call in self.calls if call[0] == name]

    def written(self, path):
        """What iniset has put into a file, as a dictionary of sections."""
        sections = {}
        for file, section, option, value in self.called("iniset"):
            if file == str(path):
                sections.setdefault(section, {})[option] = value
        return sections


@pytest.fixture
def devstack(tmp_path):
    return Devstack(tmp_path)


def configured(devstack):
    devstack.run("stack", "post-config")
    return devstack.written(devstack.variables["GLANCE_API_CONF"])


@pytest.mark.parametrize("file", [PLUGIN, SETTINGS])
def test_syntax(file):
    subprocess.run(["bash", "-n", str(file)], check=True)


def test_package_is_installed_where_glance_is(devstack):
    devstack.run("stack", "install")
    assert devstack.called("setup_develop") == [[str(TOP)]]


def test_filter_is_in_the_pipeline_once_however_often_it_is_configured(devstack):
    for _ in range(2):
        devstack.run("stack", "post-config")
    (section,) = devstack.written(devstack.paste_file).items()
    parser = ConfigParser()
    parser.optionxform = str
    parser.read(devstack.paste_file)
    parser.read_dict(dict([section]))
    with devstack.paste_file.open("w") as file:
        parser.write(file)
    paste = PasteFile(str(devstack.paste_file))
    _, words = paste.pipeline("keystone+cachemanagement")
    assert " ".join(words).endswith(WITH_FILTER)
    assert [word for word in words if paste.is_replication(word)] == ["replication"]
    for flavor in ("keystone", "keystone+caching"):
        assert paste.pipeline(flavor)[1].count("replication") == 1
    assert "replication" not in paste.pipeline(None)[1]


def test_options_are_such_as_the_filter_takes(devstack, tmp_path):
    parser = ConfigParser(interpolation=None)
    parser.read_dict(configured(devstack))
    path = tmp_path / "written.conf"
    with path.open("w") as file:
        parser.write(file)
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(path)])
    opts.register_opts(conf)
    loader.check_values(conf)
    targets = loader.load_targets(conf)
    assert {name: target.conf.url for name, target in targets.items()} == {
        "site-a": "http://192.0.2.7:8091/site-a/",
        "site-b": "http://192.0.2.7:8091/site-b/",
    }
    assert conf.replication.spool_dir == str(devstack.data_dir / "spool")
    assert conf.replication.region_name == "RegionOne"
    assert parser["import_filtering_opts"]["allowed_ports"] == "[80,443,8091]"


def test_service_user_has_a_role_of_its_own_and_glance_the_policies_for_it(devstack):
    written = configured(devstack)
    accounts = [call for call in devstack.calls if call[0].startswith("get_or_")]
    assert accounts == ACCOUNTS
    assert written["replication"]["username"] == "image-replicator"
    policies = devstack.conf_dir / written["oslo_policy"]["policy_file"]
    sample = TOP / "etc/glance-repl-mw/glance-policy-single.yaml.sample"
    assert policies.read_text() == sample.read_text()


def test_role_of_an_administrator_leaves_the_policies_alone(devstack):
    devstack.variables["GLANCE_REPL_MW_ROLE"] = "admin"
    assert "oslo_policy" not in configured(devstack)
    assert not list(devstack.conf_dir.glob("*policy*"))


@pytest.mark.parametrize(
    ("existing", "section", "expected"),
    [
        ({}, "glance_store", None),
        ({("glance_store", "stores"): "file, http, swift"}, "glance_store", None),
        ({("glance_store", "stores"): "file"}, "glance_store", {"stores": "file,http"}),
        (
            {("DEFAULT", "enabled_backends"): "fast:file"},
            "DEFAULT",
            {"show_multiple_locations": "True", "enabled_backends": "fast:file,http:http"},
        ),
        (
            {("DEFAULT", "enabled_backends"): "fast:file, web:http"},
            "DEFAULT",
            {"show_multiple_locations": "True"},
        ),
    ],
)
def test_glance_has_an_http_store(devstack, existing, section, expected):
    devstack.existing = existing
    assert configured(devstack).get(section) == expected


def test_targets_run_where_the_options_say(devstack):
    written = configured(devstack)
    ((service, command),) = devstack.called("run_process")
    words = shlex.split(command)
    assert service == "g-repl-target"
    root = Path(words[words.index("--root") + 1])
    base = f"http://{words[words.index('--host') + 1]}:{words[words.index('--port') + 1]}/"
    for name in ("site-a", "site-b"):
        assert (root / name).is_dir()
        assert written[f"replication:{name}"]["url"] == f"{base}{name}/"


def test_nothing_is_done_without_glance(devstack):
    devstack.services = "key"
    for phase in ("install", "post-config", "extra"):
        devstack.run("stack", phase)
    assert devstack.calls == []


def test_deployment_is_checked_stopped_and_cleaned(devstack):
    configured(devstack)
    devstack.calls.clear()
    devstack.run("stack", "extra")
    devstack.run("unstack")
    api_conf = devstack.variables["GLANCE_API_CONF"]
    assert devstack.calls == [
        ["glance-repl-manage", "--config-file", api_conf, "check"],
        ["stop_process", "g-repl-target"],
    ]
    assert devstack.data_dir.exists()
    devstack.run("clean")
    assert not devstack.data_dir.exists()
