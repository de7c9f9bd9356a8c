"""Filters and holes: the published thresholds, exactly; and no number is ever invented out of NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prithvi.chips import Filters
from prithvi.chips.filters import fill_holes, shares
from prithvi.chips.spec import to_int16
from prithvi.errors import ConfigError, ScaleError


def test_shares_are_counted_in_each_window_and_by_the_worst_band() -> None:
    bands = np.full((6, 10, 35), 500, np.int16)
    fmask = np.zeros((10, 35), np.uint8)
    fmask[:, :5] = 0b10  # cloud
    fmask[:, 10:12] = 0b1000  # shadow
    fmask[:, 12:20] = 0b110100  # adjacent, snow, water: good
    fmask[0, 20:30] = 255
    bands[3, :2, 10:20] = -9999
    bands[0, 0, 20] = -9999
    good, missing = shares(bands, fmask, (10, 10), Filters())
    np.testing.assert_allclose(good, [0.5, 0.8, 0.9])
    np.testing.assert_allclose(missing, [0, 0.2, 0.01])


def test_a_hole_takes_its_nearest_neighbour_in_its_own_band_and_date() -> None:
    image = np.arange(2 * 2 * 4 * 5, dtype=np.int16).reshape(2, 2, 4, 5)
    original = image.copy()
    image[1, 0, 0, 0] = -9999
    image[1, 0, 1, 0] = -9999
    filled, where = fill_holes(image)
    assert filled[1, 0, 0, 0] == original[1, 0, 0, 1]
    assert filled[1, 0, 1, 0] in (original[1, 0, 1, 1], original[1, 0, 2, 0])
    changed = filled != original
    assert set(zip(*map(list, np.nonzero(changed)), strict=True)) <= {(1, 0, 0, 0), (1, 0, 1, 0)}
    assert where.sum() == 2
    assert where[1, :2, 0].all()
    with pytest.raises(ScaleError, match="band 1 of date 0 has no pixel at all"):
        fill_holes(np.where(np.arange(2)[None, :, None, None] == 1, np.int16(-9999), original))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.9))
def test_filling_changes_holes_only_and_invents_no_value(seed: int, share: float) -> None:
    chance = np.random.default_rng(seed)
    image = chance.integers(-200, 12_000, (2, 3, 9, 7)).astype(np.int16)
    holes = chance.random(image.shape) < share
    holes[:, :, 4, 3] = False
    image[holes] = -9999
    filled, where = fill_holes(image)
    assert (filled != -9999).all()
    np.testing.assert_array_equal(filled[~holes], image[~holes])
    np.testing.assert_array_equal(where, holes.any(axis=1))
    for time, band in np.ndindex(2, 3):
        assert set(filled[time, band].ravel()) <= set(image[time, band][~holes[time, band]])


@pytest.mark.filterwarnings("error")
def test_nan_and_nodata_become_nodata_and_never_a_number() -> None:
    """The published preparation threw the filled array away and cast NaN to int16, which gives any value."""
    values = np.array([0.01, np.nan, np.inf, -9999.0, 0.12345, -0.02], np.float32)
    np.testing.assert_array_equal(to_int16(values, 1.0, [-9999]), [100, -9999, -9999, -9999, 1234, -200])
    whole = np.array([5, -1000, -9999, 12_000], np.int16)
    np.testing.assert_array_equal(to_int16(whole, 1e-4, [-1000, -9999]), [5, -9999, -9999, 12_000])


def test_landsat_collection_2_is_brought_to_the_stores_scale() -> None:
    """DN x 0.0000275 - 0.2; 0 is fill."""
    stored = np.array([0, 7273, 10_910, 20_000], np.uint16)
    assert to_int16(stored, 2.75e-5, [0], bias=-0.2).tolist() == [-9999, 0, 1000, 3500]


def test_a_true_value_that_looks_like_nodata_is_kept_apart() -> None:
    assert to_int16(np.array([-0.9999]), 1.0, []).tolist() == [-9998]


def test_values_that_do_not_fit_say_so() -> None:
    with pytest.raises(ScaleError, match=r"values from 40000 to 40000 .* do not fit into 16 bits"):
        to_int16(np.array([4.0], np.float32), 1.0, [])
    with pytest.raises(ConfigError, match="both are shares"):
        Filters(good=80)


def test_the_true_granule_keeps_only_windows_that_are_filled(shared: Path) -> None:
    """HLS v1.5 L30 T10SFE: a swath corner of 47,208 pixels in 3,660 x 3,660; fill is -1000 and 255."""
    SD = pytest.importorskip("pyhdf.SD", reason="needs pyhdf: pip install 'prithvi[hdf4]'").SD
    granule = SD(str(shared / "hls_v15_hdf" / "HLS.L30.T10SFE.2019253.v1.5.hdf"))
    names = ("band02", "band03", "band04", "band05", "band06", "band07")
    bands = to_int16(np.stack([granule.select(name)[:] for name in names]), 1e-4, [-1000])
    fmask = granule.select("Fmask")[:].astype(np.uint8)
    rule = Filters()
    kept = 0
    for row in range(0, 3660 - 64 + 1, 64):
        good, missing = shares(bands[:, row : row + 64], fmask[row : row + 64], (64, 64), rule)
        for column in np.flatnonzero((good >= rule.good) & (missing <= rule.missing)):
            window = bands[:, row : row + 64, column * 64 : column * 64 + 64]
            # Counted anew, without the code under test.
            assert ((window == -9999).sum(axis=(1, 2)) <= 0.01 * 64 * 64).all()
            assert (fmask[row : row + 64, column * 64 : column * 64 + 64] == 255).sum() <= 0.2 * 64 * 64
            kept += 1
    filled = fmask.reshape(3660, 3660)[: 57 * 64, : 57 * 64].reshape(57, 64, 57, 64)
    whole = ((filled != 255).mean(axis=(1, 3)) == 1).sum()
    assert kept >= whole > 0
    assert kept < 47_208 / 64**2 + 1
