# SPDX-License-Identifier: Apache-2.0
"""Every option, command and REST path is documented, and what the documents name is there."""

import argparse
import importlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from osc_lib.command import command as osc_command

from glance_repl_mw import opts, policies
from glance_repl_mw.api import ReplicaAPI
from glance_repl_mw.cmd import manage, writer
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.targets import loader

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "glance_repl_mw"
SOURCE = TOP / "doc/source"
GENERATED = {"configuration/options.rst", "configuration/sample-config.rst"}
PAGES = {str(path.relative_to(SOURCE)): path.read_text() for path in sorted(SOURCE.rglob("*.rst"))}
TEXTS = PAGES | {
    name: (TOP / name).read_text()
    for name in ("README.rst", "CONTRIBUTING.rst", "etc/glance-repl-mw/README")
}
OPTIONS = [*opts.OPTIONS, *(option for _, found in loader.list_opts() for option in found)]
ENTRY_POINTS = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["entry-points"]
OPENAPI = yaml.safe_load((SOURCE / "reference/openapi.yaml").read_text())
LITERAL = re.compile(r"``(.+?)``", re.DOTALL)
# Literals with a dot that are no module of the package.
NO_MODULES = {
    "UPLOAD.data",
    "UPLOAD.json",
    "NAME.partial",
    "IMAGE.note",
    "IMAGE.TARGET.UPLOAD.ATTEMPT",
    "api.lock",
    "writer.lock",
    "wsgi.input",
    "CONTRIBUTING.rst",
    "bindep.txt",
}
# Their sentences had to be read twice.
BANNED = ("whoever", "anew", "in vain", "what comes", "in hand")


def sections(text):
    """The text below each title, up to the next title, by title."""
    found, title, lines = {}, None, text.splitlines()
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        is_title = line and re.fullmatch(r"([=-])\1*", below) and len(below) >= len(line)
        if is_title and not line.startswith(("=", "-")):
            title = line
            found[title] = ""
        elif title is not None:
            found[title] += f"{line}\n"
    return found


@pytest.mark.parametrize("name", sorted({option.name for option in OPTIONS}))
def test_option_is_in_the_map_and_in_a_guide(name):
    assert f"``{name}``" in PAGES["configuration/index.rst"]
    guides = [
        page
        for page, text in PAGES.items()
        if page not in {*GENERATED, "configuration/index.rst"} and re.search(rf"\b{name}\b", text)
    ]
    assert guides, "no guide tells what the option is for"


def test_options_page_shows_every_namespace():
    shown = PAGES["configuration/options.rst"].partition(".. show-options::")[2].split()
    assert shown == list(ENTRY_POINTS["oslo.config.opts"])


def test_map_has_no_other_options():
    table = PAGES["configuration/index.rst"].partition("Where to find")[2]
    named = set(re.findall(r"``(\w+)``", table))
    assert named == {option.name for option in OPTIONS}


def commands_of(parser, words=()):
    """Every command without subcommands, with its own options and arguments."""
    subparsers = [
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]
    for action in subparsers:
        for name, inner in action.choices.items():
            yield from commands_of(inner, (*words, name))
    if not subparsers:
        yield " ".join(words), arguments_of(parser)


def arguments_of(parser):
    actions = [each for each in parser._actions if not isinstance(each, argparse._HelpAction)]
    return {
        word for each in actions for word in (each.option_strings or [each.metavar or each.dest])
    }


def manage_commands():
    parser = argparse.ArgumentParser()
    manage._add_commands(parser.add_subparsers())
    return dict(commands_of(parser))


def documented(section):
    """The options that a section documents, without their values."""
    lines = re.findall(r"^\.\. option:: (.+)$", section, re.MULTILINE)
    return {each.split()[0] for line in lines for each in line.split(", ")}


@pytest.mark.parametrize(("command", "arguments"), manage_commands().items())
def test_command_is_documented_with_its_options(command, arguments):
    found = sections(PAGES["cli/glance-repl-manage.rst"])
    assert command in found
    assert documented(found[command]) == arguments


def test_no_other_command_is_documented():
    below = {
        title
        for title, text in sections(PAGES["cli/glance-repl-manage.rst"]).items()
        if ".. program:: glance-repl-manage " in text
    }
    assert below <= set(manage_commands())


def test_option_of_the_writer_is_documented():
    assert f"--{writer._COMMAND_LINE.name}" in documented(PAGES["cli/glance-repl-writer.rst"])


@pytest.mark.parametrize(("name", "place"), ENTRY_POINTS["openstack.image.v2"].items())
def test_command_of_openstack_is_documented(name, place):
    section = sections(PAGES["user/openstackclient.rst"])[f"openstack {name.replace('_', ' ')}"]
    module, _, kind = place.partition(":")
    made = getattr(importlib.import_module(module), kind)
    base = next(each for each in made.__mro__ if each.__module__ == osc_command.__name__)

    class Bare(base):
        take_action = None

    own, shared = (arguments_of(each(None, None).get_parser("it")) for each in (made, Bare))
    synopsis = section.partition("::")[2]
    for word in own - shared:
        shown = word if word.startswith("--") else word.strip("<>").upper()
        assert re.search(rf"(?<![\w-]){shown}(?![\w-])", synopsis), word


def requests():
    return {
        (method.upper(), path)
        for path, item in OPENAPI["paths"].items()
        for method in item
        if method != "parameters"
    }


def test_every_request_with_a_policy_is_in_the_openapi_document():
    ruled = {
        (operation["method"], operation["path"])
        for rule in policies.list_rules()
        for operation in rule.operations
        if operation["path"].startswith("/v2/replication/") or "/replicas" in operation["path"]
    }
    assert requests() == ruled


@pytest.mark.parametrize(("method", "path"), sorted(requests()))
def test_request_is_served_and_in_the_table(method, path):
    image_id = "71c675ab-d94f-49cd-a114-e12490b328d9"
    assert ReplicaAPI.serves(path.format(image_id=image_id, target="site-a"))
    shown = path.format(image_id="ID", target="TARGET")
    assert re.search(rf"^``{method} {shown}[`[]", PAGES["reference/rest-api.rst"], re.MULTILINE)


def test_page_shows_the_openapi_document():
    assert ".. openapi:: openapi.yaml" in PAGES["reference/rest-api.rst"]
    shown = OPENAPI["components"]["schemas"]["Status"]["enum"]
    assert shown == [str(status) for status in ReplicaStatus]


def test_diagram_of_states_has_the_steps_that_are_legal():
    text = (SOURCE / "reference/replica-states.dot").read_text()
    cluster = re.search(r"subgraph cluster_open \{(.*?)\n    \}", text, re.DOTALL)[1]
    open_states = [each for each in ReplicaStatus if re.search(rf"^ +{each}\b", cluster, re.M)]
    drawn = set()
    for before, after, attributes in re.findall(r"(\w+) -> (\w+) \[(.*)\];", text):
        from_all = "ltail=cluster_open" in attributes
        drawn |= {(each, after) for each in (open_states if from_all else [before])}
    legal = {
        (before, after)
        for before in ReplicaStatus
        for after in ReplicaStatus
        if before is not after and before.may_become(after)
    }
    assert drawn == legal


def test_table_of_states_has_every_state():
    rows = re.findall(r"^``(\w+)``  ", PAGES["reference/replica-states.rst"], re.MULTILINE)
    assert rows == [str(status) for status in ReplicaStatus]


@pytest.mark.parametrize("name", TEXTS)
def test_named_file_is_there(name):
    folders = "tools|tests|doc|etc|devstack|releasenotes|benchmarks|glance_repl_mw"
    named = re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./-]*\w", TEXTS[name])
    built = ("doc/build", "releasenotes/build", "benchmarks/results")
    missing = {each for each in named if not each.startswith(built) and not (TOP / each).exists()}
    assert not missing


@pytest.mark.parametrize("name", TEXTS)
def test_named_test_is_there(name):
    there = {path.stem for path in (TOP / "tests").rglob("test_*.py")}
    assert set(re.findall(r"``(test_\w+)``", TEXTS[name])) <= there


def test_named_sample_of_a_benchmark_is_there():
    named = set(re.findall(r"``([\w-]+\.json)``", PAGES["contributor/benchmarks.rst"]))
    assert named <= {path.name for path in (SOURCE / "benchmarks").iterdir()}


def is_in_package(name):
    """Whether it is a module, or something in one."""
    path = PACKAGE / name.removeprefix("glance_repl_mw.").replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module, _, attribute = name.rpartition(".")
    path = PACKAGE / module.replace(".", "/")
    return path.with_suffix(".py").exists() and re.search(
        rf"^(class|def) {attribute}\b", path.with_suffix(".py").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("page", [each for each in PAGES if each.startswith("contributor/")])
def test_named_module_is_there(page):
    dotted = {each for each in LITERAL.findall(PAGES[page]) if re.fullmatch(r"\w+(\.\w+)+", each)}
    samples = {path.name for path in (SOURCE / "benchmarks").iterdir()}
    assert {each for each in dotted - NO_MODULES - samples if not is_in_package(each)} == set()


def test_table_of_modules_names_modules():
    table = PAGES["contributor/architecture.rst"].partition("Where things are")[2]
    first = [line[:24] for line in table.partition("Outside of the package")[0].splitlines()]
    named = {each for each in LITERAL.findall("\n".join(first)) if each != "glance_repl_mw"}
    assert named
    assert {each for each in named if not is_in_package(each)} == set()


def test_table_of_tasks_names_modules_of_the_reconciler():
    rows = re.findall(r"^``(\w+)``  ", PAGES["contributor/lifecycle.rst"], re.MULTILINE)
    assert rows
    assert {each for each in rows if not is_in_package(f"reconciler.{each}")} == set()


@pytest.mark.parametrize("name", TEXTS)
def test_words_are_those_of_the_glossary(name):
    prose = LITERAL.sub("", TEXTS[name]).lower()
    assert [word for word in BANNED if re.search(rf"\b{word}\b", prose)] == []
