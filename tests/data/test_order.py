"""The order of a stream is a function of its seed and a position."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prithvi.data.order import Mixture, ShuffledShards
from prithvi.errors import ConfigError


@settings(deadline=None)
@given(
    indices=st.lists(st.integers(0, 500), min_size=1, max_size=80, unique=True),
    per_shard=st.integers(1, 20),
    buffer=st.integers(1, 100),
    seed=st.integers(0, 5),
)
def test_every_pass_has_every_sample_once(indices: list[int], per_shard: int, buffer: int, seed: int) -> None:
    order = ShuffledShards(indices, per_shard, buffer, (seed,))
    for number in range(3):
        some = [order.at(number * len(indices) + place) for place in range(len(indices))]
        assert sorted(some) == sorted(indices)


def test_a_position_can_be_asked_for_in_any_order_and_after_a_journey_to_a_worker() -> None:
    order = ShuffledShards(range(100), 8, 32, (7,))
    straight = [order.at(position) for position in range(300)]
    again = pickle.loads(pickle.dumps(order))
    assert [again.at(position) for position in reversed(range(300))] == straight[::-1]
    assert straight[:100] != straight[100:200]
    assert ShuffledShards(range(100), 8, 32, (8,)).at(0) != straight[0] or straight[:50] != sorted(straight[:50])


def test_samples_that_are_shuffled_together_come_from_few_files() -> None:
    order = ShuffledShards(range(6400), 64, 640, (0,))
    first = [order.at(position) for position in range(640)]
    assert len({index // 64 for index in first}) == 10
    assert first != sorted(first)


@settings(deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 100.0), min_size=1, max_size=6),
    positions=st.lists(st.integers(0, 20_000), min_size=1, max_size=20),
)
def test_a_mixture_counts_as_if_it_had_been_walked(weights: list[float], positions: list[int]) -> None:
    mixture = Mixture(weights, (3,))
    walked, counts = [], [0] * len(weights)
    for position in range(max(positions) + 1):
        source, before = mixture.at(position)
        assert before == counts[source]
        counts[source] += 1
        walked.append((source, before))
    fresh = Mixture(weights, (3,))
    assert [fresh.at(position) for position in positions] == [walked[position] for position in positions]


def test_a_mixture_draws_by_weight() -> None:
    mixture = Mixture([3.0, 1.0, 0.0001], (0,))
    drawn = np.bincount([mixture.at(position)[0] for position in range(4096)], minlength=3) / 4096
    np.testing.assert_allclose(drawn, [0.75, 0.25, 0.0], atol=0.001)
    assert drawn[2] > 0
    with pytest.raises(ConfigError, match="each above 0"):
        Mixture([1.0, 0.0], (0,))


def test_a_mixture_of_many_small_sources_shares_what_they_leave_by_weight() -> None:
    """As `balance` by a column of many values makes them: each gets a position, which weighs more than it should."""
    many = Mixture([3.0, 1.0, *[1e-4] * 3000], (0,))
    drawn = np.bincount([many.at(position)[0] for position in range(4096)], minlength=3002)
    assert (drawn[2:] == 1).all()
    assert abs(drawn[:2] - [822, 274]).max() <= 1  # of the 1,096 that are left
    for small in (1e-5, 1e-3, 0.5, 1.0):
        for count in (1, 7, 500, 4094):
            counts = Mixture([2.0, 1.0, *[small] * count], (0,)).counts
            assert counts.sum() == 4096
            assert counts.min() >= 1
            assert counts[0] >= counts[1] >= counts[2:].max()
    alike = Mixture([1.0] * 500, (0,)).counts  # 8.192 each
    assert (alike.min(), alike.max(), alike.sum()) == (8, 9, 4096)
