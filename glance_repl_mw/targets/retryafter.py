"""What a server says about when to come back."""

from __future__ import annotations

import datetime
import email.utils


def retry_after_seconds(value: str | None) -> float:
    """The seconds that a Retry-After header asks for, 0 where it asks for nothing.

    :param value: a number of seconds or a date, as HTTP has them; None where there is none
    """
    if value is None:
        return 0.0
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        return 0.0
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())
