# SPDX-License-Identifier: Apache-2.0
"""What a server says about when to come back."""

from __future__ import annotations

import datetime
import email.utils

# Who asks for more is asked again all the same: a server that is wrong must not be lost for good.
MOST_SECONDS = 24 * 3600.0
_MOST_CHARACTERS = 64
# What email.utils and datetime raise for odd dates.
_NO_DATE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def retry_after_seconds(value: str | None) -> float:
    """The seconds that a Retry-After header asks for, 0 where it asks for nothing; at most a day.

    :param value: a number of seconds or a date, as HTTP has them; None where there is none
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        digits = value.lstrip("0")
        return min(MOST_SECONDS, float(digits[:_MOST_CHARACTERS] or 0))
    if not value or len(value) > _MOST_CHARACTERS:
        return 0.0
    try:
        moment = email.utils.parsedate_to_datetime(value)
        if moment.tzinfo is None:
            return 0.0
        seconds = (moment - datetime.datetime.now(datetime.UTC)).total_seconds()
    except _NO_DATE:
        return 0.0
    return min(MOST_SECONDS, max(0.0, seconds))
