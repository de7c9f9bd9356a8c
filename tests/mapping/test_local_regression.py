"""The regression on the dates most like each, on series whose truth can be said."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from prithvi.mapping.local_fits import LocalFit, fit_window, smooth
from prithvi.mapping.local_regression import FEW, TOGETHER, _Window, fill_dates, part_to_hide
from prithvi.mapping.methods import filling

DAYS = np.array([100.0, 110.0, 130.0, 150.0, 160.0, 190.0])


def ground(seed: int = 0, dates: int = 6, side: int = 64, bands: int = 4) -> np.ndarray:
    """(band, date, y, x) reflectance: fields that change with time, each date with an offset, and little noise."""
    random = np.random.default_rng(seed)
    fields = gaussian_filter(random.standard_normal((3, side, side)), (0, 3, 3))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    weights = random.uniform(0.01, 0.04, (bands, dates, 3))
    level = random.uniform(0.1, 0.3, (bands, dates))
    image = np.einsum("btk,kyx->btyx", weights, fields) + level[:, :, None, None]
    return (image + 0.001 * random.standard_normal(image.shape)).astype(np.float32)


def hole(dates: int = 6, side: int = 64, of: int = 2) -> np.ndarray:
    known = np.ones((dates, side, side), bool)
    known[of, 16:48, 20:50] = False
    return known


def test_what_the_other_dates_say_is_found_to_the_noise() -> None:
    image, known = ground(), hole()
    found, error = fill_dates(image, known, DAYS)
    missed = np.abs(found - image)[:, 2][:, ~known[2]]
    assert missed.mean() < 0.002  # the noise of target and others; the mean of the others is off by .06
    stated = error[:, 2][:, ~known[2]]
    assert 0.8 < (missed <= 1.645 * stated).mean() < 0.99


def test_known_pixels_are_the_same_bit_for_bit_and_certain() -> None:
    image, known = ground(), hole()
    found, error = fill_dates(image, known, DAYS)
    np.testing.assert_array_equal(found[:, known], image[:, known])
    assert (error[:, known] == 0).all()
    assert (error[:, ~known] > 0).all()


def test_what_stands_under_a_gap_does_not_matter() -> None:
    image, known = ground(), hole()
    for other in (np.float32(np.nan), np.float32(9)):
        np.testing.assert_array_equal(
            fill_dates(np.where(known, image, other), known, DAYS)[0], fill_dates(image, known, DAYS)[0]
        )


def test_asked_dates_are_those_of_all_dates() -> None:
    image, known = ground(), hole() & hole(of=4)
    every, errors = fill_dates(image, known, DAYS)
    some, of_some = fill_dates(image, known, DAYS, [4, 2])
    np.testing.assert_array_equal(some, every[:, [4, 2]])
    np.testing.assert_array_equal(of_some, errors[:, [4, 2]])


def test_values_in_another_unit_are_filled_alike() -> None:
    image, known = ground(), hole()
    found, error = fill_dates(image, known, DAYS)
    scaled, of_scaled = fill_dates(1e4 * image, known, DAYS)
    np.testing.assert_allclose(scaled / 1e4, found, atol=2e-5)
    np.testing.assert_allclose(of_scaled / 1e4, error, atol=2e-5)


def test_the_dates_that_tell_most_are_chosen_not_those_next_in_time() -> None:
    image, known = ground(), hole()
    random = np.random.default_rng(1)
    image[:, [1, 3]] = random.uniform(0.1, 0.3, image[:, [1, 3]].shape)  # clouds that no mask knows
    known[0, 16:48, 20:50] = False  # and one that knows nothing under the gap
    assert _Window.of(image, known, DAYS).others(2, 2) == [4, 5]
    missed = np.abs(fill_dates(image, known, DAYS, [2], 3)[0][:, 0] - image[:, 2])[:, ~known[2]]
    assert missed.mean() < 0.003


def test_errors_are_larger_where_nothing_like_is_known_and_far_from_what_is() -> None:
    image, known = ground(), hole()
    random = np.random.default_rng(2)
    # Half of the image changes between dates in a way that no other date tells of.
    changed = gaussian_filter(random.standard_normal(image[:, 2].shape), (0, 2, 2)) * 0.2
    half = np.zeros(known[2].shape, bool)
    half[:, 32:] = True
    image[:, :, :, 32:] += 0.2  # which the others show as another kind of land
    image[:, 2] += np.where(half, changed, 0).astype(np.float32)
    found, error = fill_dates(image, known, DAYS)
    gap = ~known[2]
    missed = np.abs(found - image)[:, 2]
    quiet, rough = error[:, 2][:, gap & ~half].mean(), error[:, 2][:, gap & half].mean()
    assert missed[:, gap & half].mean() > 3 * missed[:, gap & ~half].mean()
    assert rough > 2 * quiet
    edge, middle = error[:, 2, 17, 40:46].mean(), error[:, 2, 32, 40:46].mean()
    assert middle > edge


def test_a_date_without_a_known_pixel_is_the_mean_of_those_beside_it_and_its_error_that_of_such_means() -> None:
    image = np.linspace(0.1, 0.3, 6, dtype=np.float32)[None, :, None, None] + np.zeros((2, 6, 20, 20), np.float32)
    known = np.ones((6, 20, 20), bool)
    known[3] = False
    days = np.arange(6.0)
    found, error = fill_dates(image, known, days, [3], 3)
    np.testing.assert_allclose(found, 0.22, atol=1e-5)  # of dates 2 and 4
    assert np.isfinite(error).all()
    assert (error > 0).all()


def test_nothing_is_made_of_nothing() -> None:
    image = ground()
    found, error = fill_dates(image, np.zeros_like(hole()), DAYS)
    assert np.isnan(found).all()
    assert np.isnan(error).all()


def test_one_date_alone_is_filled_by_a_smooth_surface() -> None:
    y, x = np.indices((48, 48), np.float32) / 48
    image = np.stack([0.2 + 0.1 * y, 0.3 - 0.1 * x])[:, None]
    known = np.ones((1, 48, 48), bool)
    known[0, 20:26, 20:26] = False
    found, error = fill_dates(image, known, np.zeros(1))
    np.testing.assert_allclose(found, image, atol=0.004)
    assert (error[:, ~known] > 0).all()


@pytest.mark.parametrize("pixels", [1, 5, 40])
def test_a_handful_of_known_pixels_does_not_set_a_date_alone(pixels: int) -> None:
    image, known = ground(), np.ones((6, 64, 64), bool)
    known[2] = False
    known[2].flat[np.random.default_rng(0).choice(64 * 64, pixels, replace=False)] = True
    found, error = fill_dates(image, known, DAYS, [2])
    assert np.isfinite(found).all()
    assert np.isfinite(error).all()
    others = image[:, [0, 1, 3, 4, 5]]
    assert (found > others.min() - 0.2).all()
    assert (found < others.max() + 0.2).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (33, 17)])
def test_windows_of_any_size(size: tuple[int, int]) -> None:
    random = np.random.default_rng(3)
    image = random.uniform(0.1, 0.3, (3, 4, *size)).astype(np.float32)
    known = random.random((4, *size)) < 0.6
    known[0] = True
    found, _ = fill_dates(image, known, DAYS[:4])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, known], image[:, known])


def test_a_flat_series_is_filled_flat_and_never_said_to_be_certain() -> None:
    image, known = np.full((2, 6, 64, 64), 0.25, np.float32), hole()
    found, error = fill_dates(image, known, DAYS)
    np.testing.assert_allclose(found, 0.25, atol=1e-4)
    assert np.isfinite(error).all()


def test_pixels_are_hidden_under_the_dates_own_gaps_or_in_squares() -> None:
    number = np.arange(64 * 64).reshape(64, 64)
    for known in (hole()[2], number % 50 > 0, number > 3000, number > 4000, number > 20):
        hidden = part_to_hide(known)
        assert not (hidden & ~known).any()
        assert min(FEW, known.sum() // 3) <= hidden.sum() <= 0.6 * known.sum()


def test_fits_find_what_they_are_made_for() -> None:
    random = np.random.default_rng(4)
    features = random.standard_normal((2, 96, 96)).astype(np.float32)
    weight = np.ones((96, 96), np.float32)
    bent = np.abs(features[:1]) + 0.5 * features[1:]
    ((found, spread),) = fit_window(features, bent, [weight])
    assert np.abs(found - bent).mean() < 0.1  # a plane is off by .5
    assert spread.shape == bent.shape
    assert (spread > 0).all()
    slope = np.linspace(-1, 1, 96, dtype=np.float32)[None, None]
    turning = slope * features[:1]
    weight[:, 40:50] = 0
    assert np.abs(LocalFit(features)(turning, weight) - turning).mean() < 0.12  # one fit for all is off by .4
    surface = smooth(slope + np.zeros((1, 96, 1), np.float32), weight)
    assert np.abs(surface - slope)[0, :, 10:86].max() < 0.2
    assert (smooth(np.ones((1, 96, 96), np.float32), np.zeros((96, 96), np.float32)) == 0).all()


def test_it_costs_a_fraction_of_filling() -> None:
    image, known = ground(side=128), hole(side=128) & hole(side=128, of=4)

    def seconds(fill) -> float:  # type: ignore[no-untyped-def]
        began = time.process_time()
        fill()
        return time.process_time() - began

    # Per date: filling fills both gaps of three dates by a call; this one both of six.
    three = [1, 2, 4]
    old = min(seconds(lambda: filling(image[:, three], known[three], DAYS[three])) for _ in range(2))
    new = min(seconds(lambda: fill_dates(image, known, DAYS, [2, 4], TOGETHER, False)) for _ in range(2))
    assert new < old / 2
