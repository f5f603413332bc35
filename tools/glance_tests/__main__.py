# SPDX-License-Identifier: Apache-2.0
"""Compares Glance's own functional tests with and without the filter; see tools/glance-tests."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from collections.abc import Iterator

import glance
import prettytable

from tests.lab.webservers import Nginx
from tools.glance_tests import plugin

TOP = pathlib.Path(__file__).parents[2]
FILES = (
    "v2/test_images",
    "v2/test_images_api_policy",
    "v2/test_image_members",
    "v2/test_member_api_policy",
    "v2/test_multi_store_images",
    "v2/test_parallel_store_import",
    "v2/test_images_import_locking",
    "v2/test_image_decompression",
    "v2/test_download_from_store",
    "v2/test_cache_api",
    "test_cache_middleware",
    "test_cors_middleware",
    "test_gzip_middleware",
)
CONFIG = """
[replication]
enabled_targets = site:http
spool_dir = {directory}/spool
spool_min_free_bytes = 1048576
connection = sqlite:///{directory}/replication.sqlite
writer = external
auth_type = none
endpoint_override = http://127.0.0.1:9/

[replication:site]
url = {url}
"""

Results = dict[str, str]


def main() -> int:
    """Run both, print the table; returns 1 when they differ."""
    wanted = sys.argv[1:]
    files = [file for file in FILES if not wanted or file.rpartition("/")[2] in wanted]
    if not files:
        sys.exit(f"none of these is known: {wanted}")
    with tempfile.TemporaryDirectory(prefix="glance-tests-") as name:
        top = pathlib.Path(name)
        # Glance's tests read their data, and write their log, where they are started.
        (top / "glance").symlink_to(pathlib.Path(glance.__file__).parent)
        with Nginx(top / "site") as site:
            config = top / "replication.conf"
            config.write_text(CONFIG.format(directory=top, url=site.url))
            paths = [f"glance/tests/functional/{file}.py" for file in files]
            without, within = run_both(top, paths, config)
            # Some of these tests do not always end the same, filter or not: once more.
            if again := [node(name) for name in differences(without, within)]:
                print(f"== {len(again)} tests differ and are run again")
                for first, second in zip(
                    (without, within), run_both(top, again, config), strict=True
                ):
                    first.update(second)
            spooled = len(list((top / "spool").glob("*.data")))
            sent = sum(request.method == "PUT" for request in site.requests())
    return report(
        without, within, f"{spooled} uploads are in the spool, {sent} PUTs reached nginx"
    )


def run_both(top: pathlib.Path, tests: list[str], config: pathlib.Path) -> tuple[Results, Results]:
    """Run these files or tests without the filter and with it."""
    print("== Without the filter", flush=True)
    without = run(top, tests, "without", {})
    print("== With the filter", flush=True)
    with writer(config):
        return without, run(top, tests, "with", {plugin.CONFIG_VARIABLE: str(config)})


@contextlib.contextmanager
def writer(config: pathlib.Path) -> Iterator[None]:
    """The writer of the spool; it finds no Glance, which exists only inside the tests."""
    with (config.parent / "writer.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "glance_repl_mw.cmd.writer", "--config-file", str(config)],
            stdout=log,
            stderr=log,
        )
        try:
            yield
            if process.poll() is not None:
                raise SystemExit(f"the writer ended with {process.returncode}")
        finally:
            process.kill()
            process.wait()


def run(top: pathlib.Path, tests: list[str], name: str, variables: dict[str, str]) -> Results:
    """Run the tests in processes side by side; returns the outcome by test."""
    report_file = top / f"{name}.xml"
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-W", "ignore"),
        *("-p", "tools.glance_tests.plugin", "-p", "no:cacheprovider", "--rootdir", str(top)),
        *("-n", "2", f"--junitxml={report_file}"),
        *tests,
    ]
    environment = {**os.environ, "PYTHONPATH": str(TOP), **variables}
    with (TOP / f".glance-tests-{name}.log").open("wb") as log:
        subprocess.call(command, cwd=top, env=environment, stdout=log, stderr=log)
    return results(report_file)


def results(report_file: pathlib.Path) -> Results:
    """Outcome ("passed", "skipped", "failure" or "error") by file::class::test."""
    found = {}
    for case in xml.etree.ElementTree.parse(report_file).iter("testcase"):
        outcomes = {child.tag for child in case} & {"failure", "error", "skipped"}
        key = f"{case.get('classname')}.{case.get('name')}"
        found[key] = min(outcomes, default="passed")
    return found


def differences(without: Results, within: Results) -> dict[str, tuple[str, str]]:
    """Outcome without and with the filter of each test that has two."""
    return {
        name: (without.get(name, "missing"), within.get(name, "missing"))
        for name in {*without, *within}
        if without.get(name) != within.get(name)
    }


def node(name: str) -> str:
    """The argument for pytest: path/of/file.py::Class::test."""
    module, test_class, test = name.rsplit(".", 2)
    return f"{module.replace('.', '/')}.py::{test_class}::{test}"


def report(without: Results, within: Results, remark: str) -> int:
    """Print a line for each file and each difference; returns 1 when there is one."""
    different = differences(without, within)
    table = prettytable.PrettyTable(
        ["File", "Tests", "Passed without", "Passed with", "Differences"]
    )
    table.align = "r"
    table.align["File"] = "l"
    counts: dict[str, collections.Counter[str]] = {}
    for name in {*without, *within}:
        for file in (_file(name), "all"):
            count = counts.setdefault(file, collections.Counter())
            count["tests"] += 1
            count["without"] += without.get(name) == "passed"
            count["within"] += within.get(name) == "passed"
            count["different"] += name in different
    for file in sorted(counts, key=lambda file: (file == "all", file)):
        count = counts[file]
        table.add_row([file, *(count[key] for key in ("tests", "without", "within", "different"))])
    print(table)
    for name, (before, after) in sorted(different.items()):
        print(f"{name}: {before} without the filter, {after} with it")
    print(remark)
    return 1 if different or not without else 0


def _file(name: str) -> str:
    words = name.split(".")
    return next((word for word in words if word.startswith("test_")), name)


if __name__ == "__main__":
    sys.exit(main())
