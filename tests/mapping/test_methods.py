"""Methods without a model, on series whose truth can be said."""

from __future__ import annotations

import numpy as np
import pytest

from prithvi.coords import year_and_day
from prithvi.mapping.methods import GAP_METHODS, days_of, linear_in_time, nearest_date, regression

DAYS = np.array([100.0, 110.0, 130.0])


def series(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(6, 3, 20, 24) reflectance that changes evenly with time, and known pixels: a hole in the middle date."""
    random = np.random.default_rng(seed)
    ground, change = random.uniform(0.05, 0.3, (2, 6, 1, 20, 24))
    image = ground + (DAYS[:, None, None] - 100) / 100 * change
    known = np.ones((3, 20, 24), bool)
    known[1, 5:15, 6:20] = False
    return image, known


@pytest.mark.parametrize("name", GAP_METHODS)
def test_known_pixels_stay_and_what_stands_under_a_gap_does_not_matter(name: str) -> None:
    image, known = series()
    found = GAP_METHODS[name](image, known, DAYS)
    np.testing.assert_array_equal(found[:, known], image[:, known])
    assert np.isfinite(found).all()
    other = np.where(known, image, 9.0)
    np.testing.assert_allclose(GAP_METHODS[name](other, known, DAYS), found, atol=1e-6)


def test_the_nearest_date_that_knows_a_pixel_is_taken() -> None:
    image, known = series()
    known[0, 7, 7] = False
    found = nearest_date(image, known, DAYS)
    np.testing.assert_array_equal(found[:, 1, 6, 6], image[:, 0, 6, 6])
    np.testing.assert_array_equal(found[:, 1, 7, 7], image[:, 2, 7, 7])
    np.testing.assert_array_equal(found[:, 0, 7, 7], image[:, 2, 7, 7])


def test_what_changes_evenly_is_found_by_a_line_in_any_order_of_dates() -> None:
    image, known = series()
    np.testing.assert_allclose(linear_in_time(image, known, DAYS), image, atol=1e-12)
    order = [2, 0, 1]
    np.testing.assert_allclose(linear_in_time(image[:, order], known[order], DAYS[order]), image[:, order], atol=1e-12)
    known[2, 8, 8] = False  # one side alone
    np.testing.assert_allclose(linear_in_time(image, known, DAYS)[:, 1, 8, 8], image[:, 0, 8, 8])
    known[:, 9, 9] = False
    assert np.isnan(linear_in_time(image, known, DAYS)[:, :, 9, 9]).all()


def test_a_mixture_of_the_neighbours_bands_is_found_by_regression() -> None:
    image, known = series()
    image[:, 1] = image[::-1, 0] * 0.5 + image[:, 2] * 0.3 + 0.02
    found = regression(image, known, DAYS, ridge=1e-9)
    np.testing.assert_allclose(found[:, 1], image[:, 1], atol=1e-6)


@pytest.mark.parametrize("name", GAP_METHODS)
def test_a_series_without_any_known_pixel_gives_nothing(name: str) -> None:
    image, known = series()
    assert not np.isfinite(GAP_METHODS[name](image, np.zeros_like(known), DAYS)).any()


def test_what_another_date_of_the_same_day_saw_counts_before_all_other_days() -> None:
    """As of two granules of a day, in either order; of the one of them nothing is known."""
    image, known = series()
    known[1] = False
    for place in (1, 2):
        both, seen = np.insert(image, place, image[:, 1], axis=1), np.insert(known, place, True, axis=0)
        days = np.insert(DAYS, place, DAYS[1])
        empty = 3 - place
        assert not seen[empty].any()
        for name, limit in (("nearest", 0.0), ("linear", 1e-7), ("local_regression", 0.002)):
            off = np.abs(GAP_METHODS[name](both, seen, days)[:, empty] - image[:, 1])
            assert off.mean() <= limit, name
        assert np.abs(GAP_METHODS["nearest"](image, known, DAYS)[:, 1] - image[:, 1]).mean() > 0.01


@pytest.mark.parametrize("year", [2020, 2021, 2023])
def test_days_are_counted_over_the_turn_of_a_year(year: int) -> None:
    """The middle of three dates two days apart lies halfway, whether the year before is a leap year or not."""
    dates = np.array([f"{year}-12-30", f"{year + 1}-01-01", f"{year + 1}-01-03"], "datetime64[D]")
    days = days_of(year_and_day(dates))
    np.testing.assert_array_equal(np.diff(days), [2, 2])
    image, known = np.full((1, 3, 2, 2), 0.1), np.ones((3, 2, 2), bool)
    image[:, 2], known[1] = 0.2, False
    np.testing.assert_allclose(linear_in_time(image, known, days)[:, 1], 0.15)
    assert days_of(np.array([[2022, 3], [np.nan, np.nan]])).tolist() == [0, 1]
