# SPDX-License-Identifier: Apache-2.0
"""The command glance-repl-manage on a real deployment: healthy, or broken in one point."""

import json
import operator
import re
import shutil
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.lab import commands
from tests.lab.images import image_bytes
from tests.lab.process import free_port
from tests.lab.webservers import Nginx, WsgiDav

READY = "Everything is ready for the first upload."
FIELDS = [
    "image_id",
    "target",
    "status",
    "size",
    "bytes_sent",
    "progress",
    "location_url",
    "checksum",
    "attempts",
    "error",
    "next_attempt_at",
    "created_at",
    "updated_at",
]
SAMPLES = Path(__file__).parents[2] / "etc/glance-repl-mw"
MEMBER_PASSWORD = "lab-alice-password"
SECRETS = (MEMBER_PASSWORD, "lab-replicator-password", "lab-admin-password", "hush-hush")
DEAD_URL = f"http://127.0.0.1:{free_port()}/images/"


def manage(*arguments, **environment):
    """Run the command; whatever it does, it shows no secret and no traceback."""
    process = commands.manage(*arguments, environment=environment)
    output = process.stdout + process.stderr
    assert not [secret for secret in SECRETS if secret in output], output
    assert "Traceback" not in output, output
    return process


class Config:
    """A copy of the deployment's configuration that a test may spoil."""

    def __init__(self, glance, directory):
        shutil.copytree(glance.config_dir, directory)
        self.path = directory / glance.config_file.name
        self.paste_path = directory / glance.paste_file.name
        self.edit(
            paste_deploy={"config_file": str(self.paste_path)},
            # As where users have a Glance that hides locations, so that nothing is open.
            DEFAULT={"show_multiple_locations": "False"},
            oslo_policy={"policy_file": str(SAMPLES / "glance-policy-public.yaml.sample")},
        )
        self.path.chmod(0o640)

    def edit(self, **sections):
        """Set options of glance-api.conf by section; None removes the option, or the section."""
        parser = self._parser()
        for section, options in sections.items():
            if options is None:
                parser.remove_section(section)
                continue
            if not parser.has_section(section):
                parser.add_section(section)
            for name, value in options.items():
                if value is None:
                    parser.remove_option(section, name)
                else:
                    parser.set(section, name, value)
        with self.path.open("w") as file:
            parser.write(file)

    def target(self, name, url=None, location=""):
        """Let a target have another `url`; or another location, relative to its own."""
        own = self.get(f"replication:{name}", "url")
        self.edit(**{f"replication:{name}": {"url": url or own, "location_url": own + location}})

    def replace_in_paste(self, old, new):
        text = self.paste_path.read_text()
        assert old in text
        self.paste_path.write_text(text.replace(old, new))

    def run(self, *arguments):
        return manage("--config-file", self.path, *arguments)

    def get(self, section, option):
        return self._parser().get(section, option)

    def _parser(self):
        parser = ConfigParser(interpolation=None, default_section="")
        parser.optionxform = str
        parser.read(self.path)
        return parser


@pytest.fixture
def config(cloud, tmp_path):
    return Config(cloud.glance, tmp_path / "etc")


def check(config, status):
    process = config.run("check")
    assert process.returncode == status, process.stdout + process.stderr
    assert process.stderr == ""
    *lines, summary = process.stdout.splitlines()
    assert all(re.match(r"(ok|note|warning|error): \S", line) for line in lines), process.stdout
    assert (summary == READY) == (status == 0)
    return lines


def bad(lines):
    return [line for line in lines if not line.startswith(("ok: ", "note: "))]


def leftovers(cloud):
    """Images and objects of the check that are still there."""
    query = "v2/images?visibility=all&name=glance-repl-check"
    images = cloud.request("GET", query, user="admin").json()["images"]
    return images, cloud.objects("glance-repl")


def test_healthy_deployment_has_no_finding_and_keeps_nothing_of_the_check(cloud, config):
    lines = check(config, 0)
    for name in cloud.targets:
        assert f"ok: {name}: Glance takes locations there" in lines
        assert any(line.startswith(f"ok: {name}: an object was written") for line in lines)
    assert leftovers(cloud) == ([], {})


def test_configuration_is_found_as_glance_finds_it(config):
    process = manage("check", OS_GLANCE_CONFIG_DIR=str(config.path.parent))
    assert process.returncode == 0, process.stdout
    assert str(config.paste_path) in process.stdout


def options(section, **values):
    return lambda config: config.edit(**{section: values})


def paste(old, new):
    return lambda config: config.replace_in_paste(old, new)


IN_PLACE = "authtoken context replication rootapp"
GLANCE = {
    "filter not in the pipeline": (
        paste(IN_PLACE, "authtoken context rootapp"),
        r"\[composite:api\] keystone: the replication filter is not in the pipeline; put ",
    ),
    "filter before context": (
        paste(IN_PLACE, "authtoken replication context rootapp"),
        "replication is before context; move it behind",
    ),
    "filter after the application": (
        paste(IN_PLACE, "authtoken context rootapp replication"),
        "replication is at the end, after the application; move it before",
    ),
    "filter twice": (
        paste(IN_PLACE, "authtoken context replication replication rootapp"),
        "the replication filter is there twice; remove",
    ),
    "flavor without pipeline": (
        options("paste_deploy", flavor="keystoen"),
        r"has no section \[composite:glance-api-keystoen\]; correct it or \[paste_deploy\] flavor",
    ),
    "no paste file": (
        options("paste_deploy", config_file="/nowhere/glance-api-paste.ini"),
        "error: pipeline: /nowhere/glance-api-paste.ini: No such file or directory; name the file",
    ),
    "locations invisible": (
        options("replication", endpoint_override=None),
        r"\[DEFAULT\] show_multiple_locations: is off.*; set it to True",
    ),
    "no http store among several": (
        options("DEFAULT", enabled_backends="primary:file"),
        r"\[DEFAULT\] enabled_backends: has no http store.*; add http:http",
    ),
    "no http store": (
        lambda config: config.edit(
            DEFAULT={"enabled_backends": None}, glance_store={"stores": "file"}
        ),
        r"\[glance_store\] stores: has no http store.*; add http",
    ),
    "port refused": (
        options("import_filtering_opts", allowed_ports="[80,443]"),
        r"\[import_filtering_opts\] allowed_ports: refuses the port \d+ of site-a, .* of site-c; "
        r"set allowed_ports = \[80,443,\d+,\d+,\d+\]$",
    ),
    "host refused": (
        options("import_filtering_opts", allowed_hosts="[images.example]"),
        r"\[import_filtering_opts\] allowed_hosts: refuses the host 127.0.0.1 of site-a, .*; set ",
    ),
    "loopback refused": (
        options("import_filtering_opts", allowed_hosts=None),
        r"allowed_hosts: refuses the host 127.0.0.1 \(loopback.*; "
        r"set allowed_hosts = \[127.0.0.1\]",
    ),
    "list without brackets": (
        options("import_filtering_opts", allowed_ports="80,443"),
        r"\[import_filtering_opts\]: .*allowed_ports.*; lists of this section are",
    ),
}
REPLICATION = {
    "no target": (
        options("replication", enabled_targets=""),
        r"\[replication\] enabled_targets: names no target; set it",
    ),
    "unknown driver": (
        options("replication", enabled_targets="site-a:htpt,site-b:http"),
        r"enabled_targets: target 'site-a': no driver 'htpt' \(there are: .*; correct it",
    ),
    "target twice": (
        options("replication", enabled_targets="site-a:http,site-a:http"),
        r"enabled_targets: target 'site-a' is named twice; correct it",
    ),
    "section missing": (
        lambda config: config.edit(**{"replication:site-a": None}),
        r"error: site-a: the section \[replication:site-a\] is missing; correct it",
    ),
    "url missing": (
        options("replication:site-a", url=None),
        r"error: site-a: \[replication:site-a\] url: is missing; correct it",
    ),
    "credentials in the url": (
        options("replication:site-a", url="http://bob:hush-hush@127.0.0.1/"),
        r"error: site-a: .*url: must not hold credentials",
    ),
    "target down": (
        lambda config: config.target("site-a", url=DEAD_URL),
        r"error: site-a: check: write: .*refused; see that the server runs",
    ),
    "not readable at its location": (
        lambda config: config.target("site-a", location="elsewhere/"),
        r"error: site-a: check: read back: HEAD .*elsewhere/.*: 404 .*; correct \[repl",
    ),
    "no credentials": (
        options("replication", auth_type=None),
        r"error: \[replication\] service user: auth_type: is missing; set auth_type",
    ),
    "wrong password": (
        options("replication", password="hush-hush"),
        r"service user: Keystone does not accept it: .*401.*; correct username, password",
    ),
    "user without the role": (
        options("replication", username="alice", project_name="demo", password=MEMBER_PASSWORD),
        r"service user: may not write images of other projects: .*403.*; give the user the role",
    ),
    "Keystone down": (
        options("replication", auth_url=DEAD_URL),
        r"service user: Keystone cannot be reached: .*; see that it runs, and that auth_url",
    ),
    "Glance down": (
        options("replication", endpoint_override=DEAD_URL),
        r"service user: Glance cannot be reached: .*; see that it runs, and that the catalogue",
    ),
    "no room": (
        options("replication", spool_min_free_bytes=str(1 << 60)),
        r"spool_dir .*: has \d+ bytes free, less than .*: nothing is spooled; make room",
    ),
    "value of another type": (
        options("replication", spool_min_free_bytes="much"),
        r"error: \[replication\] spool_min_free_bytes: invalid .*'much'; correct the value",
    ),
    "no database URL": (
        options("replication", connection="hush-hush"),
        r"\[replication\] connection: is not a URL; .*; correct it",
    ),
    "database not usable": (
        options("replication", connection="sqlite:////proc/x/replication.sqlite"),
        r"\[replication\] connection: /proc/x/replication.sqlite cannot be written, .*; make",
    ),
    "database down": (
        options("replication", connection="mysql+pymysql://bob:hush-hush@127.0.0.1:9/x"),
        r"\[replication\] connection: the database cannot be used: .*; see that the database runs",
    ),
}


OPEN = {
    "locations are shown": (
        lambda config: config.edit(
            DEFAULT={"show_multiple_locations": "True"},
            oslo_policy={"policy_file": str(SAMPLES / "glance-policy-single.yaml.sample")},
        ),
        r"\[DEFAULT\] show_multiple_locations: shows locations to whoever .*; give ",
    ),
    "direct_url is shown": (
        options("DEFAULT", show_image_direct_url="True"),
        r"\[DEFAULT\] show_image_direct_url: shows locations to whoever .*; give ",
    ),
    "Glance's own policies": (
        options("oslo_policy", policy_file="none.yaml"),
        r"Glance's policies: the owner of an image may give .* \(add_image_location\); take ",
    ),
    "a file that everybody reads": (
        lambda config: config.path.chmod(0o644),
        r"glance-api.conf: holds credentials and is readable by everybody; chmod",
    ),
}


@pytest.mark.parametrize(("spoil", "finding"), OPEN.values(), ids=OPEN)
def test_what_is_open_is_a_warning(config, spoil, finding):
    spoil(config)
    (found,) = bad(check(config, 1))
    assert re.search(f"^warning: .*{finding}", found), found


def test_policies_that_let_users_change_locations(config, tmp_path):
    policies = tmp_path / "policy.yaml"
    config.edit(
        DEFAULT={"show_multiple_locations": "True"}, oslo_policy={"policy_file": str(policies)}
    )
    for text, number in (("{}", 2), ('"delete_image_location": "role:member"', 3)):
        policies.write_text(text)
        found = [line for line in bad(check(config, 1)) if "the owner of an image may" in line]
        assert len(found) == number, found


@pytest.mark.parametrize(("spoil", "finding"), GLANCE.values(), ids=GLANCE)
def test_what_is_wrong_with_glance_is_found(cloud, config, spoil, finding):
    spoil(config)
    found = bad(check(config, 2))
    assert any(re.search(finding, line) for line in found), found
    assert leftovers(cloud) == ([], {})


@pytest.mark.parametrize(("spoil", "finding"), REPLICATION.values(), ids=REPLICATION)
def test_what_is_wrong_with_replication_is_found(cloud, config, spoil, finding):
    spoil(config)
    found = bad(check(config, 2))
    assert len(found) == 1, found
    assert re.search(finding, found[0])
    assert leftovers(cloud) == ([], {})


def test_one_wrong_target_does_not_hide_another(config):
    config.edit(**{"replication:site-a": None, "replication:site-b": {"url": "ftp://b/"}})
    found = bad(check(config, 2))
    assert [line.split(": ")[1] for line in found] == ["site-a", "site-b"]
    assert "ok: site-c: Glance takes locations there" in config.run("check").stdout.splitlines()


def test_target_that_the_running_glance_refuses_is_found(config, workdir):
    with WsgiDav(workdir("more")) as server:
        ports = config.get("import_filtering_opts", "allowed_ports").strip("[]")
        config.edit(
            import_filtering_opts={"allowed_ports": f"[{ports},{server.port}]"},
            replication={"enabled_targets": "more:http"},
            **{"replication:more": {"url": server.url}},
        )
        lines = check(config, 2)
        assert list(server.root.iterdir()) == []
    assert len(bad(lines)) == 1, lines
    assert re.search(
        "error: more: Glance takes no location there: .*400.*; see that", bad(lines)[0]
    )


def test_target_with_credentials_that_glance_cannot_read_is_found(config, workdir, require):
    require(Nginx)
    with Nginx(workdir("closed"), username="bob", password="hush-hush") as server:
        config.edit(
            import_filtering_opts={"allowed_ports": None, "disallowed_ports": "[1]"},
            replication={"enabled_targets": "closed:http"},
            **{
                "replication:closed": {
                    "url": server.url,
                    "username": "bob",
                    "password": "hush-hush",
                }
            },
        )
        found = [line for line in bad(check(config, 2)) if "check:" in line]
    assert len(found) == 1
    assert re.search("error: closed: check: read back: .*401.*without credentials", found[0])


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o704])
def test_spool_that_others_may_read_is_found(config, tmp_path, mode):
    spool = tmp_path / "spool"
    spool.mkdir()
    spool.chmod(mode)
    config.edit(replication={"spool_dir": str(spool)})
    found, no_writer = bad(check(config, 2))
    assert found.endswith(f"{spool}: has mode {mode:04o}; make its mode 0700")
    assert no_writer.startswith("warning: writer: none runs on this node; ")


def test_spool_that_cannot_be_made_is_found(config, tmp_path):
    (tmp_path / "file").touch()
    config.edit(replication={"spool_dir": str(tmp_path / "file" / "spool")})
    (found,) = bad(check(config, 2))
    assert re.search("is missing, and cannot be made in .*file; make it, with mode 0700", found)


def test_missing_spool_is_no_fault(config, tmp_path):
    config.edit(replication={"spool_dir": str(tmp_path / "new" / "spool")})
    lines = check(config, 1)
    assert any(re.fullmatch("ok: .*spool: is made when Glance starts", line) for line in lines)
    (found,) = bad(lines)
    assert found.startswith("warning: writer: none runs on this node; ")
    assert not (tmp_path / "new").exists()


def test_old_schema_is_a_warning_that_db_sync_removes(config, tmp_path):
    database = tmp_path / "replication.sqlite"
    database.touch()
    config.edit(replication={"connection": f"sqlite:///{database}"})
    (found,) = bad(check(config, 1))
    assert found.endswith("schema is not that of this release; run glance-repl-manage db sync")
    assert config.run("db", "sync").returncode == 0
    check(config, 0)


def test_options_are_read_from_the_file_that_the_filter_names(config, tmp_path):
    own = tmp_path / "replication.conf"
    own.write_text(f"[replication]\nconnection = sqlite:///{tmp_path}/own/r.sqlite\n")
    config.edit(replication=None)
    config.replace_in_paste("[filter:replication]", f"[filter:replication]\nconfig_file = {own}")
    assert any("names no target" in line for line in bad(check(config, 2)))
    assert config.run("db", "sync").returncode == 0
    assert (tmp_path / "own" / "r.sqlite").exists()


def test_db_sync_may_be_repeated_and_says_no_secret(config, tmp_path):
    database = tmp_path / "deep" / "replication.sqlite"
    config.edit(replication={"connection": f"sqlite:///{database}"})
    for _ in range(2):
        process = config.run("db", "sync")
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout == "The database is up to date.\n"
    assert database.stat().st_size


DATABASES = {
    "no URL": "hush-hush",
    "no server": "mysql+pymysql://bob:hush-hush@127.0.0.1:9/x",
    "no driver": "mysql+nothing://bob:hush-hush@127.0.0.1:9/x",
}


@pytest.mark.parametrize("command", [("db", "sync"), ("status",)], ids=" ".join)
@pytest.mark.parametrize("connection", DATABASES.values(), ids=DATABASES)
def test_unusable_database_is_one_line(config, command, connection):
    config.edit(replication={"connection": connection})
    process = config.run(*command)
    assert (process.returncode, process.stdout) == (2, "")
    assert re.fullmatch(r"glance-repl-manage: .*\[replication\] connection: .+\n", process.stderr)


def test_database_that_cannot_be_made_is_one_line(config):
    config.edit(replication={"connection": "sqlite:////proc/nowhere/replication.sqlite"})
    process = config.run("db", "sync")
    assert (process.returncode, process.stdout) == (2, "")
    assert re.fullmatch("glance-repl-manage: .*connection: /proc/nowhere: .+\n", process.stderr)


def test_file_that_is_no_database_is_one_line(config, tmp_path):
    text = tmp_path / "text"
    text.write_text("this is not a database " * 100)
    config.edit(replication={"connection": f"sqlite:///{text}"})
    for command in (("db", "sync"), ("status",)):
        process = config.run(*command)
        assert (process.returncode, process.stdout) == (2, "")
        assert re.fullmatch(
            r"glance-repl-manage: \[replication\] connection: .+\n", process.stderr
        )


@pytest.mark.parametrize("command", [("db", "sync"), ("status",), ("check",)], ids=" ".join)
def test_missing_configuration_is_one_line(tmp_path, command):
    process = manage("--config-file", tmp_path / "none.conf", *command)
    assert process.returncode == 2
    assert process.stdout == ""
    assert re.fullmatch("glance-repl-manage: .*none.conf.*\n", process.stderr)


def test_broken_configuration_is_one_line(tmp_path):
    path = tmp_path / "glance-api.conf"
    path.write_text("[replication\nconnection = hush-hush\n")
    process = manage("--config-file", path, "status")
    assert process.returncode == 2
    assert re.fullmatch("glance-repl-manage: .*glance-api.conf.*\n", process.stderr)


def test_status_shows_what_was_replicated(cloud, config):
    body = image_bytes(100_000)
    image_id = cloud.new_image(body)
    urls = cloud.wait_replicated(image_id)
    listed = json.loads(config.run("status", image_id, "--format", "json").stdout)
    assert [list(replica) for replica in listed] == [FIELDS] * 3
    for replica in listed:
        assert replica["image_id"] == image_id
        assert replica["location_url"] == urls[replica["target"]]
        assert replica["status"] == "active"
        assert (replica["size"], replica["bytes_sent"], replica["progress"]) == (
            100_000,
            100_000,
            1,
        )
        assert (replica["error"], replica["next_attempt_at"], replica["attempts"]) == (
            None,
            None,
            0,
        )
        for field in ("created_at", "updated_at"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", replica[field])
    everything = json.loads(config.run("status", "--format", "json").stdout)
    # Other fields change when the writer looks at the replica again.
    stable = operator.itemgetter("target", "status", "location_url", "size", "created_at")
    of_image = [stable(each) for each in everything if each["image_id"] == image_id]
    assert sorted(of_image) == sorted(map(stable, listed))
    table = config.run("status").stdout
    for name in cloud.targets:
        assert re.search(rf"\| {image_id} \| {name} +\| active +\| 100% +\| 100000 ", table)
    cloud.forget(image_id)


def test_status_of_an_unknown_image_names_it(config):
    process = config.run("status", "7c6b5a4f-0000-4000-8000-123456789abc")
    assert (process.returncode, process.stdout) == (1, "")
    assert "7c6b5a4f-0000-4000-8000-123456789abc" in process.stderr


def test_status_before_the_first_upload_makes_no_database(config, tmp_path):
    database = tmp_path / "replication.sqlite"
    config.edit(replication={"connection": f"sqlite:///{database}"})
    process = config.run("status")
    assert (process.returncode, process.stdout) == (0, "Nothing has been replicated yet.\n")
    process = config.run("status", "--format", "json")
    assert (process.returncode, process.stdout) == (0, "[]\n")
    assert not database.exists()


def test_command_line_mistake_shows_the_usage():
    for arguments in ((), ("db",), ("status", "--format", "xml"), ("nonsense",)):
        process = manage(*arguments)
        assert process.returncode == 2
        assert process.stderr.startswith("usage: glance-repl-manage")
