"""Lines between two sensors: found under haze and change, kept only where they help, sane where little is known."""

from __future__ import annotations

from collections.abc import Sequence

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from prithvi.mapping.sensor_gains import LEAST_PIXELS, STRIP, STRIPS, Line, SensorGains, fit_gains

BANDS = ("blue", "nir_narrow")
SLOPE, OFFSET = np.array([1.1, 0.92]), np.array([-60.0, 150.0])
"""From l30 to s30, of both bands."""


def made(
    days: Sequence[int], sensors: Sequence[str], side: int = 64, noise: float = 30.0, date_noise: float = 0.0,
    slope: np.ndarray = SLOPE, offset: np.ndarray = OFFSET,
) -> xr.DataArray:  # fmt: skip
    """Dates of one ground as each sensor sees it; a date is off by some chance as a whole, and each pixel by some."""
    random = np.random.default_rng(1)
    ground = random.uniform(300, 3500, (2, side, side))
    values = np.stack([ground if sensor == "l30" else slope[:, None, None] * ground + offset[:, None, None]
                       for sensor in sensors])  # fmt: skip
    values += random.normal(0, noise, values.shape) + random.normal(0, date_noise, (len(days), 2, 1, 1))
    times = np.datetime64("2022-05-01", "ns") + np.array(days) * np.timedelta64(1, "D")
    return xr.DataArray(values.astype(np.float32), dims=("time", "band", "y", "x"), coords={"time": times})


DAYS, SENSORS = (0, 1, 8, 10, 16, 16, 24, 27, 33, 33), ("l30", "s30") * 5
"""Five pairs of dates."""


def test_the_line_is_found_under_changed_ground_and_unseen_haze() -> None:
    series = made(DAYS, SENSORS)
    series[5, :, :, :16] += 900  # a quarter of a pair was harvested between its dates
    series[2] += 400  # and one date of five pairs is hazy as a whole
    series[7, :, 20:40] = np.nan
    gains = fit_gains(series, SENSORS, BANDS)
    for line, slope, offset in zip(gains.lines["l30", "s30"], SLOPE, OFFSET, strict=True):
        for value in (600.0, 1900.0, 3200.0):
            assert abs(line(np.array([value]))[0] - (slope * value + offset)) < 25
    (note,) = gains.notes
    assert "l30 is brought to s30" in note
    assert "5 pairs of dates up to 3 days apart: blue x 1." in note


def test_the_line_back_is_the_line_there_read_the_other_way() -> None:
    series = made(DAYS, SENSORS)
    gains = fit_gains(series, SENSORS, BANDS)
    assert fit_gains(series[::-1], SENSORS[::-1], BANDS).lines.keys() == gains.lines.keys()
    inside = np.clip(series.values[0], 600, 3000)
    there = gains.brought(inside, "l30", "s30")
    assert np.abs(there - inside).max() > 100
    np.testing.assert_allclose(gains.brought(there, "s30", "l30"), inside, atol=0.1)
    assert gains.brought(inside, "s30", "s30") is inside
    assert gains.brought(inside, "l30", "planet") is inside


def test_beyond_the_values_it_was_fitted_on_a_correction_stays_what_it_is_there() -> None:
    gains = fit_gains(made(DAYS, SENSORS), SENSORS, BANDS)
    for line in gains.lines["l30", "s30"]:
        far, end = line(np.array([9000.0, np.nan])), line(np.array([line.high]))
        assert far[0] - 9000 == pytest.approx(end[0] - line.high)
        assert np.isnan(far[1])
        assert 3000 < line.high < 4000
    assert Line()(np.float32([5, -9])).tolist() == [5, -9]


def test_where_only_dates_differ_the_values_stay_as_they_are() -> None:
    """Every date has its own haze, and the sensors have nothing of their own."""
    same = {"slope": np.ones(2), "offset": np.zeros(2)}
    gains = fit_gains(made(DAYS, SENSORS, date_noise=200, **same), SENSORS, BANDS)
    assert gains.lines["l30", "s30"] == (Line(), Line())
    assert gains.notes[0].endswith("blue as it is, nir_narrow as it is.")


def test_what_no_sensors_differ_by_is_no_gain() -> None:
    """Twice as bright in one band: files of other scales, and no gain of a sensor."""
    odd = {"slope": np.array([2.0, 1.05]), "offset": np.zeros(2)}
    blue, infrared = fit_gains(made(DAYS, SENSORS, **odd), SENSORS, BANDS).lines["l30", "s30"]
    assert blue.slope == 1
    assert infrared.slope == pytest.approx(1.05, abs=0.01)


@pytest.mark.parametrize("case", ["one pair", "far apart", "few pixels"])
def test_too_little_clear_overlap_is_no_correction_and_a_note(case: str) -> None:
    days, sensors, told = DAYS, SENSORS, "no pair of dates is"
    if case == "one pair":
        days, sensors, told = (0, 1, 2, 9), ("l30", "s30", "s30", "l30"), "1 pair of dates alone is"
    if case == "far apart":
        days = tuple(10 * number for number in range(10))
    series = made(days, sensors)
    if case == "few pixels":
        series[:, :, 4:] = np.nan
        assert np.isfinite(series[0, 0].values).sum() < LEAST_PIXELS
    gains = fit_gains(series, sensors, BANDS)
    assert gains.lines == {}
    assert gains.notes[0].startswith(f"l30 and s30 are taken as they are, without gains: {told} up to 3 days apart")
    assert gains.brought(series.values[0], "l30", "s30") is not None
    np.testing.assert_array_equal(gains.brought(series.values[0], "l30", "s30"), series.values[0])


def test_of_three_sensors_each_two_have_their_own_lines() -> None:
    days, sensors = (0, 0, 1, 9, 9, 10, 18, 19, 19), ("l30", "s30", "planet") * 3
    gains = fit_gains(made(days, sensors), sensors, BANDS)
    assert len(gains.notes) == 3
    assert set(gains.lines) == {(a, b) for a in set(sensors) for b in set(sensors) if a != b}
    assert gains.lines["planet", "s30"] == (Line(), Line())  # which are the same here
    assert gains.lines["l30", "planet"][0].slope == pytest.approx(1.1, abs=0.01)


def test_a_tall_lazy_series_is_read_in_strips() -> None:
    blocks = []

    def block(info: object = None, block_info: dict | None = None) -> np.ndarray:  # type: ignore[type-arg]
        assert block_info is not None
        where = block_info[None]["array-location"]
        blocks.append((where[0][0], where[2][0]))
        rows = np.arange(where[2][0], where[2][1], dtype=np.float32)[:, None]
        values = np.broadcast_to(500 + rows + np.arange(200), (1, 2, len(rows), 200))
        return (values * (1.1 if where[0][0] % 2 else 1.0)).astype(np.float32)

    chunks = ((1,) * 10, (2,), (STRIP,) * 80, (200,))
    data = da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.empty((0,) * 4, np.float32))
    series = made(DAYS, SENSORS, side=4).isel(y=0, x=0)
    lazy = xr.DataArray(data, dims=("time", "band", "y", "x"), coords={"time": series["time"]})
    gains = fit_gains(lazy, SENSORS, BANDS)
    assert gains.lines["l30", "s30"][0].slope == pytest.approx(1.1, abs=1e-3)
    assert len(set(blocks)) <= 10 * STRIPS * 2  # of 800
    assert len(blocks) == len(set(blocks))
    assert {row for _, row in blocks} >= {0, 79 * STRIP}


def test_without_lines_there_are_no_facts() -> None:
    assert SensorGains(BANDS).facts() == {}
    facts = fit_gains(made(DAYS, SENSORS), SENSORS, BANDS).facts()
    assert facts["l30 to s30"]["blue"][0] == pytest.approx(1.1, abs=0.01)
