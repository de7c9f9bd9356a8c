"""Dates are read in the forms that are meant, and never contradict what files, items and arrays say of themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pystac
import pytest
import xarray as xr

from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import SceneError
from prithvi.scenes import open_scene
from prithvi.scenes.names import as_days, day_in_name

Write = Callable[..., Path]
DAY = dt.date(2022, 5, 21)


@pytest.mark.parametrize(
    "given",
    [
        "2022-05-21", "20220521", " 2022-05-21 ", "2022-05-21T10:46:21Z", "20220521T104621", "2022-05-21 10:00",
        20220521, np.int64(20220521), "2022-05-20T23:30:00-05:00", DAY, dt.datetime(2022, 5, 21, 23, 59),
        pd.Timestamp("2022-05-21T10:00"), dt.datetime(2022, 5, 21, 1, tzinfo=dt.UTC), np.datetime64("2022-05-21"),
        np.datetime64("2022-05-21T10:00:00", "ns"),
    ],
)  # fmt: skip
def test_a_day_is_read_in_every_usual_form(given: Any) -> None:
    assert as_days([given]) == [DAY]
    assert as_days(given) == [DAY]


@pytest.mark.parametrize("kind", [np.array, pd.DatetimeIndex, pd.Series, xr.DataArray])
def test_days_come_in_any_container(kind: Callable[[Any], Any]) -> None:
    assert as_days(kind(np.array(["2022-05-21", "2021-01-02"], "datetime64[ns]"))) == [DAY, dt.date(2021, 1, 2)]
    assert as_days(np.array("2022-05-21", "datetime64[D]")) == [DAY]


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ("2022-W20-6", "write 2022-05-21 if that day of a week is meant"),
        ("2022W206", "write 2022-05-21 if that day of a week is meant"),
        ("2022141", "write 2022-05-21 if that day of the year is meant"),
        ("2022-141", "write 2022-05-21 if that day of the year is meant"),
        *((bad, "is not understood: write 2022-05-31") for bad in (
            "2022-W60-1", "2022999", "2022W20", "2022-05", "2022-13-01", "2022-02-30", "May", "", "2022/05/21",
            "21.05.2022", "20220521x", None, True, 1.5, pd.NaT, np.datetime64("NaT"), np.datetime64("2022-05"),
        )),
    ],
)  # fmt: skip
def test_what_is_no_day_of_the_calendar_is_refused_and_what_it_may_mean_is_said(given: Any, instead: str) -> None:
    with pytest.raises(SceneError, match=instead):
        as_days([given])
    with pytest.raises(SceneError, match=instead):
        as_days(given)
    if "meant" in instead:
        assert as_days([instead.split()[1]]) == [DAY]


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("T31UDS_20220521T105031_SCL_20m.jp2", DAY),
        ("S2A_MSIL2A_20220521T105031_N0400_R051_T31UDS_20220522T135849.SAFE", DAY),
        ("LC08_L2SP_199024_20220521_20220601_02_T1_QA_PIXEL.TIF", DAY),
        ("LC80330342022141LGN00_cfmask.tif", DAY),
        ("HLS.S30.T15SXR.2022141T163901.v2.0.Fmask.tif", DAY),
        ("2022-05-21_clouds.tif", DAY),
        ("clouds_3.tif", None),
        ("a12345678.tif", None),
        ("x_20229999.tif", None),
    ],
)
def test_a_name_states_its_day(name: str, day: dt.date | None) -> None:
    assert day_in_name(f"/some/folder/{name}") == day


def stack(bands: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 4000, (bands, 16, 16)).astype(np.int16)


def test_a_date_that_contradicts_a_name_is_refused(write_tif: Write) -> None:
    """A granule's file, a folder of single bands, and one of two stacks; the date left out, each opens as before."""
    one = write_tif(stack(), "HLS.S30.T31UDS.2022141T105621.v2.0.tif")
    bands = [
        write_tif(stack(1, n), f"HLS.L30.T31UDS.2022141T105621.v2.0.{name}.tif", names=None)
        for n, name in enumerate(("B02", "B03", "B04"))
    ]
    other = write_tif(stack(seed=1), "HLS.S30.T31UDS.2022146T105621.v2.0.tif")
    told = "is of 2022-05-21, and 2022-06-01 was given as its date: leave the date out"
    for source, dates in ((one, ["2022-06-01"]), (bands, ["2022-06-01"]), ([one, other], ["2022-06-01", "2022-05-26"])):
        with pytest.raises(SceneError, match=told):
            open_scene(source, dates=dates)
        days = ["2022-05-21", "2022-05-26"][: len(dates)]
        for same in (None, days):
            assert as_days(open_scene(source, dates=same)["time"]) == as_days(days)
    with pytest.raises(SceneError, match="2022-05-26 was given as its date"):
        open_scene([one, other], dates=["2022-05-26", "2022-05-21"])
    with pytest.raises(SceneError, match="has 1 date and 2 were given"):
        open_scene(bands, dates=["2022-05-21", "2022-05-26"])


def test_dates_in_band_names_are_held_against_those_given_and_the_files_own(write_tif: Write) -> None:
    names = tuple(f"{name} {day}" for day in ("2022-05-21", "2022-03-01") for name in PRITHVI_BANDS)
    path = write_tif(stack(12), names=names)
    for given in (None, ["2022-03-01", "2022-05-21"], ["2022-05-21", "2022-03-01"]):
        assert as_days(open_scene(path, dates=given)["time"]) == [dt.date(2022, 3, 1), DAY]
    with pytest.raises(SceneError, match="is of 2022-05-21, and 2022-06-01 was given"):
        open_scene(path, dates=["2022-03-01", "2022-06-01"])
    with pytest.raises(SceneError, match="has 2 dates and 1 were given"):
        open_scene(path, dates=["2022-03-01"])
    single = tuple(f"{name} 2022-06-01" for name in PRITHVI_BANDS)
    with pytest.raises(SceneError, match="by its name, is of 2022-05-21, and 2022-06-01"):
        open_scene(write_tif(stack(), "HLS.S30.T31UDS.2022141T105621.v2.0.tif", names=single))


def test_a_day_in_a_name_of_ones_own_is_told_and_not_obeyed(write_tif: Write) -> None:
    """It may be that of an export; where it agrees nothing is said."""
    path = write_tif(stack(), "export_2024-01-05.tif")
    with pytest.warns(UserWarning, match=r"has 2024-01-05 in its name; it is taken to be of 2022-05-21, as was said"):
        scene = open_scene(path, dates=["2022-05-21"])
    assert as_days(scene["time"]) == [DAY]
    open_scene(path, dates=["2024-01-05"])


def test_each_file_has_one_date(write_tif: Write) -> None:
    files = [write_tif(stack(seed=n), f"{n}.tif") for n in range(2)]
    with pytest.raises(SceneError, match="2 files and 3 dates were given: give the date of each file"):
        open_scene(files, dates=["2022-05-01", "2022-05-02", "2022-05-03"])
    with pytest.raises(SceneError, match=r"are of the same date \(2022-05-01\)"):
        open_scene(files, dates=["2022-05-01", "20220501"])
    with pytest.raises(SceneError, match=r"of the same date \(unknown\): give the date of each"):
        open_scene(files)
    scene = open_scene(files, dates=[np.datetime64("2022-05-09"), dt.date(2022, 5, 2)])
    assert as_days(scene["time"]) == [dt.date(2022, 5, 2), dt.date(2022, 5, 9)]
    np.testing.assert_array_equal(scene.values[1], stack(seed=0))


def array(time: Any) -> xr.DataArray:
    values = np.stack([stack(seed=n) for n in range(2)]).astype(np.float32)
    coords = {"band": list(PRITHVI_BANDS), "y": 100 - 10.0 * np.arange(16), "x": 5 + 10.0 * np.arange(16)}
    if time is not None:
        coords["time"] = time
    return xr.DataArray(values, dims=("time", "band", "y", "x"), coords=coords).rio.write_crs("EPSG:32630")


def test_an_arrays_own_times_are_held_against_the_dates_given() -> None:
    own = np.array(["2022-05-21T10:46", "2022-05-01T10:46"], "datetime64[ns]")
    same = open_scene(array(own), dates=["2022-05-21", "2022-05-01"])
    np.testing.assert_array_equal(same["time"].values, np.sort(own))  # times of a day are kept
    np.testing.assert_array_equal(same[0], array(own)[1])
    with pytest.raises(SceneError, match="by its time, is of 2022-05-21, and 2022-05-01 was given as its date"):
        open_scene(array(own), dates=["2022-05-01", "2022-05-21"])
    words = open_scene(array(["2022-05-21", "2022-05-01"]))
    np.testing.assert_array_equal(words["time"].values, np.sort(own.astype("datetime64[D]").astype("datetime64[ns]")))
    for steps in (None, [0, 1], ["first", "second"]):
        opened = open_scene(array(steps), dates=["2022-05-21", "2022-05-01"])
        assert as_days(opened["time"]) == [dt.date(2022, 5, 1), DAY]
    with pytest.raises(SceneError, match=r"the time of .* is no date \(.*'first'.*\): give the dates"):
        open_scene(array(["first", "second"]))


def test_an_items_date_is_not_another_than_is_given(write_tif: Write, tmp_path: Path) -> None:
    path = write_tif(stack(1), "red.tif", names=("red",))
    item = pystac.Item("drone-7", None, None, dt.datetime(2022, 5, 21, 10, tzinfo=dt.UTC), {})
    item.add_asset("red", pystac.Asset(str(path), media_type="image/tiff; application=geotiff"))
    with pytest.raises(SceneError, match="drone-7 is of 2022-05-21, and 2022-06-01 was given as its date"):
        open_scene(item, bands=["red"], dates=["2022-06-01"])
    assert as_days(open_scene(item, bands=["red"], dates=["20220521"])["time"]) == [DAY]
