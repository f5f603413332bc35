# SPDX-License-Identifier: Apache-2.0
"""Threads that have only processor time for which Glance has no use."""

from __future__ import annotations

import os

from oslo_log import log

LOG = log.getLogger(__name__)


def keep_to_it() -> None:
    """Let the calling thread, and those that it begins, give way to others of the same group.

    A lower priority would not do: such a thread is not interrupted when one of Glance's wakes up.
    There is no way back without rights that the writer does not have. See SCHED_IDLE in sched(7).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError as error:
        LOG.warning("A thread of the writer cannot give way to Glance: %s", error)
