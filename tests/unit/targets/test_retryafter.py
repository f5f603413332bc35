# SPDX-License-Identifier: Apache-2.0
"""When a server wants to be asked again."""

import datetime
import email.utils

import pytest

from glance_repl_mw.exceptions import TargetRefused, TargetUnavailable
from glance_repl_mw.targets.retryafter import retry_after_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        ("0", 0),
        ("-5", 0),
        ("soon", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2099 07:28:00", 0),
    ],
)
def test_seconds(value, seconds):
    assert retry_after_seconds(value) == seconds


def test_date():
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    assert 3590 < retry_after_seconds(email.utils.format_datetime(then, usegmt=True)) <= 3600


def test_error_of_the_driver_tells_it(web, make_target, put):
    target = make_target()
    web.faults["PUT"] = lambda handler: (handler.body(), handler.answer(503, Retry_After="7"))
    with pytest.raises(TargetUnavailable, match="503") as caught:
        put(target)
    assert caught.value.retry_after_seconds == 7
    web.faults["PUT"] = lambda handler: (handler.body(), handler.answer(403, Retry_After="7"))
    with pytest.raises(TargetRefused, match="403"):
        put(target)
