# SPDX-License-Identifier: Apache-2.0
"""A wrong clock for one process: ahead by the seconds in the file that LAB_CLOCK names.

Python imports this module at its start from a directory in PYTHONPATH, so that the process itself
needs no change. All decisions of the writer about times of day rest on `timeutils.utcnow`.
"""

import datetime
import os
from pathlib import Path

from oslo_utils import timeutils

_CLOCK = Path(os.environ["LAB_CLOCK"])
_true_time = timeutils.utcnow


def _wrong_time(with_timezone: bool = False) -> datetime.datetime:
    ahead = datetime.timedelta(seconds=float(_CLOCK.read_text() or "0"))
    return _true_time(with_timezone) + ahead


timeutils.utcnow = _wrong_time
