# SPDX-License-Identifier: Apache-2.0
"""Imports modules and forks uWSGI, once for each order that comes by a socket.

Usage: serve.py SOCKET MODULE...

An order is a JSON list of uWSGI's words, the working directory and the environment, and comes with
the descriptor of a log; the answer is the new process's id, with a descriptor of the process.
"""

import ctypes
import importlib
import json
import os
import select
import signal
import socket
import sys

import pyuwsgi

_WORDS = "LAB_UWSGI"
_PR_SET_PDEATHSIG = 1


def main() -> None:
    if _WORDS in os.environ:
        # uWSGI reloads by executing anew what it was forked from.
        pyuwsgi.run(json.loads(os.environ[_WORDS]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))


def _serve(orders: socket.socket) -> None:
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([orders, woken], [], [])
        if woken in ready:
            woken.recv(64)
            _reap()
        if orders in ready:
            order, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 1)
            if not order:
                return
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for each in (orders, woken, waker):
                    each.close()
                _become(*json.loads(order), log=descriptors[0])
            os.close(descriptors[0])
            process = os.pidfd_open(pid)
            socket.send_fds(orders, [str(pid).encode()], [process])
            os.close(process)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _become(words: list[str], directory: str, environment: dict[str, str], *, log: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.setsid()
    os.chdir(directory)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    os.environ.clear()
    os.environ.update(environment, **{_WORDS: json.dumps(words)})
    try:
        pyuwsgi.run(words)
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
