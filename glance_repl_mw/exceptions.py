# SPDX-License-Identifier: Apache-2.0
"""The errors of replication.

The type decides what happens next: ``TargetUnavailable`` is retried soon and ever more
slowly, ``TargetRefused`` only at the longest interval, since nothing but an operator helps.
"""

from glance_repl_mw.foreign_text import printable

_MOST_CHARACTERS = 2000


class ReplicationError(Exception):
    """Something about the replication of an image failed.

    :param image_id: the image, where one is concerned
    :param target: the target's name, where one is concerned
    :param operation: what was attempted, as a verb ("put", "read configuration")
    :param hint: what went wrong and, where it is known, what helps; never holds a secret
    """

    def __init__(
        self,
        image_id: str | None = None,
        target: str | None = None,
        operation: str | None = None,
        hint: str = "",
    ) -> None:
        self.image_id = image_id
        self.target = target
        self.operation = operation
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        where = [
            f"{label} {value}"
            for label, value in (("image", self.image_id), ("target", self.target))
            if value
        ]
        parts = [", ".join(where), self.operation, self.hint]
        text = ": ".join(part for part in parts if part) or type(self).__name__
        # Servers and users have a say in many a hint.
        return printable(text, _MOST_CHARACTERS)


class ConfigError(ReplicationError):
    """The configuration is wrong; the hint names section and option."""


class SpoolFull(ReplicationError):
    """The spool's quota or the disk's free-space floor leaves no room."""


class SpoolCorrupt(ReplicationError):
    """The spooled bytes are not the bytes that Glance accepted."""


class SidecarUnreadable(ReplicationError):
    """What the spool holds of an upload cannot be known now; it stays, and a retry can help."""


class UploadCut(ReplicationError):
    """The upload that a reader follows was refused, broken off or handed back."""


class TakenOver(ReplicationError):
    """Another node has the replica in hand, or has ended it."""


class GlanceUnavailable(ReplicationError):
    """Glance or Keystone cannot be reached, or answered with a server error; a retry can help."""


class ImageNotActive(GlanceUnavailable):
    """Glance has the image, but not its data: not yet, or not any more."""


class GlanceRefused(ReplicationError):
    """Glance or Keystone said no to the service user or to the request."""


class ImageGone(ReplicationError):
    """Glance does not know the image any more."""


class ImageHasOtherId(ReplicationError):
    """Glance has the image under an id whose capitals differ from those that were asked for."""


class SourceFailed(ReplicationError):
    """No source gives the bytes of an image.

    :ivar others_are_left: some were not read; they are to be read from the beginning, at once
    """

    others_are_left: bool = False


class SourceSlow(ReplicationError):
    """The bytes of an image come too slowly from a source."""


class TargetError(ReplicationError):
    """An operation at a target failed."""


class TargetUnavailable(TargetError):
    """The target cannot be reached, hangs or answers with a server error; a retry can help.

    :ivar retry_after_seconds: for how long the target asked to be left alone
    """

    retry_after_seconds: float = 0.0


class TargetRefused(TargetError):
    """The target said no; a retry without a change of configuration cannot help."""


class TargetMisplaced(TargetRefused):
    """The target's URL leads to a collection that is not, or not seen to be, the target's own."""


class TargetMoved(TargetMisplaced):
    """The target's URL was changed, while rows have locations at the old one."""


class SignatureRefused(TargetRefused):
    """The target does not let anybody read with the signature that we make."""


class ReplicaMissing(TargetError):
    """The object is not at the target."""


class TargetCorrupt(TargetError):
    """The object at the target has not the image's bytes."""
