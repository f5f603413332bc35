# SPDX-License-Identifier: Apache-2.0
"""Where the processors went: CPU seconds by kind of process, of threads, and what was stolen."""

import resource
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

PROC = Path("/proc")
CLIENT = "client"
HARNESS = "bench itself"
BUSY, WALL, STOLEN = "processors busy", "wall seconds", "stolen share"
GLANCE, WAITED = "Glance", "Glance waited"
OVERALL = (BUSY, WALL, STOLEN, WAITED)

Roles = Mapping[str, Sequence[int]]


class Usage(NamedTuple):
    """What was used between two moments.

    :ivar cpu: seconds by kind of process; `client` is every command that ended meanwhile
    :ivar wall: seconds
    :ivar stolen: the share of all processors that the host gave to others
    :ivar waited: seconds in which threads of Glance could run and had no processor
    """

    cpu: dict[str, float]
    wall: float
    stolen: float
    waited: float = 0.0


class Account:
    """Counts from its making on.

    :param roles: the processes by kind; they must outlive the account
    """

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._cpu = self._read()
        self._waited = self._waiting()
        self._machine = psutil.cpu_times()
        self._began = time.monotonic()

    def read(self) -> Usage:
        """What has been used so far."""
        wall = time.monotonic() - self._began
        cpu = {role: now - self._cpu[role] for role, now in self._read().items()}
        stolen = stolen_share(self._machine, psutil.cpu_times())
        return Usage(cpu, wall, stolen, self._waiting() - self._waited)

    def _waiting(self) -> float:
        return sum(map(seconds_without_processor, self._roles.get(GLANCE, ())))

    def _read(self) -> dict[str, float]:
        servers = {role: sum(map(cpu_seconds, pids)) for role, pids in self._roles.items()}
        return {
            **servers,
            CLIENT: _of(resource.RUSAGE_CHILDREN),
            HARNESS: _of(resource.RUSAGE_SELF),
        }


def cpu_seconds(pid: int) -> float:
    """What a process has used since it began, its ended threads included."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def seconds_without_processor(pid: int) -> float:
    """For how long the living threads of a process could run and were kept waiting."""
    total = 0
    for task in (PROC / str(pid) / "task").iterdir():
        # A thread may end while it is looked at.
        with suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9


def stolen_share(before: Any, after: Any) -> float:
    """The share of steal in all time between two readings of psutil.cpu_times()."""
    passed = sum(after) - sum(before)
    return (after.steal - before.steal) / passed if passed > 0 else 0.0


def medians(usages: Mapping[str, Iterable[Usage]]) -> dict[str, dict[str, float]]:
    """The median CPU seconds by contender and kind of process, with what these come to."""
    return {name: _medians(list(each)) for name, each in usages.items()}


class ThreadUsage(NamedTuple):
    """What one thread has used; what is sent by sendfile counts as read and as written."""

    cpu: float
    read: int
    written: int


def threads_of(pid: int) -> dict[int, ThreadUsage]:
    """Each living thread by its id."""
    found = {}
    for task in (PROC / str(pid) / "task").iterdir():
        # A thread may end while it is looked at.
        with suppress(FileNotFoundError, ProcessLookupError):
            found[int(task.name)] = _thread(task)
    return found


class Hashing(NamedTuple):
    """What a writer's threads did for one upload, told apart by what they read and write.

    :ivar seconds: CPU of the threads that read bodies and pass them on to nobody: they hash
    :ivar other_seconds: CPU of all other threads
    :ivar bytes: what the former have read
    """

    seconds: float
    other_seconds: float
    bytes: int


def hashing(
    before: Mapping[int, ThreadUsage], after: Mapping[int, ThreadUsage], size: int
) -> Hashing:
    """Tell the hashing from the pushing of one upload of `size` bytes.

    Python names no threads for the kernel before 3.14; but who hashes reads the body and writes
    nothing, and who pushes writes as much as he reads.
    """
    seconds, others, read = 0.0, 0.0, 0
    nothing = ThreadUsage(0.0, 0, 0)
    for thread, now in after.items():
        then = before.get(thread, nothing)
        kept = (now.read - then.read) - (now.written - then.written)
        if kept > size // 2:
            seconds += now.cpu - then.cpu
            read += kept
        else:
            others += now.cpu - then.cpu
    return Hashing(seconds, others, read)


def status_bytes(pid: int, name: str) -> int:
    """A size from /proc/PID/status, such as VmRSS or VmHWM, in bytes."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise KeyError(name)


def _thread(task: Path) -> ThreadUsage:
    nanoseconds = int((task / "schedstat").read_text().split()[0])
    counts = dict(line.split(": ") for line in (task / "io").read_text().splitlines())
    return ThreadUsage(nanoseconds / 1e9, int(counts["rchar"]), int(counts["wchar"]))


def _of(whom: int) -> float:
    usage = resource.getrusage(whom)
    return usage.ru_utime + usage.ru_stime


def _medians(usages: Sequence[Usage]) -> dict[str, float]:
    roles = usages[0].cpu
    found = {role: statistics.median(usage.cpu[role] for usage in usages) for role in roles}
    found[BUSY] = statistics.median(sum(usage.cpu.values()) / usage.wall for usage in usages)
    found[WALL] = statistics.median(usage.wall for usage in usages)
    found[STOLEN] = statistics.median(usage.stolen for usage in usages)
    found[WAITED] = statistics.median(usage.waited for usage in usages)
    return {name: round(value, 3) for name, value in found.items()}
