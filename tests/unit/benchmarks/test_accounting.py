# SPDX-License-Identifier: Apache-2.0
"""CPU seconds of real processes and threads."""

import hashlib
import os
import subprocess
import sys
import threading

import psutil
import pytest

from benchmarks.accounting import (
    BUSY,
    CLIENT,
    STOLEN,
    WAITED,
    WALL,
    Account,
    ThreadUsage,
    Usage,
    hashing,
    medians,
    seconds_without_processor,
    status_bytes,
    stolen_share,
    threads_of,
)
from tests.lab.process import wait_until

MIB = 1 << 20
SPIN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def test_account_knows_servers_that_live_and_commands_that_ended():
    server = f"{SPIN}print(flush=True); import sys; sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", server], **pipes) as process:
        account = Account({"server": [process.pid], "nobody": []})
        process.stdout.readline()
        subprocess.run([sys.executable, "-c", SPIN], check=True)
        usage = account.read()
        process.stdin.close()
    assert usage.cpu["server"] >= 0.2
    assert usage.cpu[CLIENT] >= 0.3
    assert usage.cpu["nobody"] == 0
    assert usage.wall > 0
    assert 0 <= usage.stolen <= 1


def test_share_that_the_host_took():
    before = psutil.cpu_times()
    after = before._replace(user=before.user + 6, steal=before.steal + 2)
    assert stolen_share(before, after) == pytest.approx(0.25)
    assert stolen_share(before, before) == 0


def test_medians_by_contender_and_kind_of_process():
    usages = [Usage({"Glance": each}, 10.0, 0.01, each / 10) for each in (3.0, 1.0, 2.0)]
    expected = {"Glance": 2.0, BUSY: 0.2, WALL: 10.0, STOLEN: 0.01, WAITED: 0.2}
    assert medians({"bare": usages}) == {"bare": expected}


def test_thread_that_is_kept_waiting_is_noticed():
    command = [sys.executable, "-c", "while True: pass"]
    processor = {min(os.sched_getaffinity(0))}
    rivals = [
        subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, processor))
        for _ in range(2)
    ]
    try:
        wait_until(
            lambda: sum(seconds_without_processor(each.pid) for each in rivals) > 0.2,
            60,
            "two who want the same processor wait for it",
        )
    finally:
        for each in rivals:
            each.kill()
            each.wait()


def test_who_hashes_reads_and_who_pushes_writes_as_well():
    before = {1: ThreadUsage(1.0, 100, 0), 2: ThreadUsage(1.0, 0, 0)}
    after = {
        1: ThreadUsage(3.0, 100 + 10 * MIB, 10),
        2: ThreadUsage(1.5, 10 * MIB, 10 * MIB),
        3: ThreadUsage(0.25, 10 * MIB + 500, 10 * MIB),
    }
    assert hashing(before, after, 10 * MIB) == (2.0, 0.75, 10 * MIB - 10)


def test_threads_that_hash_and_send_are_told_apart_for_real(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(4 * MIB))
    done, looked = threading.Barrier(3), threading.Event()

    def hashes():
        hashlib.sha512(source.read_bytes()).hexdigest()
        done.wait()
        looked.wait()

    def sends():
        with source.open("rb") as reader, target.open("wb") as writer:
            while os.sendfile(writer.fileno(), reader.fileno(), None, MIB):
                pass
        done.wait()
        looked.wait()

    before = threads_of(os.getpid())
    threads = [threading.Thread(target=work) for work in (hashes, sends)]
    for thread in threads:
        thread.start()
    done.wait()
    found = hashing(before, threads_of(os.getpid()), 4 * MIB)
    looked.set()
    for thread in threads:
        thread.join()
    assert found.bytes == pytest.approx(4 * MIB, rel=0.01)
    assert found.seconds > 0


def test_memory_of_a_process():
    size = status_bytes(os.getpid(), "VmHWM")
    assert size >= psutil.Process().memory_info().rss * 0.9
    with pytest.raises(KeyError):
        status_bytes(os.getpid(), "VmNone")
