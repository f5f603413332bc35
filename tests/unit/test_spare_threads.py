# SPDX-License-Identifier: Apache-2.0
"""How many threads of a process may wait."""

import types

import pytest
from gunicorn.workers import gthread

from glance_repl_mw import spare_threads
from glance_repl_mw.spare_threads import SpareThreads, thread_count

MANY = {"wsgi.multithread": True}


@pytest.fixture
def server(monkeypatch):
    """Let the process be one of a server with these modules."""

    def serve(**modules):
        def find(name):
            if name not in modules:
                raise ImportError(name)
            return modules[name]

        monkeypatch.setattr(spare_threads.importlib, "import_module", find)

    serve()
    return serve


def test_what_servers_tell(server):
    assert thread_count({"wsgi.multithread": False}) == 1
    assert thread_count(MANY) is None
    server(uwsgi=types.SimpleNamespace(cores=3))
    assert thread_count(MANY) == 3
    # A package of this name is there outside of Apache too.
    server(mod_wsgi=types.SimpleNamespace())
    assert thread_count(MANY) is None
    server(mod_wsgi=types.SimpleNamespace(threads_per_process=5))
    assert thread_count(MANY) == 5


def test_gunicorn_tells_by_its_worker(server):
    def handle(self, call):
        return call()

    worker = types.SimpleNamespace(cfg=types.SimpleNamespace(threads=7))
    # As if it were a method of gunicorn's own worker.
    handle = types.FunctionType(handle.__code__, gthread.__dict__)
    assert handle(worker, lambda: thread_count(MANY)) == 7


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_one_thread_never_waits(server, threads, caplog):
    server(uwsgi=types.SimpleNamespace(cores=threads))
    spare = SpareThreads(wanted=3)
    for _ in range(2):
        spare.learn({"wsgi.multithread": threads > 1})
    assert [spare.take() for _ in range(4)] == [number < threads - 1 for number in range(4)]
    if threads > 1:
        spare.give_back()
        assert spare.take()
    assert len(caplog.records) == (threads <= 3)


def test_where_the_number_is_not_known_options_rule(server):
    spare = SpareThreads(wanted=3)
    spare.learn(MANY)
    assert all(spare.take() for _ in range(100))
