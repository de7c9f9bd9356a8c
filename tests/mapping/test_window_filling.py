"""Which dates fill which: each once, among those next to it that know something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from prithvi.errors import ConfigError
from prithvi.mapping import fill
from prithvi.mapping.fillers import ENOUGH, neighbours
from prithvi.mapping.window_filling import AT_ONCE, REACH, _KeptRows, turns


@given(st.permutations(range(20)), st.integers(1, 20), st.integers(2, 25))
def test_every_date_is_filled_once_with_the_dates_around_it_at_hand(
    order: list[int], number: int, together: int
) -> None:
    order = [place for place in order if place < number]
    filled = []
    for turn in turns(order, together):
        read = list(turn.dates_read)
        first = order.index(read[0])
        assert order[first : first + len(read)] == read  # in the order of time, none left out
        assert len(read) >= min(together, number)
        filled += [read[place] for place in turn.dates_filled]
    assert sorted(filled) == list(range(number))


@given(st.lists(st.sampled_from("ls"), min_size=2, max_size=60), st.integers(2, 12))
def test_of_two_sensors_a_date_sees_as_many_of_its_own_as_it_would_alone(sensors: list[str], together: int) -> None:
    order = range(len(sensors))
    seen: dict[int, set[int]] = {}
    for turn in turns(order, together, sensors=sensors):
        assert list(turn.dates_read) == sorted(turn.dates_read)
        assert len(turn.dates_read) <= 4 * max(REACH, together) + 2 * AT_ONCE
        for date, near in zip(turn.dates_filled, turn.near, strict=True):
            seen[turn.dates_read[date]] = {turn.dates_read[other] for other in near}
    plain = {
        turn.dates_read[date]: {turn.dates_read[other] for other in near}
        for turn in turns(order, together)
        for date, near in zip(turn.dates_filled, turn.near, strict=True)
    }
    assert sorted(seen) == list(order)
    for date, near in seen.items():
        assert near >= plain[date]
        own = [other for other in order if sensors[other] == sensors[date]]
        place = own.index(date)
        assert near >= set(own[max(0, place - max(REACH, together)) : place + max(REACH, together) + 1])


def test_one_date_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one other"):
        turns(range(4), 1)


def known(*shares: float) -> np.ndarray:
    found = np.zeros((len(shares), 10, 10), bool)
    for date, share in zip(found, shares, strict=True):
        date.flat[: round(share * 100)] = True
    return found


@pytest.mark.parametrize(
    ("shares", "date", "together", "expected"),
    [
        ((1, 1, 1), 0, 3, [0, 1, 2]),
        ((1, 1, 1, 1, 1), 0, 3, [0, 1, 2]),
        ((1, 1, 1, 1, 1), 2, 3, [1, 2, 3]),
        ((1, 1, 1, 1, 1), 4, 3, [2, 3, 4]),
        ((1, 1, 1, 1, 1), 3, 2, [2, 3]),
        ((1, 0, 0, 0, 1), 2, 3, [0, 2, 4]),  # what knows nothing here is passed over
        ((1, 0, 0, 0, 1), 0, 3, [0, 1, 4]),  # and still they are three
        ((1, 0.02, 0, 1, 1), 2, 3, [0, 2, 3]),  # or next to nothing
        ((0.02, 0, 0, 0.01, 0), 1, 3, [0, 1, 3]),  # unless there is no other
        ((0, 0, 0, 0), 1, 3, [0, 1, 2]),
    ],
)
def test_neighbours_are_those_next_in_time_that_know_something(
    shares: tuple[float, ...], date: int, together: int, expected: list[int]
) -> None:
    assert ENOUGH == 0.05
    assert neighbours(known(*shares), date, together) == expected


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.data())
def test_they_are_always_as_many_and_the_date_is_one_of_them(shares: list[float], data: st.DataObject) -> None:
    date, together = data.draw(st.integers(0, len(shares) - 1)), data.draw(st.integers(2, 9))
    found = neighbours(known(*shares), date, together)
    assert date in found
    assert found == sorted(set(found))
    assert len(found) == min(together, len(shares))


def test_rows_that_are_read_while_others_are_taken_are_kept() -> None:
    """The thread that reads may be anywhere in its work when finished rows are taken."""
    every = np.arange(2 * 1 * 48 * 3, dtype=np.float32).reshape(2, 1, 48, 3)

    class Slow(np.ndarray):
        """Copying takes so long that the other thread takes rows meanwhile."""

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            copied = np.asarray(self)[key]
            np.testing.assert_array_equal(kept.take(0, 16), every[[1], :, :16])
            return copied

    def read(first: int, last: int) -> np.ndarray:
        part = every[:, :, first:last]
        return part.view(Slow) if first else part

    kept = _KeptRows(read, [1])
    kept(0, 16)
    kept(16, 32)
    kept(32, 48)
    np.testing.assert_array_equal(kept.take(8, 40), every[[1], :, 8:40])
    np.testing.assert_array_equal(kept.take(40, 48), every[[1], :, 40:])


@pytest.mark.filterwarnings("ignore:the scene does not state its scale")
def test_windows_filled_at_once_are_the_same_to_the_bit_and_blas_has_its_threads_again() -> None:
    random, side = np.random.default_rng(0), 70
    ground = np.abs(random.normal(0, 300, (1, 6, side, side))) + 100 * np.arange(1, 7)[:, None, None]
    image = (ground * random.uniform(0.8, 1.2, (4, 1, 1, 1)) + random.normal(0, 9, (4, 6, side, side))).astype("f4")
    for date in range(4):
        image[date, :, 9 * date : 9 * date + 30, 20:50] = np.nan
    series = xr.DataArray(image, dims=("time", "band", "y", "x"))
    threads, blas = torch.get_num_threads(), threadpool_info()
    found = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(fill(series, window=32, stride=24))
    finally:
        torch.set_num_threads(threads)
    xr.testing.assert_identical(*found)
    assert np.isfinite(found[0]["image"]).all()
    assert threadpool_info() == blas
