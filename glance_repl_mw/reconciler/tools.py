# SPDX-License-Identifier: Apache-2.0
"""What the reconciler's tasks work with."""

from __future__ import annotations

import dataclasses
import datetime
import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Executor

from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw.db.outlook import Outlooks
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import WAITING_FOR_BYTES, Replica, ReplicaStatus
from glance_repl_mw.nodes import Nodes
from glance_repl_mw.pace import Pace
from glance_repl_mw.reconciler.deletion_guard import DeletionGuard
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.reconciler.history import SourceHistory
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets.base import Target

_CLOCK_TOLERANCE = datetime.timedelta(minutes=1)
_MOST_DEMANDS = 100


class Stopping(Exception):
    """The writer ends; what a task has begun is left as it is."""


@dataclasses.dataclass(frozen=True)
class Demand:
    """The room in the spool that the fetch of one image lacks.

    :ivar since: when it was first demanded, by the clock of ``time.monotonic``
    """

    lacking_bytes: int
    since: float

    @property
    def standing_seconds(self) -> float:
        return time.monotonic() - self.since


class Shortage:
    """The room that fetches lack, by image: the feeder demands it, the main loop makes it.

    A demand stands until it is withdrawn by the feeder, which made it: because the image is being
    fetched, or does not need to be any more. Used by any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._demands: dict[str, Demand] = {}

    def demand(self, image_id: str, lacking_bytes: int) -> None:
        """Let the demand stand; one that stands already keeps its age.

        Where very many stand, further images only try again from time to time.
        """
        with self._lock:
            known = self._demands.get(image_id)
            if known is None and len(self._demands) >= _MOST_DEMANDS:
                return
            since = known.since if known else time.monotonic()
            self._demands[image_id] = Demand(lacking_bytes, since)

    def withdraw(self, image_id: str) -> None:
        """Nothing is lacking any more; does nothing where nothing was."""
        with self._lock:
            self._demands.pop(image_id, None)

    def standing(self) -> dict[str, Demand]:
        """All demands by image, the oldest first."""
        with self._lock:
            return dict(self._demands)

    @property
    def lacking_bytes(self) -> int:
        """That the largest demand wants, 0 where none stands."""
        return max((each.lacking_bytes for each in self.standing().values()), default=0)


@dataclasses.dataclass(frozen=True)
class Tools:
    """Shared by all tasks, each of which runs in a thread of its own.

    :ivar wishes: to be changed, or read as they are this moment; ``outlooks`` has them, too
    :ivar guard: what has to be asked before an object is deleted
    :ivar health: by the name of each configured target
    :ivar paces: what transfers to a target keep to, likewise; missing ones have no limit
    :ivar pools: the threads that write to a target, likewise; missing ones: whoever calls does it
    :ivar history: what was wrong with the sources of images lately
    :ivar stopping: set when the writer ends
    :ivar nodes: that share the database
    """

    conf: cfg.ConfigOpts
    spool: Spool
    survey: ReplicaSurvey
    wishes: TargetWishes
    outlooks: Outlooks
    images: ImageService
    guard: DeletionGuard
    targets: Mapping[str, Target]
    health: Mapping[str, TargetHealth]
    paces: Mapping[str, Pace] = dataclasses.field(default_factory=dict)
    pools: Mapping[str, Executor] = dataclasses.field(default_factory=dict)
    shortage: Shortage = dataclasses.field(default_factory=Shortage)
    history: SourceHistory = dataclasses.field(default_factory=SourceHistory)
    stopping: threading.Event = dataclasses.field(default_factory=threading.Event)
    nodes: Nodes = dataclasses.field(default_factory=Nodes)

    def rest(self, seconds: float) -> None:
        """Wait, between two pages of work or until it is time again.

        :raises Stopping:
        """
        if self.stopping.wait(seconds):
            raise Stopping

    def is_in_hand(self, replica: Replica) -> bool:
        """Whether the replica belongs to a writer: another node's, or this one's main loop.

        The spool holds the uploads that the main loop has in hand.
        """
        return replica.node not in (None, self.survey.node) or self.is_spooled(replica.upload_id)

    def is_spooled(self, upload_id: str) -> bool:
        """Whether the spool of this node holds the upload."""
        return self.spool.sidecar_path(upload_id).exists()

    def due(
        self, statuses: Collection[ReplicaStatus], *, limit: int, targets: Collection[str]
    ) -> list[Replica]:
        """Rows whose next attempt is due, the most urgent first, at most ``limit``.

        :param targets: of which rows are wanted
        :raises oslo_db.exception.DBError:
        """
        planned = self.outlooks.now().planned(statuses)
        if not planned:
            return []
        now = timeutils.utcnow()
        longest = datetime.timedelta(seconds=2 * self.conf.replication.retry_max_seconds)
        horizon = longest + _CLOCK_TOLERANCE
        if not any(first <= now or last > now + horizon for first, last in planned):
            return []
        return self.survey.due(now, statuses, limit=limit, horizon=horizon, targets=targets)

    def waiting_for_bytes(self, limit: int) -> list[Replica]:
        """Rows of replicas that are to be fetched now, the most urgent first.

        :raises oslo_db.exception.DBError:
        """
        return self.due(WAITING_FOR_BYTES, limit=limit, targets=self.usable_targets())

    def pause_seconds(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        options = self.conf.replication
        pause = options.retry_initial_seconds * 2 ** min(failures - 1, 30)
        return float(min(options.retry_max_seconds, pause))

    def usable_targets(self) -> list[str]:
        """Targets that are up and that no operator drains or removes."""
        wishes = self.outlooks.now().wishes
        return [target for target in self.up_targets() if target not in wishes]

    def up_targets(self) -> list[str]:
        """Configured targets that are not known to be down."""
        return [name for name in self.targets if self.health[name].is_up]
