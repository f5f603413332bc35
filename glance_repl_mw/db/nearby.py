# SPDX-License-Identifier: Apache-2.0
"""Where an image lies at the site of this node, for those who read it here."""

from __future__ import annotations

import datetime

import sqlalchemy as sa
from oslo_utils import timeutils

from glance_repl_mw.db.models import ReplicaRow, TargetStateRow
from glance_repl_mw.db.session import Asked, Context, briefly_retried
from glance_repl_mw.model import ReplicaStatus

# What a writer has said longer ago says nothing of now.
_SAID = datetime.timedelta(minutes=1)


class NearbyReplicas(Asked):
    """The replicas that Glance may read at a target; may be used from any thread.

    Each call may raise ``oslo_db.exception.DBError``.
    """

    @briefly_retried
    def url(self, image_id: str, target: str, node: str) -> str | None:
        """The plain URL of the image's location at the target.

        None where there is none, or where the node's writer has last asked the target in vain:
        it is taken for down only after some failures, and Glance waits for an answer for ever.
        """
        has_failed = sa.exists().where(
            TargetStateRow.node == node,
            TargetStateRow.target == target,
            TargetStateRow.error.is_not(None),
            TargetStateRow.seen_at >= timeutils.utcnow() - _SAID,
        )
        statement = sa.select(ReplicaRow.location_url).where(
            ReplicaRow.image_id == image_id,
            ReplicaRow.target == target,
            ReplicaRow.status == ReplicaStatus.ACTIVE,
            sa.not_(has_failed),
        )
        with self._database.reader.using(Context()) as session:
            url: str | None = session.scalars(statement).first()
            return url
