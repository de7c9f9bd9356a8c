"""Some dates of a series alone, and days on which nothing was observed: filled from all that was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import ConfigError, ModelError, SceneError
from prithvi.mapping import fill_series
from tests.conftest import Answer

Cli = Callable[..., Answer]
REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = 40


def made(days: list[int], seed: int = 0, clouds: float = 0.3) -> xr.DataArray:
    """Dates so many days after 2022-05-01, whose values rise by 10 a day everywhere, with square clouds."""
    random = np.random.default_rng(seed)
    ground = random.integers(500, 2000, (6, SIZE, SIZE))
    values = np.stack([ground + 10 * day for day in days]).astype(np.float32)
    cloud = np.kron(random.random((len(days), 5, 5)) < clouds, np.ones((8, 8))).astype(bool)
    times = np.datetime64("2022-05-01", "ns") + np.array(days) * np.timedelta64(1, "D")
    array = xr.DataArray(
        np.where(cloud[:, None], np.nan, values).astype(np.float32), dims=("time", "band", "y", "x"),
        coords={
            "time": times, "band": list(PRITHVI_BANDS), "x": 600_015 + 30.0 * np.arange(SIZE),
            "y": 4_199_985 - 30.0 * np.arange(SIZE),
        },
        attrs={"gain": 1e-4, "bias": 0.0, "source": "made here"},
    )  # fmt: skip
    written: xr.DataArray = array.rio.write_crs("EPSG:32630")
    return written


def ground(series: xr.DataArray) -> np.ndarray:
    """(band, y, x) values of day 0 where some date knows them."""
    days = (series["time"].values - np.datetime64("2022-05-01")) / np.timedelta64(1, "D")
    found: np.ndarray = np.nanmean(series.values - 10 * days[:, None, None, None], axis=0)
    return found


def days(result: xr.Dataset) -> list[str]:
    return [str(day) for day in result["time"].values.astype("datetime64[D]")]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear", "regression"])
@pytest.mark.parametrize("lazy", [False, True])
def test_asked_dates_alone_are_as_in_the_whole_series(method: str, lazy: bool) -> None:
    """Of 24 dates, which are six passes; together, far apart, and out of order."""
    series = made([3 * step for step in range(24)])
    whole = prithvi.fill(series, method, window=16)
    for only in (
        ["2022-05-04"],
        ["2022-07-09", "2022-05-01", "2022-05-31"],
        ["2022-05-13", "2022-05-16", "2022-05-19"],
    ):
        found = prithvi.fill(series.chunk(y=16) if lazy else series, method, window=16, only=only)
        assert dask.is_dask_collection(found["image"]) == lazy
        assert days(found) == sorted(only)
        expected = whole.sel(time=found["time"])
        for name in ("image", "filled", "uncertainty"):
            np.testing.assert_array_equal(found[name].values, expected[name].values)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_day_without_observation_lies_on_the_line_between_its_neighbours(lazy: bool) -> None:
    series = made([0, 10, 20, 40], clouds=0.0)
    given = series.chunk(y=20) if lazy else series
    found = prithvi.fill(given, "linear", on=["2022-05-26", "2022-05-11", "2022-05-02"])
    assert dask.is_dask_collection(found["image"]) == lazy
    assert days(found) == ["2022-05-02", "2022-05-11", "2022-05-26"]
    assert found["filled"].values.all(axis=(1, 2)).tolist() == [True, False, True]
    assert not found["filled"].values[1].any()
    np.testing.assert_array_equal(found["image"].values[1], series.values[1])
    for place, day in ((0, 1), (2, 25)):
        np.testing.assert_allclose(found["image"].values[place], ground(series) + 10 * day, rtol=1e-5)
    assert (found["uncertainty"].values[[0, 2]] > 0).all()
    assert (found["uncertainty"].values[1] == 0).all()
    assert found["image"].attrs == prithvi.fill(series, "linear")["image"].attrs
    assert found["image"].dims == series.dims


@pytest.mark.slow
def test_a_long_run_of_days_without_observation_is_filled_and_changes_no_other() -> None:
    """Far more in a row than the reach in which neighbours are looked for."""
    series = made([0, 3, 40, 43], clouds=0.2)
    found = prithvi.fill(series, "linear", every="1d", window=24)
    assert len(days(found)) == 44
    somewhere = np.isfinite(series.values).any(axis=(0, 1))
    # On the line between the dates before and after that know a pixel, which is straight here, or as the only one.
    both = np.isfinite(series.values[:2, 0]).any(axis=0) & np.isfinite(series.values[2:, 0]).any(axis=0)
    assert both.mean() > 0.8
    for day in (4, 20, 39):
        assert np.isfinite(found["image"].values[day][:, somewhere]).all()
        np.testing.assert_allclose(found["image"].values[day][:, both], (ground(series) + 10 * day)[:, both], rtol=1e-5)
    alone = prithvi.fill(series, "linear", window=24)
    for name in ("image", "filled", "uncertainty"):
        np.testing.assert_array_equal(found[name].sel(time=series["time"]).values, alone[name].values)


def test_regular_days_begin_with_the_first_or_where_they_are_told() -> None:
    series = made([0, 10, 40])
    assert days(prithvi.fill(series, "linear", every="16d")) == ["2022-05-01", "2022-05-17", "2022-06-02"]
    assert days(prithvi.fill(series, "linear", every=20)) == ["2022-05-01", "2022-05-21", "2022-06-10"]
    assert days(prithvi.fill(series, "linear", every="16 d", start="2022-05-11")) == ["2022-05-11", "2022-05-27"]
    both = prithvi.fill(series, "linear", every=30, only="2022-05-11", on=["2022-05-12"])
    assert days(both) == ["2022-05-01", "2022-05-11", "2022-05-12", "2022-05-31"]


def test_two_times_of_one_day_are_asked_for_together_or_by_their_time(tmp_path: Path) -> None:
    """As of an L30 and an S30 granule of HLS."""
    series = made([0, 10, 10, 20])
    times = series["time"].values + np.array([0, 10, 11, 0]) * np.timedelta64(1, "h")
    series = series.assign_coords(time=times)
    assert prithvi.fill(series, "linear", on="2022-05-11")["time"].values.tolist() == times[1:3].tolist()
    assert prithvi.fill(series, "linear", only="2022-05-11T11:00")["time"].values.tolist() == times[2:3].tolist()
    fill_series(series, tmp_path, "linear", only="2022-05-11T11:00", uncertainty=False)
    assert sorted(path.name for path in tmp_path.glob("*")) == [
        "2022-05-11T110000.tif", "2022-05-11T110000_filled.tif",
    ]  # fmt: skip


def test_other_coordinates_of_time_stay_where_they_are_known() -> None:
    series = made([0, 10, 20]).assign_coords(cloud_cover=("time", [1, 2, 3]))
    assert prithvi.fill(series, "linear", only=["2022-05-11"])["cloud_cover"].values.tolist() == [2]
    assert "cloud_cover" not in prithvi.fill(series, "linear", on=["2022-05-12"]).coords


REFUSED: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    (
        {"only": ["2022-05-12"]},
        r"2022-05-12 is asked for \(only=, --only\) and is no date of the series; nearest are 2022-05-11 and "
        r"2022-05-21: ask for one of these, or by on= \(--on\)",
        {"on": ["2022-05-12"]},
    ),
    (
        {"on": ["2022-06-01"]},
        "2022-06-01 lies outside of the series, which goes from 2022-05-01 to 2022-05-21: ask for days between these",
        {"on": ["2022-05-20"]},
    ),
    ({"on": ["2022-05-12", "20220512"]}, r"2022-05-12 is asked for twice \(on=, --on\): leave one", {"on": "20220512"}),
    ({"only": ["2022-05-11"] * 2}, r"2022-05-11 is asked for twice \(only=, --only\)", {"only": "2022-05-11"}),
    ({"only": []}, r"only= \(--only\) names no date: leave it out, or name one", {}),
    ({"on": ["2022-W20-4"]}, "the date '2022-W20-4' is not understood: write 2022-05-19", {"on": ["2022-05-19"]}),
    ({"start": "2022-05-03"}, r"the first day of every \(--every\), which", {"start": "2022-05-03", "every": 9}),
    ({"every": "fortnight"}, r"a number of days from 1, such as 16d, and not 'fortnight'", {"every": "16d"}),
    ({"every": 0}, "a number of days from 1", {"every": 1}),
    ({"every": "8d", "start": "2022-04-01"}, "2022-04-01 lies outside of the series", {"every": "8d"}),
    ({"every": "8d", "start": "2022-06-01"}, "2022-06-01 lies outside of the series", {"every": "8d"}),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "told", "remedy"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_asked_for_is_refused_and_the_remedy_helps(
    asked: dict[str, Any], told: str, remedy: dict[str, Any], tmp_path: Path
) -> None:
    series = made([0, 10, 20])
    with pytest.raises((SceneError, ConfigError), match=told):
        prithvi.fill(series, "linear", **asked)
    with pytest.raises((SceneError, ConfigError), match=told):
        fill_series(series, tmp_path, "linear", **asked)
    assert not list(tmp_path.iterdir())
    assert np.isfinite(prithvi.fill(series, "linear", **remedy)["image"].values).mean() > 0.9


def test_dates_of_a_series_without_dates_cannot_be_asked_for() -> None:
    series = made([0, 10, 20])
    with pytest.raises(SceneError, match=r"the dates of made here are not known, so that none can be asked for: give"):
        prithvi.fill(series.drop_vars("time"), "linear", every="8d")
    named = prithvi.open_scene(series.drop_vars("time"), dates=["2022-05-01", "2022-05-11", "2022-05-21"])
    assert len(days(prithvi.fill(named, "linear", every="8d"))) == 3


def test_a_method_that_learns_from_the_date_itself_says_so() -> None:
    series = made([0, 10, 20])
    with pytest.raises(
        ModelError,
        match=r"^regression learns .* nothing was observed on 2022-05-12: take local_regression \(the default\), fill",
    ):
        prithvi.fill(series, "regression", on=["2022-05-12"])
    prithvi.fill(series, "regression", on=["2022-05-11"])  # which was observed
    for method in ("linear", "nearest"):
        found = prithvi.fill(series, method, on=["2022-05-12"])
        assert np.isfinite(found["image"].values).mean() > 0.9


def test_a_date_that_stays_empty_is_told(tmp_path: Path) -> None:
    series = made([0, 10, 20])
    series[1] = np.nan
    result = fill_series(series, tmp_path, "regression", uncertainty=False)
    assert result.notes == ("2022-05-11: nothing of it is known, and nothing could be filled (by regression).",)
    assert fill_series(series, tmp_path, "linear", uncertainty=False).notes == ()


def files_of(series: xr.DataArray, write_tif: Callable[..., Path]) -> list[object]:
    """The series as files of reflectance x 10,000, and the arguments that name them."""
    words: list[object] = []
    for day, values in zip(days(series.to_dataset(name="image")), series.values, strict=True):
        pixels = np.nan_to_num(values, nan=-9999).astype(np.int16)
        words += [write_tif(pixels, f"s_{day}.tif", nodata=-9999)]
    for day in days(series.to_dataset(name="image")):
        words += ["--date", day]
    return [*words, "--sensor", "hls-s30"]


@pytest.mark.slow
def test_the_command_line_writes_the_asked_dates_as_the_library_does(
    prithvi: Cli, write_tif: Callable[..., Path], tmp_path: Path
) -> None:
    series = made([0, 10, 20, 40])
    words = files_of(series, write_tif)
    for asked, options in (
        (["--only", "2022-05-21,2022-05-01"], {"only": ["2022-05-01", "2022-05-21"]}),
        (["--on", "2022-05-21, 2022-06-01"], {"on": ["2022-06-01", "2022-05-21"]}),
        (["--every", "16d", "--start", "2022-05-05"], {"every": 16, "start": "2022-05-05"}),
    ):
        out = tmp_path / str(asked[0])
        answer = prithvi("fill", "--method", "linear", *words, *asked, "-o", out)
        assert answer.code == 0, answer.err
        fill_series(series, tmp_path / f"{out.name}_library", "linear", **options)  # type: ignore[arg-type]
        names = sorted(path.name for path in out.iterdir())
        assert names == sorted(path.name for path in (tmp_path / f"{out.name}_library").iterdir())
        for name in names:
            with rasterio.open(out / name) as ours, rasterio.open(tmp_path / f"{out.name}_library" / name) as theirs:
                np.testing.assert_array_equal(ours.read(), theirs.read())
        assert f"{len(names) // 3} dates; " in answer.out
    for name, mark in (("--on/2022-05-21", {0, 1}), ("--on/2022-06-01", {1}), ("--every/2022-05-21", {0, 1})):
        with rasterio.open(tmp_path / f"{name}_filled.tif") as raster:
            assert set(np.unique(raster.read())) <= mark | {255}
    answer = prithvi("fill", "--method", "linear", *words, "--on", "2022-07-01", "-o", tmp_path / "no")
    assert (answer.code, "ask for days between these" in answer.err) == (2, True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_regular_days_go_on_after_a_kill_and_end_in_the_same_bytes(
    write_tif: Callable[..., Path], tmp_path: Path
) -> None:
    words = ["fill", "--method", "linear", *files_of(made([0, 5, 10, 40]), write_tif), "--every", "8d"]
    words += ["--window", "24", "--stride", "8"]
    command = [sys.executable, str(REPOSITORY / "tests" / "kill_runs.py"), tmp_path / "work", 2, 3, *words]
    path = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=os.environ | path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["code"], len(found["files"])) == (0, 18)
    assert [(each["code"], each["differ"]) for each in found["runs"]] == [(0, [])] * 2


@pytest.mark.parametrize("lazy", [False, True])
def test_a_long_series_that_states_its_sensors_takes_days_without_observation(lazy: bool) -> None:
    """Some passes over it hold an added day and some do not; files, arrays and each way of asking agree."""
    series = made(list(range(0, 240, 8))).assign_coords(sensor=("time", ["hls-s30"] * 30))
    given = series.chunk(time=1, y=20) if lazy else series
    found = prithvi.fill(given, on="2022-05-02", only=[days(series)[1], days(series)[28]], window=40).compute()
    assert days(found) == ["2022-05-02", "2022-05-09", days(series)[28]]
    alone = prithvi.fill(given, only=days(series)[28], window=40).compute()
    np.testing.assert_array_equal(found["image"].values[2:], alone["image"].values)
