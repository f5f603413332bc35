# SPDX-License-Identifier: Apache-2.0
"""One upload in hand: from the first spooled byte to the last location."""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Callable, Mapping, Sequence

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import Replica, ReplicaStatus, Stored, Wish
from glance_repl_mw.reconciler.deletion_guard import SeenImage, delete_objects, missing_delay
from glance_repl_mw.replicas.deletion import Cause
from glance_repl_mw.spool.reader import Gate
from glance_repl_mw.spool.upload import Upload, UploadState
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.ending import Ending, closing
from glance_repl_mw.writer.proof import Proof
from glance_repl_mw.writer.push import Push
from glance_repl_mw.writer.pushes import Pushes
from glance_repl_mw.writer.registration import Registration

LOG = log.getLogger(__name__)

LOST_DATA = "Glance accepted the upload, but no longer has the image's data"
EMPTY_IMAGE = "an empty image can have no HTTP location: Glance wants a size above 0"


class Job:
    """Pushes, proves and registers one upload; every method is called by the main loop.

    :param rows: the upload's rows by target
    :param on_active: called with the upload, the target and the URL of each new location
    :ivar lacks_proof: Glance was asked in vain for the proof that the pushes wait for
    :ivar done: nothing is left to do; the spool has let go of it, unless the writer stops or other
        nodes make its replicas
    """

    def __init__(
        self,
        crew: Crew,
        upload: Upload,
        rows: Mapping[str, Replica],
        on_active: Callable[[Upload, str, str], None],
    ) -> None:
        self.upload = upload
        self._on_active = on_active
        self.done = self.lacks_proof = False
        self._crew = crew
        self._gate = Gate(upload.size)
        self._proof: Proof | None = None
        self._registration = Registration(crew, upload.image_id, self._registered)
        self._ending: Ending | None = None
        self._is_closed = False
        self._cleaning = 0
        self._reason = ""
        self._pushes = Pushes(crew, upload, rows, self._gate, self._pushed)

    @property
    def is_accepted(self) -> bool:
        """Whether Glance has the image, and the job goes on."""
        return self.upload.state is UploadState.ACCEPTED and self._ending is None

    @property
    def only_waits_for_retries(self) -> bool:
        """Whether every replica is done or has failed and waits."""
        return self._pushes.only_retries_are_left

    @property
    def handed_back(self) -> bool:
        """Whether it ended because the writer stops, and is still in the spool."""
        return self.done and self._ending is Ending.HANDED_BACK

    @property
    def is_waiting(self) -> bool:
        """Whether it can go on only after a while, or once Glance can be asked."""
        if self._pushes.any_is_ready:
            return False
        hashing = self._proof is not None and self._proof.is_hashing
        return not hashing or self.upload.state is UploadState.RECEIVING

    @property
    def _checksum(self) -> str | None:
        return self._proof.checksum if self._proof is not None else None

    def start(self) -> None:
        """Take up the upload in whatever state it is."""
        if self._is_over_at_once():
            return
        try:
            self._proof = Proof(self._crew, self.upload.upload_id, self._proved)
        except FileNotFoundError:
            if self.upload.state is UploadState.ACCEPTED:
                self._give_up("the spool file is gone")
            return
        if self.upload.state is UploadState.ACCEPTED:
            self._accepted()
        elif self.upload.can_be_sent_early:
            self._pushes.start()

    def observe(self, upload: Upload) -> None:
        """Take note of what the sidecar says now."""
        before, self.upload = self.upload.state, upload
        self._pushes.upload = upload
        is_news = upload.state is not before and not self._ending
        if is_news and not self._is_over_at_once():
            self._accepted()

    def _is_over_at_once(self) -> bool:
        if self.upload.state is UploadState.REJECTED:
            self.break_off(self.upload.error or "the upload was refused or broken off")
        elif self.upload.error:
            self._give_up(self.upload.error)
        elif not self._pushes:
            self._begin_end(Ending.IMPOSSIBLE, "no target is to have the image")
        elif self.upload.state is UploadState.ACCEPTED and not self.upload.received:
            self._begin_end(Ending.IMPOSSIBLE, EMPTY_IMAGE)
        return self._ending is not None

    # The proof

    def _accepted(self) -> None:
        if self._proof is None:
            self._give_up("the spool file is gone")
            return
        if self.upload.received != self.upload.size:
            self._crew.save(self.upload.upload_id, self._pushes.targets, size=self.upload.received)
        self._proof.conclude(self.upload)

    def _proved(self, error: BaseException | None) -> None:
        self.lacks_proof = error is not None
        if self._ending or self._proof is None:
            self._end()
        elif error is None:
            self._pushes.adopt(self._proof.locations)
            self._gate.open(self.upload.received or 0, self._proof.digest)
            self._pushes.start()
        elif isinstance(error, exceptions.SpoolCorrupt):
            self._give_up(str(error))
        elif isinstance(error, exceptions.ImageHasOtherId):
            self.refuse(str(error))
        else:
            self._proof.retry_later()
            LOG.warning("Image %s waits for its proof: %s", self.upload.image_id, error)
            self._crew.save(self.upload.upload_id, self._pushes.unended, error=str(error))
            if isinstance(error, exceptions.ImageGone) or self._has_lost_its_data:
                self._look_whether_gone()

    @property
    def _has_lost_its_data(self) -> bool:
        """Whether Glance has put the image back to ``queued``, or the like, for long enough.

        So it does where a second request for the image fails just after the upload.
        """
        delay = missing_delay(self._crew.conf).total_seconds()
        return self._proof is not None and self._proof.is_without_data_for(delay)

    # The pushes

    def _pushed(self, push: Push, stored: Stored | None, error: BaseException | None) -> None:
        error = error or push.mismatch(stored, self._checksum)
        if self._ending:
            self._end()
        elif error is None and stored is not None:
            self._pushes.keep(push, stored, self._checksum)
        elif isinstance(error, exceptions.TakenOver):
            self._pushes.yield_to_other(push)
        elif isinstance(error, exceptions.SpoolCorrupt):
            self._give_up(str(error))
        elif isinstance(error, exceptions.UploadCut | FileNotFoundError):
            if self.upload.state is UploadState.RECEIVING:
                push.status = ReplicaStatus.PENDING  # refused: the sidecar will say so
            else:
                self._give_up(f"the spool file cannot be read: {error}")
        elif isinstance(error, exceptions.ReplicaMissing):
            self._pushes.save(push, ReplicaStatus.PENDING, error=str(error))
            self._pushes.put(push)
        else:
            assert error is not None
            self._failed(push, push.status_after(error), error)
        self._register()

    def _failed(self, push: Push, status: ReplicaStatus, error: BaseException) -> None:
        push.attempts += 1
        push.may_register = False
        pause = self._crew.pause_seconds(push.attempts, error)
        push.retry_at = time.monotonic() + pause
        lost = {"bytes_sent": 0} if status is ReplicaStatus.ERROR else {}
        what = "Image %s, target %s: attempt %s failed: %s"
        LOG.warning(what, self.upload.image_id, push.target.name, push.attempts, error)
        self._pushes.save(
            push,
            status,
            error=str(error) or type(error).__name__,
            attempts=push.attempts,
            next_attempt_at=timeutils.utcnow() + datetime.timedelta(seconds=pause),
            **lost,
        )

    def retry(self, target: str | None = None) -> None:
        """Try again at once what has failed, at one target or at all."""
        if not self._ending:
            self._pushes.retry(target)
            self._register()

    # The locations

    def tick(self) -> None:
        """Do what has become due."""
        if self._is_closed:
            self._let_go()
        if self._proof is not None:
            self._proof.tick()
        if not self._crew.is_stopping and not self._ending:
            self._pushes.retry_due()
        self._register()

    def _register(self) -> None:
        if self._ending is None and self._proof is not None and self._proof.is_given:
            self._registration.consider(list(self._pushes))
            self._complete()

    def _registered(self, outcomes: Mapping[Push, BaseException | None]) -> None:
        self._activate([push for push, error in outcomes.items() if error is None])
        if self._ending:
            self._end()
        else:
            for push, error in outcomes.items():
                if error is not None:
                    push.is_doubted = isinstance(error, exceptions.GlanceRefused)
                    self._failed(push, ReplicaStatus.STORED, error)
            if any(isinstance(error, exceptions.ImageGone) for error in outcomes.values()):
                self._look_whether_gone()

    def _activate(self, pushes: Sequence[Push]) -> None:
        self._pushes.activate(pushes)
        seconds = time.time() - self.upload.created_at
        for push in pushes:
            what = "Image %s, target %s: active, %s bytes, %.1f s after the upload began"
            LOG.info(what, self.upload.image_id, push.target.name, self.upload.received, seconds)
            self._on_active(self.upload, push.target.name, push.location_url)
        self._clean_up([push for push in pushes if push.former_objects])

    def _complete(self) -> None:
        if not self._pushes.all_have_ended or self._cleaning or not self._crew.is_all_saved:
            return
        self.done = True
        if not self._pushes.any_is_yielded:
            self._crew.spool.remove(self.upload.upload_id)

    def _look_whether_gone(self) -> None:
        """That the image or its data is gone is a claim: the upload ends when it is a fact."""
        self._crew.at_glance(
            functools.partial(self._crew.guard.look, self.upload.image_id), self._looked
        )

    def _looked(self, seen: SeenImage | None, error: BaseException | None) -> None:
        if seen is not None and seen.is_gone and not self._ending:
            self.refuse("Glance has deleted the image")
        elif seen is not None and seen.has_no_data and self._has_lost_its_data:
            self.refuse(LOST_DATA)
        elif self._ending:
            self._end()

    # What earlier attempts have left

    def _clean_up(self, pushes: Sequence[Push]) -> None:
        """Delete the objects of earlier attempts of replicas that are active now."""
        if pushes:
            self._cleaning += 1
            self._crew.at_glance(
                functools.partial(self._crew.guard.look, self.upload.image_id),
                functools.partial(self._may_clean_up, pushes),
            )

    def _may_clean_up(
        self, pushes: Sequence[Push], seen: SeenImage | None, error: BaseException | None
    ) -> None:
        self._cleaning -= 1
        if seen is None:
            self._continue()
            return
        for push in pushes:
            self._cleaning += 1
            self._crew.at_target(
                push.target.name,
                functools.partial(
                    delete_objects,
                    self._crew.guard,
                    seen,
                    push.target,
                    list(push.former_objects),
                    Cause.SUPERSEDED,
                ),
                functools.partial(self._cleaned_up, push),
            )

    def _cleaned_up(
        self, push: Push, kept: Mapping[str, str] | None, error: BaseException | None
    ) -> None:
        """What stays is looked at again when all images are compared."""
        self._cleaning -= 1
        if kept is not None:
            self._pushes.forget_former_objects(push.target.name, list(kept))
        self._continue()

    def _continue(self) -> None:
        if self._ending:
            self._end()
        else:
            self._register()

    # The end

    def break_off(self, reason: str) -> None:
        """The spool will not get the rest of the bytes."""
        if self.upload.is_fetched:
            self._give_up(reason)
        else:
            self.refuse(reason)

    def refuse(self, reason: str) -> None:
        """Glance does not have the image: take back whatever reached a target."""
        self._begin_end(Ending.REFUSED, reason)

    def hand_back(self) -> None:
        """The writer stops: cut what runs; the next writer goes on from the spool."""
        self._begin_end(Ending.HANDED_BACK, "the writer stops")

    def hand_over(self) -> None:
        """The spool needs the room: targets that wait get the image from elsewhere, later."""
        self._begin_end(Ending.HANDED_OVER, "the spool needed the room")

    def lose(self) -> None:
        """The spool has the upload no more, as after its disk was emptied or lost a file."""
        if self._ending is None and not self.done:
            self._give_up("its record is gone from the spool")

    def leave(self, target: str, wish: Wish) -> None:
        """The target shall hold no replicas any more."""
        if not self._registration.running:
            self._pushes.leave(target, wish)

    def _give_up(self, reason: str) -> None:
        """The spool does not hold what Glance has: the reconciler reads it elsewhere."""
        LOG.warning("Image %s: %s", self.upload.image_id, reason)
        for push in self._pushes:
            push.attempts += self.upload.is_fetched
        self._begin_end(Ending.GIVEN_UP, reason)

    def _begin_end(self, ending: Ending, reason: str) -> None:
        if self._ending is None:
            self._ending, self._reason = ending, reason
            self._gate.cut(reason)
            if self._proof is not None:
                self._proof.drop()
        self._end()

    def _end(self) -> None:
        """Close the rows and let go, once nothing runs any more."""
        runs = self._pushes.any_runs or self._registration.running or self._cleaning
        if self.done or self._is_closed or runs:
            return
        assert self._ending is not None
        self._is_closed = True
        for push in self._pushes:
            self._close(push, self._ending)
        self._let_go()

    def _let_go(self) -> None:
        """The spool keeps the upload until its rows are stored."""
        if self.done or not (self._crew.is_all_saved or self._ending is Ending.HANDED_BACK):
            return
        self.done = True
        if self._ending is not Ending.HANDED_BACK:
            self._crew.spool.remove(self.upload.upload_id)

    def _close(self, push: Push, ending: Ending) -> None:
        is_stored = push.status is ReplicaStatus.STORED
        in_vain = ending is Ending.HANDED_OVER or self.upload.is_fetched or is_stored
        pause = self._crew.pause_seconds(max(1, push.attempts)) if in_vain else 0.0
        change = closing(ending, push, self._reason, pause)
        if change is not None:
            status, values = change
            self._pushes.save(push, status, **values)

    def progress(self) -> dict[tuple[str, str], int]:
        """Bytes handed to each target to which a push runs, by (upload id, target)."""
        return self._pushes.progress()
