"""Sequences of dates: gaps kept, the clearest taken, and nothing relaxed in silence."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prithvi.chips import DateRule, date_sequences
from prithvi.errors import ConfigError

START = dt.datetime(2022, 1, 1, tzinfo=dt.UTC)


def days(*offsets: int) -> list[dt.datetime]:
    return [START + dt.timedelta(days=offset) for offset in offsets]


def test_of_the_dates_in_reach_the_clearest_is_taken() -> None:
    times = days(0, 30, 40, 50, 80, 90)
    cloud = [0.0, 0.1, 0.02, 0.1, 0.05, 0.01]
    found = date_sequences(times, cloud, [0.0] * 6, DateRule(frames=3, wanted=0))
    assert found.dates[0] == (0, 2, 5)
    assert found.relaxed == 0
    assert found.sentence() == ""


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 700), min_size=1, max_size=40, unique=True),
    st.integers(0, 2**31),
    st.integers(1, 5),
)
def test_every_sequence_keeps_the_gaps_and_shares_of_the_rule_that_is_reported(
    offsets: list[int], seed: int, frames: int
) -> None:
    import random

    chance = random.Random(seed)
    times = days(*offsets)
    cloud = [chance.random() for _ in offsets]
    missing = [chance.random() * 0.3 for _ in offsets]
    found = date_sequences(times, cloud, missing, DateRule(frames=frames))
    assert len(set(found.dates)) == len(found.dates)
    for dates in found.dates:
        assert len(dates) == frames
        for one, other in pairwise(dates):
            assert found.rule.min_gap <= (times[other].date() - times[one].date()).days <= found.rule.max_gap
        assert all(cloud[index] <= found.rule.max_cloud + 1e-6 for index in dates)
        assert all(missing[index] <= found.rule.max_missing + 1e-6 for index in dates)
    assert (found.relaxed > 0) == (found.sentence() != "")


def test_gaps_are_counted_from_date_to_date_whatever_the_time_of_day() -> None:
    first = dt.datetime(2022, 5, 1, 10, 56, 21, tzinfo=dt.UTC)
    for seconds in (-20, 0, 20):
        times = [first, first + dt.timedelta(days=16, seconds=seconds)]
        for gaps in ((16, 16), (16, 20), (10, 16)):
            rule = DateRule(frames=2, min_gap=gaps[0], max_gap=gaps[1])
            assert date_sequences(times, [0, 0], [0, 0], rule).dates == ((0, 1),)


def test_the_rule_is_relaxed_step_by_step_as_published_and_says_so() -> None:
    """Clouds and missing +0.1, the gap +4 weeks, until there are enough or the sum passes 0.6."""
    times = days(0, 30, 60)
    found = date_sequences(times, [0.3, 0.3, 0.3], [0.0] * 3, DateRule(frames=3, wanted=1))
    assert found.dates == ((0, 1, 2),)
    assert found.relaxed == 2
    assert found.sentence() == (
        "1 sequence after relaxing 2 times: clouds up to 35%, missing up to 25%, gaps up to 140 days"
    )
    hopeless = date_sequences(times, [0.9] * 3, [0.0] * 3, DateRule(frames=3))
    assert (hopeless.dates, hopeless.relaxed) == ((), 0)
    almost = date_sequences(times, [0.4] * 3, [0.0] * 3, DateRule(frames=3))
    assert almost.dates == ((0, 1, 2),)
    assert almost.rule.max_cloud + almost.rule.max_missing == pytest.approx(0.8)
    enough = date_sequences(days(0, 30, 60), [0.0] * 3, [0.0] * 3, DateRule(frames=3))
    assert (enough.dates, enough.relaxed) == (((0, 1, 2),), 0)
    never = date_sequences(times, [0.3] * 3, [0.0] * 3, replace(DateRule(frames=3), wanted=0))
    assert (never.dates, never.relaxed) == ((), 0)


def test_the_order_in_which_dates_come_does_not_matter() -> None:
    times, cloud = days(0, 30, 40, 70, 75), [0.0, 0.1, 0.05, 0.0, 0.0]
    forwards = date_sequences(times, cloud, [0.0] * 5, DateRule(frames=2))
    backwards = date_sequences(times[::-1], cloud[::-1], [0.0] * 5, DateRule(frames=2))
    assert {tuple(times[i] for i in row) for row in forwards.dates} == {
        tuple(times[::-1][i] for i in row) for row in backwards.dates
    }


def test_a_rule_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="that cannot be"):
        DateRule(frames=3, min_gap=50, max_gap=20)


def test_a_short_series_is_not_lost_to_its_clearest_date() -> None:
    """The clearest date is the last one: going there first would leave no third date."""
    found = date_sequences(days(0, 15, 30, 45), [0.0, 0.1, 0.05, 0.0], [0.0] * 4, DateRule(3, 10, 60, wanted=0))
    assert found.dates[0] == (0, 2, 3)
