# SPDX-License-Identifier: Apache-2.0
"""tools/demo shows what it promises, and leaves nothing behind."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from oslo_utils.imageutils import format_inspector

from tools.demo_show import diskimage

TOP = Path(__file__).parents[2]
MIB = 1 << 20
DIRECTORY = re.compile(r"\S*/glance-repl-demo-[^/\s]+")


class Demo:
    """A running demo; its output is read line by line."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.demo_show", *arguments],
            cwd=TOP,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    @property
    def directory(self):
        return Path(DIRECTORY.search(self.output)[0])

    def read_until(self, text):
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        pytest.fail(f"{text!r} was not said:\n{self.output}")

    def finish(self, number):
        self.process.send_signal(number)
        self.output += self.process.stdout.read()
        return self.process.wait()

    def processes(self):
        found = []
        for process in psutil.process_iter(["cmdline", "cwd", "status"]):
            words = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
            if any(str(self.directory) in word for word in words):
                found.append(process)
        return found


@pytest.fixture
def demo():
    demos = []

    def make(*arguments):
        demos.append(Demo(*arguments))
        return demos[-1]

    yield make
    for one in demos:
        one.process.terminate()
        one.process.communicate()


def test_demo_shows_one_upload_and_keeps_all_running_until_it_is_told_to_end(demo):
    shown = demo("--size", "8", "--keep")
    shown.read_until("Ctrl-C")
    output = shown.output
    assert "site-a active  site-b active  site-c active" in output
    assert "All 4 are equal to the file that was uploaded." in output
    assert len(set(re.findall(r"\b[0-9a-f]{128}\b", output))) == 1
    assert re.search(r"served by site-[abc](, site-[abc])*\n", output)
    assert f"read back    0 bytes from Glance by the writer (the download above: {8 * MIB})" in (
        output
    )
    assert shown.processes()
    image_id = re.search(r"image save (\S+)", output)[1]
    status = shell(shown, f"glance-repl-manage status {image_id}")
    assert status.count(" active ") == 3

    assert shown.finish(signal.SIGINT) == 0
    assert not shown.directory.exists()
    assert shown.processes() == []


def shell(demo, command):
    """What the command answers in a terminal that was set up as the demo says."""
    setup = re.search(r"^ +(\. \S+/alice\.rc)$", demo.output, re.MULTILINE)[1]
    command = ["sh", "-c", f"{setup}; {command}"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_demo_that_is_interrupted_leaves_nothing(demo):
    interrupted = demo("--size", "256")
    interrupted.read_until(" s  Glance ")
    assert interrupted.processes()
    assert interrupted.finish(signal.SIGINT) == 130
    assert not interrupted.directory.exists()
    assert interrupted.processes() == []


def test_demo_says_where_room_is_missing(demo):
    large = demo("--size", str(1 << 40))
    large.read_until("TMPDIR")
    assert large.output.startswith("error: ")
    assert large.process.wait() == 1


def test_image_made_on_the_spot_is_a_disk_that_glance_finds_safe(tmp_path):
    made = diskimage.make(tmp_path / "disk", 2 * MIB + 512)
    assert made.path.stat().st_size == made.size == 2 * MIB + 512
    inspector = format_inspector.detect_file_format(str(made.path))
    assert str(inspector) == "gpt"
    inspector.safety_check()
    assert diskimage.read(made.path) == made


def test_file_of_the_user_gets_its_own_format(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(1 << 16))
    assert diskimage.read(path).disk_format == "qcow2"
    path.write_bytes(b"just bytes")
    assert diskimage.read(path).disk_format == "raw"
