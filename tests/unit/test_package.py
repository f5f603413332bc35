# SPDX-License-Identifier: Apache-2.0
"""What is built from the repository, and what an installation of it can do."""

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import glance_repl_mw

TOP = Path(__file__).parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
ENTRY_POINTS = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
LICENCE = "# SPDX-License-Identifier: Apache-2.0"
# What a build makes, and what is large.
LEFT_OUT = shutil.ignore_patterns(
    *(".git", ".venv*", ".tox", ".*_cache", "__pycache__", "build", "dist", "cover"),
    *("*.egg-info", "AUTHORS", "ChangeLog", "results"),
)
GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=b")
HEALTH = """
import webob
from oslo_middleware import Healthcheck
app = Healthcheck.app_factory({{}}, backends="glance_replication", detailed="true",
    replication_config_file={path!r})
print(webob.Request.blank("/healthcheck").get_response(app).text)
"""


def python_files():
    return [
        path
        for folder in ("glance_repl_mw", "tests", "tools", "benchmarks", "doc", "releasenotes")
        for path in sorted((TOP / folder).rglob("*.py"))
        if path.stat().st_size
    ]


def test_every_file_says_its_licence_first():
    assert len(python_files()) > 500
    for path in (*python_files(), TOP / "setup.py"):
        lines = path.read_text().splitlines()
        assert lines[lines[0].startswith("#!")] == LICENCE, path


@pytest.mark.parametrize(
    "reference", [each for group in ENTRY_POINTS.values() for each in group.values()]
)
def test_entry_point_leads_somewhere(reference):
    module, _, name = reference.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def requirements(lines):
    stripped = (line.partition("#")[0].strip() for line in lines)
    return {Requirement(line).name.lower(): line for line in stripped if line}


def test_tests_have_what_the_extras_bring():
    in_tests = requirements((TOP / "test-requirements.txt").read_text().splitlines())
    for extra, lines in PROJECT["optional-dependencies"].items():
        for name, line in requirements(lines).items():
            assert in_tests[name] == line, extra


def test_every_dependency_is_told_what_for():
    needed = requirements((TOP / "requirements.txt").read_text().splitlines())
    # pbr says the version.
    page = (TOP / "doc/source/install/requirements.rst").read_text().lower()
    told = page.partition("packages, and why")[2]
    assert [name for name in needed if name not in told and name != "pbr"] == []


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The directory of an sdist and a wheel, of a repository that has no tags."""
    pytest.importorskip(
        "setuptools", minversion="77.0.3", reason="it builds no such pyproject.toml"
    )
    if shutil.which("git") is None:
        pytest.skip("there is no git, which pbr asks for the files and the version")
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    shutil.copytree(TOP, source, ignore=LEFT_OUT, symlinks=True)
    run(*GIT, "init", "-q", cwd=source)
    run(*GIT, "add", ".", cwd=source)
    # With less than two commits pbr counts none.
    for _ in range(2):
        run(*GIT, "commit", "-q", "--allow-empty", "-m", "x", cwd=source)
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("PBR_")}
    build = "import sys; from pbr import build as b; b.build_{}(sys.argv[1])"
    for kind in ("sdist", "wheel"):
        command = (sys.executable, "-c", build.format(kind), str(folder))
        run(*command, cwd=source, env=environment)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(built):
    (path,) = built.glob("*.tar.gz")
    return path


def test_version_leads_to_the_first_release_without_tags(wheel, sdist):
    assert wheel.name.startswith("glance_repl_mw-0.1.0.dev1-")
    assert sdist.name == "glance_repl_mw-0.1.0.dev1.tar.gz"


def test_wheel_has_the_whole_package_and_nothing_else(wheel):
    package = Path(glance_repl_mw.__file__).parent
    wanted = {
        str(path.relative_to(TOP))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.startswith("glance_repl_mw/")} == wanted
    assert "glance_repl_mw/py.typed" in wanted
    others = {name.split("/")[0] for name in names} - {"glance_repl_mw"}
    assert others == {f"glance_repl_mw-0.1.0.dev1.{kind}" for kind in ("data", "dist-info")}
    assert any(name.endswith("data/etc/glance-repl-mw/replication.conf.sample") for name in names)


def test_sdist_has_what_tests_and_tools_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE",
        "PKG-INFO",
        "requirements.txt",
        "test-requirements.txt",
        "tools/test",
        "tests/unit/test_package.py",
        "releasenotes/notes/initial-release-6d1c0b7f0a9e4c52.yaml",
    } <= names


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(request, built):
    """An environment with what was built, and the libraries of the one that runs the tests."""
    package = request.getfixturevalue(request.param)
    folder = built / f"env-{request.param}"
    venv.create(folder, symlinks=True)
    (libraries,) = folder.glob("lib/python3*/site-packages")
    of_tests = [each for each in sys.path if Path(each).name.endswith("-packages")]
    (libraries / "of_tests.pth").write_text("\n".join(of_tests))
    run(
        *(sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"),
        *("--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"),
        *("--ignore-installed", "--no-compile", str(package)),
        cwd=built,
    )
    return folder


def run_installed(folder, *command, **options):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return run(*command, cwd=folder, env=environment, **options)


def python(folder, script):
    return run_installed(folder, str(folder / "bin/python"), "-c", script)


def test_installation_is_the_one_that_is_found(installed):
    assert str(installed) in python(installed, "import glance_repl_mw as m; print(m.__path__)")


@pytest.mark.parametrize("program", sorted(PROJECT["scripts"]))
def test_programs_tell_their_version(installed, program):
    told = run_installed(installed, str(installed / "bin" / program), "--version")
    assert told.strip() == "0.1.0.dev1"


def test_installation_has_all_entry_points_and_extras(installed):
    found = python(
        installed,
        "import importlib.metadata as m; d = m.distribution('glance-repl-mw');"
        "print([(e.group, e.name, e.value) for e in d.entry_points]);"
        "print(sorted(d.metadata.get_all('Provides-Extra')), d.metadata['License-Expression'])",
    )
    for group, points in ENTRY_POINTS.items():
        for name, value in points.items():
            assert repr((group, name, value)) in found
    assert str(sorted(PROJECT["optional-dependencies"])) in found
    assert "Apache-2.0" in found


def test_installation_makes_its_database(installed, tmp_path):
    config = tmp_path / "glance-api.conf"
    config.write_text(f"[replication]\nconnection = sqlite:///{tmp_path}/state.sqlite\n")
    manage = str(installed / "bin/glance-repl-manage")
    run_installed(installed, manage, "--config-file", str(config), "db", "sync")
    assert (tmp_path / "state.sqlite").exists()


def test_installation_has_the_backend_of_the_health_check(installed, tmp_path):
    config = tmp_path / "replication.conf"
    config.write_text(f"[replication]\nspool_dir = {tmp_path}/spool\n")
    told = python(installed, HEALTH.format(path=str(config)))
    assert "REPLICATION SPOOL CANNOT BE WRITTEN" in told
