"""The best observation of each pixel: which one is taken, bit for bit, and when it was made."""

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
from prithvi.errors import ConfigError, SceneError
from prithvi.mapping import composite, composite_series, fill_series, ranks_of
from prithvi.mapping.cog import RasterWriter
from prithvi.mapping.maskproducts import MASK_PRODUCTS, NOT_CLEAR
from prithvi.scenes import open_scene
from tests.conftest import Answer

Cli = Callable[..., Answer]
Write = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[2]
DAYS = ("2022-05-01", "2022-05-09", "2022-05-17", "2022-05-25")
YEAR_DAYS = np.array([2022121, 2022129, 2022137, 2022145])
LOW, MODERATE, HIGH = 1 << 6, 2 << 6, 3 << 6
CLOUD, ADJACENT, SHADOW, SNOW, WATER, FILL = 2, 4, 8, 16, 32, 255


def values_of(height: int = 40, width: int = 30, dates: int = 4) -> np.ndarray:
    """(date, band, y, x) int16."""
    return np.random.default_rng(0).integers(100, 4000, (dates, 6, height, width)).astype(np.int16)


def series_of(values: np.ndarray, days: tuple[str, ...] = DAYS) -> xr.DataArray:
    return xr.DataArray(
        np.where(values == -9999, np.nan, values).astype(np.float32), dims=("time", "band", "y", "x"),
        coords={"time": np.array(days, "datetime64[ns]"), "band": list(PRITHVI_BANDS),
                "y": 4_199_985 - 30.0 * np.arange(values.shape[2]), "x": 600_015 + 30.0 * np.arange(values.shape[3])},
        attrs={"gain": 1e-4, "bias": 0.0},
    ).rio.write_crs("EPSG:32630")  # fmt: skip


def test_fmask_ranks_plainly_clear_first_and_low_aerosol_before_high() -> None:
    fmask = MASK_PRODUCTS["fmask"]
    order = [
        (0, LOW, WATER, WATER | LOW), (MODERATE, WATER | MODERATE), (HIGH,), (SNOW, ADJACENT | LOW, ADJACENT | SNOW),
        (ADJACENT | MODERATE,), (SNOW | HIGH,),
    ]  # fmt: skip
    for rank, values in enumerate(order):
        assert fmask.rank(np.array(values, np.uint8)).tolist() == [rank] * len(values)
    for value in (CLOUD, SHADOW, CLOUD | LOW, SHADOW | WATER, FILL):
        assert fmask.rank(np.array([value], np.uint8)).tolist() == [NOT_CLEAR]
    every = np.arange(256)
    for product in MASK_PRODUCTS.values():
        np.testing.assert_array_equal(product.rank(every) != NOT_CLEAR, product.is_clear(every))
    assert MASK_PRODUCTS["scl"].rank(np.arange(12)).tolist() == [255, 255, 0, 255, 0, 0, 0, 0, 255, 255, 255, 0]


def masks_of(write_tif: Write, size: tuple[int, int]) -> tuple[list[Path], np.ndarray]:
    """An Fmask for each date, and which date (0 to 3, -1 for none) is to be taken of one period, middle 13 May."""
    fmask = np.full((4, *size), LOW, np.uint8)
    chosen = np.ones(size, int)  # 9 and 17 May are as near to the middle of all days: the earlier is taken
    fmask[1, :10] = CLOUD
    chosen[:10] = 2  # the next nearest
    fmask[1:3, 10:15] = SHADOW
    chosen[10:15] = 0
    fmask[:, 15:17] = CLOUD
    chosen[15:17] = -1
    fmask[1:3, 17:20], fmask[0, 17:20] = MODERATE, HIGH
    chosen[17:20] = 3  # further away, but low aerosol
    fmask[:3, 20:25], fmask[3, 20:25] = SNOW | LOW, HIGH
    chosen[20:25] = 3  # plainly clear before all else
    fmask[1, 25:27] = FILL
    chosen[25:27] = 2
    names = [f"HLS.S30.T30SVH.{day}T105621.v2.0.Fmask.tif" for day in YEAR_DAYS]
    return [
        write_tif(mask[None], name, names=None, scale=None) for mask, name in zip(fmask, names, strict=True)
    ], chosen


@pytest.fixture
def real(write_tif: Write) -> tuple[list[Path], list[Path], np.ndarray, np.ndarray]:
    """Files, masks, values, which date is to be taken. Of 9 May a corner has no data, a pixel lacks a band."""
    values = values_of()
    values[1, :, 30:35, :5] = -9999
    values[1, 3, 39, 29] = -9999
    masks, chosen = masks_of(write_tif, values.shape[2:])
    chosen[30:35, :5], chosen[39, 29] = 2, 2
    files = [write_tif(pixels, f"s{number}.tif", nodata=-9999) for number, pixels in enumerate(values)]
    return files, masks, values, chosen


def check(image: np.ndarray, date: np.ndarray, values: np.ndarray, chosen: np.ndarray, nodata: float) -> None:
    expected = np.where(chosen < 0, nodata, np.take_along_axis(values, np.maximum(chosen, 0)[None, None], 0)[0])
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(date, np.where(chosen < 0, 0, YEAR_DAYS[chosen]))


@pytest.mark.parametrize("lazy", [False, True])
def test_each_pixel_is_its_best_observation_bit_for_bit(real, lazy: bool) -> None:  # type: ignore[no-untyped-def]
    files, masks, values, chosen = real
    series = open_scene(files, sensor="hls-s30", dates=DAYS)
    result = composite(series if lazy else series.compute(), masks=masks)
    assert dask.is_dask_collection(result["image"]) == dask.is_dask_collection(result["date"]) == lazy
    check(result["image"].values[0], result["date"].values[0], values, chosen, np.nan)
    assert result["image"].dims == ("time", "band", "y", "x")
    assert result["date"].dtype == np.int32
    assert result["time"].values.astype("datetime64[D]").astype(str).tolist() == ["2022-05-01"]
    assert result["last_day"].values.astype("datetime64[D]").astype(str).tolist() == ["2022-05-25"]
    assert result.rio.crs == series.rio.crs
    ranks = composite(series, ranks=ranks_of(masks, series)[::-1])  # each date gets its own
    xr.testing.assert_identical(ranks.compute(), result.compute())


def test_files_hold_the_same_and_say_when_and_how(real, prithvi: Cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files, masks, values, chosen = real
    series = open_scene(files, sensor="hls-s30", dates=DAYS)
    made = composite_series(series, tmp_path / "library", masks=masks)
    words = [word for day in DAYS for word in ("--date", day)] + [word for mask in masks for word in ("--clouds", mask)]
    answer = prithvi("composite", *files, *words, "--sensor", "hls-s30", "-o", tmp_path / "typed")
    assert answer.code == 0, answer.err
    assert f"1 composite; {(chosen >= 0).mean():.1%} observed, {(chosen < 0).mean():.1%} left empty" in answer.out
    assert "read as HLS Fmask" in answer.err
    assert made.paths == (tmp_path / "library" / "2022-05-01_2022-05-25.tif",)
    assert (made.observed, made.empty) == ((chosen >= 0).sum(), (chosen < 0).sum())
    for folder in ("library", "typed"):
        path = tmp_path / folder / made.paths[0].name
        with rasterio.open(path) as image, rasterio.open(path.with_name(f"{path.stem}_date.tif")) as date:
            check(image.read(), date.read(1), values, chosen, -9999)
            assert (image.dtypes[0], image.nodata, image.scales[0], image.descriptions) == (
                "int16", -9999, 1e-4, PRITHVI_BANDS,
            )  # fmt: skip
            assert (date.dtypes, date.nodata, date.descriptions) == (("int32",), 0, ("date",))
            assert image.tags()["PRITHVI_MODEL"] == "best observation"
            assert str(files[0]) in image.tags()["PRITHVI_INPUT"] or folder == "library"
            assert image.crs == date.crs == series.rio.crs
        assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.stem}_date.tif"]


def test_a_target_day_and_periods_choose_the_dates() -> None:
    values = values_of(8, 8)
    series = series_of(values)

    def chosen(**options: Any) -> list[int]:
        """The date of all pixels, of each period."""
        result = composite(series, **options)
        np.testing.assert_array_equal(
            result["image"].values, values[[YEAR_DAYS.tolist().index(day) for day in result["date"].values[:, 0, 0]]]
        )
        found: list[int] = result["date"].values[:, 0, 0].tolist()
        assert (result["date"].values == np.array(found)[:, None, None]).all()
        return found

    assert chosen() == [2022129]
    assert chosen(target_day="2022-05-14") == [2022137]
    assert chosen(target_day="2022-12-31") == [2022145]
    assert chosen(every="8d") == YEAR_DAYS.tolist()
    assert chosen(every="16d", target_day="2022-05-01") == [2022121, 2022137]
    assert chosen(every=10, start="2022-04-26") == [2022121, 2022129, 2022137]
    assert chosen(every=10, start="2022-05-08") == [2022129, 2022145]


def test_a_period_without_observation_is_nodata_and_told(tmp_path: Path) -> None:
    series = series_of(values_of(8, 8))
    result = composite_series(series, tmp_path, every="4d")
    assert [path.stem for path in result.paths[:2]] == ["2022-05-01_2022-05-04", "2022-05-05_2022-05-08"]
    assert len(result.paths) == 7
    assert result.notes[0] == "2022-05-05_2022-05-08: nothing was observed from 2022-05-05 to 2022-05-08."
    assert (result.observed, result.empty) == (4 * 64, 3 * 64)
    with rasterio.open(result.paths[1]) as raster:
        assert (raster.read() == -9999).all()
    lazy = composite(series, every="4d")
    assert np.isnan(lazy["image"].values[1]).all()
    assert (lazy["date"].values[1] == 0).all()


def test_what_cannot_be_reflectance_is_not_taken_and_is_told(tmp_path: Path) -> None:
    values = values_of(8, 8)
    values[1, 2, 0, :3] = 30_000
    result = composite_series(series_of(values), tmp_path)
    assert "2022-05-09: 3 pixels hold 30000, which cannot be reflectance" in result.notes[0]
    with rasterio.open(tmp_path / "2022-05-01_2022-05-25_date.tif") as raster:
        assert (raster.read(1)[0, :4] == [2022137] * 3 + [2022129]).all()


def test_what_does_not_fit_is_one_sentence_and_the_remedy_helps(tmp_path: Path) -> None:
    series = series_of(values_of(8, 8))
    clear = xr.DataArray(np.ones((4, 8, 8), bool), dims=("time", "y", "x"))
    for told, wrong, right in (
        (r"clear=, masks= and ranks= all say where", {"clear": clear, "ranks": clear}, {"clear": clear}),
        ("which is not given: give both", {"start": "2022-05-01"}, {"start": "2022-05-01", "every": 8}),
        ("would begin on 2022-06-01", {"start": "2022-06-01", "every": 8}, {"start": "2022-05-25", "every": 8}),
        ("a number of days from 1, such as 16d", {"every": "1m"}, {"every": "16d"}),
        ("do not lie on one grid", {"clear": clear[:, :4]}, {"clear": clear}),
    ):
        with pytest.raises((ConfigError, SceneError), match=told):
            composite(series, **wrong)
        with pytest.raises((ConfigError, SceneError), match=told):
            composite_series(series, tmp_path / "no", **wrong)
        assert np.isfinite(composite(series, **right)["image"].values).all()
    assert not (tmp_path / "no").exists()
    with pytest.raises(SceneError, match=r"are not known: give files with their dates \(--date\)"):
        composite(series.drop_vars("time"))
    assert composite(open_scene(series.drop_vars("time"), dates=DAYS))["date"].values.min() == 2022129


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_run_ends_in_the_same_bytes(real, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files, masks, *_ = real
    words = ["composite", *files, "--sensor", "hls-s30", "--every", "8d"]
    words += [word for day in DAYS for word in ("--date", day)] + [
        word for mask in masks for word in ("--clouds", mask)
    ]
    command = [sys.executable, str(REPOSITORY / "tests" / "kill_runs.py"), tmp_path / "work", 2, 5, *words]
    path = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=os.environ | path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["code"], len(found["files"])) == (0, 8)
    assert [(each["code"], each["differ"]) for each in found["runs"]] == [(0, [])] * 2


def test_finished_periods_are_kept_and_those_of_other_masks_are_not(real, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files, masks, *_ = real
    series = open_scene(files, sensor="hls-s30", dates=DAYS)

    def again(**options: Any) -> bool:
        composite_series(series, tmp_path, every=16, resume=True, inputs=[*files, *masks], **options)
        new = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("2022*.tif"))]
        changed, before[:] = new != before, new
        return changed

    before: list[int] = []
    assert again(masks=masks)
    assert not again(masks=masks)
    assert again(ranks=ranks_of(masks, series) * 0)
    assert again()
    assert not again()


def test_a_run_that_died_while_it_made_its_files_goes_on(real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    files, masks, values, chosen = real
    series, publish = open_scene(files, sensor="hls-s30", dates=DAYS), RasterWriter.publish

    def dies(writer: RasterWriter) -> None:
        writer.make()
        raise KeyboardInterrupt

    monkeypatch.setattr(RasterWriter, "publish", dies)
    with pytest.raises(KeyboardInterrupt):
        composite_series(series, tmp_path, masks=masks, inputs=[*files, *masks])
    monkeypatch.setattr(RasterWriter, "publish", publish)
    made = composite_series(series, tmp_path, masks=masks, inputs=[*files, *masks], resume=True)
    with rasterio.open(made.paths[0]) as image, rasterio.open(tmp_path / f"{made.paths[0].stem}_date.tif") as date:
        check(image.read(), date.read(1), values, chosen, -9999)


def test_arrays_become_the_same_files(real, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files, masks, *_ = real
    series = open_scene(files, sensor="hls-s30", dates=DAYS)
    composite(series, masks=masks, every=16).prithvi.to_cog(tmp_path / "arrays")
    composite_series(series, tmp_path / "files", masks=masks, every=16)
    names = sorted(path.name for path in (tmp_path / "files").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "arrays").iterdir())
    assert len(names) == 4
    for name in names:
        with rasterio.open(tmp_path / "files" / name) as one, rasterio.open(tmp_path / "arrays" / name) as other:
            np.testing.assert_array_equal(one.read(), other.read())


def test_a_lazy_series_has_empty_periods_too_and_masks_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    series = series_of(values_of(dates=3), ("2022-05-01", "2022-05-09", "2022-06-17"))
    found = composite(series.chunk(time=1, y=16), every=8)
    assert found["image"].chunks is not None
    xr.testing.assert_identical(found.compute(), composite(series, every=8))
    assert np.isnan(found["image"].values[2]).all()
    nothing = xr.zeros_like(series.isel(band=0, drop=True), bool)
    for call in (composite, lambda *given, **options: composite_series(*given[:1], tmp_path, **options)):
        with pytest.raises(SceneError, match="the masks leave not one pixel of any date"):
            call(series, clear=nothing)


def test_ranks_lie_on_the_series_by_position(tmp_path: Path) -> None:
    """Coordinates that differ in the last digit, and two times of one day, are no reason to find nothing."""
    series = series_of(values_of(dates=3), ("2022-05-01T10:30", "2022-05-01T10:41", "2022-05-09"))
    ranks = xr.zeros_like(series.isel(band=0, drop=True), np.uint8)
    ranks[1] = 3
    plain = composite(series, ranks=ranks)
    shifted = ranks.assign_coords(x=ranks["x"] + 1e-9, y=ranks["y"] + 1e-9)
    xr.testing.assert_identical(composite(series, ranks=shifted), plain)
    assert np.isfinite(plain["image"]).all()
    assert composite_series(series, tmp_path, ranks=shifted).empty == 0
    same = series.assign_coords(time=np.array(["2022-05-01", "2022-05-01", "2022-05-09"], "datetime64[ns]"))
    with pytest.raises(SceneError, match=r"the masks have a date twice: 2022-05-01T00:00:00, 2022-05-01T00:00:00"):
        composite(same, ranks=ranks.assign_coords(time=same["time"]))


def test_temperatures_of_complete_granules_are_left_out(tmp_path: Path) -> None:
    """B10 and B11 of L30, in hundredths of a degree: no reflectance, and a pixel with impossible values is unknown."""
    values = values_of()
    series = series_of(values)
    warm = series[:, :2].assign_coords(band=["thermal_1", "thermal_2"]).copy(data=np.full((4, 2, 40, 30), 28_000.0))
    whole = xr.concat([warm.astype("float32"), series], "band").assign_attrs(series.attrs)
    expected = composite(series, every=16)
    xr.testing.assert_identical(composite(whole, every=16), expected)
    told = "thermal_1, thermal_2 left out: the thermal infrared holds temperatures, no reflectance."
    assert told in composite_series(whole, tmp_path / "composite", every=16).notes
    assert told not in composite_series(series, tmp_path / "plain", every=16).notes
    with rasterio.open(min((tmp_path / "composite").glob("*[!e].tif"))) as raster:
        assert raster.descriptions == PRITHVI_BANDS
        np.testing.assert_array_equal(raster.read(), expected["image"].values[0].astype(np.int16))
    values[1, :, 5:9] = -9999
    whole = xr.concat([warm.astype("float32"), series_of(values)], "band").assign_attrs(series.attrs)
    filled = prithvi.fill(whole, "linear")
    xr.testing.assert_identical(filled, prithvi.fill(series_of(values), "linear"))
    xr.testing.assert_equal(prithvi.fill(whole, lambda image, *_: np.nan_to_num(image)).band, filled.band)
    assert told in fill_series(whole, tmp_path / "filled", "linear").notes
    with rasterio.open(tmp_path / "filled" / "2022-05-09.tif") as raster:
        np.testing.assert_allclose(raster.read(), filled["image"].values[1], atol=0.5)
