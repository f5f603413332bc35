# SPDX-License-Identifier: Apache-2.0
"""The spool tells once what has come, and again what comes."""

import pytest

from glance_repl_mw.spool import news
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.news import News


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(news.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def spool(tmp_path):
    return Spool(str(tmp_path))


def test_news_come_once_what_came_at_the_same_moment_was_seen(spool, clock):
    news = News(spool)
    assert news.have_come()
    clock[0] += 0.01
    assert not news.is_over
    assert news.have_come()
    clock[0] += 0.1
    assert news.is_over
    assert not news.have_come()


def test_file_that_comes_is_news(spool, clock, monkeypatch):
    news = News(spool)
    news.have_come()
    clock[0] += 1
    monkeypatch.setattr(spool, "stamp", lambda: 1)
    assert news.have_come()
    clock[0] += 1
    assert not news.have_come()


def test_expected_news_have_come(spool, clock):
    news = News(spool)
    news.have_come()
    clock[0] += 1
    assert not news.have_come()
    news.expect()
    assert news.have_come()
