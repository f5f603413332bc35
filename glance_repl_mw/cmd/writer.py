# SPDX-License-Identifier: Apache-2.0
"""``glance-repl-writer``: pushes the spool of this node to the targets."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.metadata
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import oslo_db.exception
from oslo_config import cfg
from oslo_db.sqlalchemy import enginefacade
from oslo_log import log

from glance_repl_mw import exceptions, extras, launcher, opts
from glance_repl_mw.cmd import again
from glance_repl_mw.db import schema
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.db.outlook import Outlooks
from glance_repl_mw.db.states import TargetStates
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Observer
from glance_repl_mw.nodes import Nodes, node_name
from glance_repl_mw.presence import API_LOCK, WRITER_LOCK, holder
from glance_repl_mw.reconciler import assembly, tasks
from glance_repl_mw.reconciler import service as reconciler
from glance_repl_mw.reconciler.deletion_guard import DeletionGuard
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.reconciler.reporting import StateReport
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets import loader
from glance_repl_mw.targets.base import given_location
from glance_repl_mw.urls import NOT_A_URL
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.service import WriterService

if TYPE_CHECKING:
    from glance_repl_mw.notifications import Notifications

LOG = log.getLogger(__name__)

_LAST_EVENTS_SECONDS = 2.0
_AUTOGROUP = pathlib.Path("/proc/self/autogroup")
_COMMAND_LINE = cfg.IntOpt(
    "embedded-lock",
    help="Descriptor of the writer's lock, held already. The filter gives it; such a writer ends "
    "when the last API process of the node has gone.",
)


def main() -> None:
    """The console script: as ``serve``, but waits for no thread that a target still blocks."""
    try:
        status = serve(sys.argv[1:])
    except again.Again:
        again.execute()
    except Exception:
        LOG.exception("The writer fails")
        status = 1
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


def serve(arguments: list[str]) -> int:
    """Run the writer until SIGTERM, SIGINT or, embedded, until no API process is left.

    Returns 0, or 2 when the configuration cannot work; the reason is on stderr, in one line.

    :raises Again: SIGHUP came, the new configuration can work, and all work was handed back
    """
    # Whoever sends it so early gets what it asks for.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        conf = _configuration(arguments)
        _give_way(conf.replication.writer_nice)
        notifications = _notifications(conf)
        service = _service(conf, notifications)
    except (exceptions.ConfigError, cfg.Error) as error:
        print(f"glance-repl-writer: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    reload = again.Reload(lambda: _examine(arguments), service.stop)
    signal.signal(signal.SIGHUP, lambda *_: reload.begin())
    LOG.info("The writer begins, process %s", os.getpid())
    service.run_forever()
    if notifications:
        notifications.finish(_LAST_EVENTS_SECONDS)
    if reload.is_due:
        if conf.embedded_lock is not None:
            os.set_inheritable(conf.embedded_lock, True)
        raise again.Again
    return 0


def _examine(arguments: list[str]) -> None:
    """See that a writer could begin with the configuration as it is now.

    :raises ConfigError:
    :raises oslo_config.cfg.Error:
    """
    conf = _parse(arguments)
    loader.check_values(conf)
    ImageService(conf, functools.partial(given_location, loader.load_targets(conf).values()))


def _give_way(nice: int) -> None:
    """Let other processes come first; only threads that are begun afterwards give way, too.

    Where the kernel groups processes by their sessions, ``nice`` counts inside a session only, and
    the session has a value of its own; see sched(7).
    """
    again.add_nice(nice)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            _AUTOGROUP.write_text(str(nice))


def _configuration(arguments: list[str]) -> cfg.ConfigOpts:
    conf = _parse(arguments)
    log.setup(conf, "glance-repl-writer")
    # What it cannot find is an error of the configuration, which we tell ourselves.
    logging.getLogger("stevedore").setLevel(logging.ERROR)
    # Likewise what it cannot parse.
    logging.getLogger("oslo_policy").setLevel(logging.CRITICAL)
    # What cannot be done now is told where it is put off.
    logging.getLogger("oslo_db.api").setLevel(logging.CRITICAL)
    return conf


def _parse(arguments: list[str]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf.register_cli_opt(_COMMAND_LINE)
    conf.register_opts(opts.GLANCE_OPTIONS)
    log.register_options(conf)
    opts.register_opts(conf)
    conf(
        arguments,
        project="glance",
        prog="glance-repl-writer",
        version=importlib.metadata.version("glance-repl-mw"),
        description="Pushes the images in the spool of this node to the targets.",
        # Those that glance-api reads.
        default_config_files=cfg.find_config_files("glance", "glance-api"),
        default_config_dirs=cfg.find_config_dirs("glance", "glance-api"),
    )
    return conf


def _notifications(conf: cfg.ConfigOpts) -> Notifications | None:
    """None where no events are wanted, or can be sent."""
    if not conf.replication.notifications:
        return None
    try:
        with extras.required_by("notifications", "notifications"):
            import oslo_messaging

            from glance_repl_mw.notifications import Notifications
    except exceptions.ConfigError as error:
        LOG.error("No events are sent: %s", error.hint)
        return None
    try:
        return Notifications(conf)
    except (oslo_messaging.InvalidTransportURL, ValueError):
        LOG.error("No events are sent: transport_url %s", NOT_A_URL)
    except oslo_messaging.MessagingException as error:
        LOG.error("No events are sent: %s", error)
    return None


def _service(conf: cfg.ConfigOpts, notifications: Notifications | None) -> WriterService:
    loader.check_values(conf)
    options = conf.replication
    drivers = loader.load_targets(conf)
    health = {name: TargetHealth() for name in drivers}
    images = ImageService(
        conf,
        functools.partial(given_location, drivers.values()),
        assembly.readability(drivers, health),
    )
    spool = Spool(options.spool_dir, options.spool_max_bytes, options.spool_min_free_bytes)
    spool.prepare()
    is_needed = _own_lock(conf, spool.directory)
    database = _database(options.connection)
    targets = assembly.guarded(conf, drivers, database)
    guard = DeletionGuard(conf, images, DeletionRecords(database), targets, health)
    observer: Observer | None = None
    if notifications:
        notifications.start(ReplicaStore(database).replicas)
        observer = notifications.changed
    nodes = _nodes(options.coordination_url, node_name(spool.directory))
    store = ReplicaStore(database, nodes.name, observer)
    crew = Crew(conf, spool, store, targets, images, guard, nodes.is_alone)
    tools = Tools(
        conf,
        spool,
        ReplicaSurvey(database, nodes.name, nodes.share, observer),
        TargetWishes(database),
        Outlooks(database),
        images,
        guard,
        targets,
        health,
        crew.paces,
        crew.pools,
        nodes=nodes,
    )
    tasks.start(StateReport(tools, TargetStates(database), nodes.name))
    return _started(crew, tools, is_needed)


def _started(crew: Crew, tools: Tools, is_needed: Callable[[], bool]) -> WriterService:
    """The writer, whose reconciler runs already."""
    tools.nodes.start(tools.stopping)
    service = WriterService(crew, tools, is_needed)
    wake_reconciler = reconciler.start(tools, service.look_again, service.forget)

    def wake() -> None:
        service.wake()
        wake_reconciler()

    tools.spool.bell.listen(wake)
    return service


def _database(connection: str) -> enginefacade._TransactionContextManager:
    database = schema.open_database(connection)
    try:
        schema.prepare(database)
    except oslo_db.exception.DBError as error:
        raise exceptions.ConfigError(
            operation="open the database", hint=f"[replication] connection: {error}"
        ) from error
    return database


def _nodes(coordination_url: str, name: str) -> Nodes:
    if not coordination_url:
        return Nodes(name)
    with extras.required_by("coordination_url", "redis", "etcd"):
        from glance_repl_mw import coordination

    coordination.check_url(coordination_url)
    return coordination.CoordinatedNodes(coordination_url, name)


def _own_lock(conf: cfg.ConfigOpts, directory: pathlib.Path) -> Callable[[], bool]:
    """Make sure that this is the node's only writer; returns what tells whether it is needed.

    Waits while another writer finishes.
    """
    if conf.embedded_lock is None:
        lock = launcher.open_lock(directory, WRITER_LOCK)
        _wait_for_turn(lock.fileno())
        return lambda: lock is not None
    os.set_inheritable(conf.embedded_lock, False)
    os.pwrite(conf.embedded_lock, f"{os.getpid()} {launcher.fingerprint(conf)}".encode(), 0)
    presence = launcher.open_lock(directory, API_LOCK)
    return lambda: _has_api_process(presence.fileno())


def _wait_for_turn(lock: int) -> None:
    """Wait until no other writer holds the lock, and write into it who does then."""
    if not _lock_if_free(lock):
        LOG.warning("Waits for the writer with process id %s to end", holder(lock) or "unknown")
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)


def _has_api_process(descriptor: int) -> bool:
    if not _lock_if_free(descriptor):
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _lock_if_free(descriptor: int) -> bool:
    """Returns whether the lock is held now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main()
