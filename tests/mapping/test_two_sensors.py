"""Two sensors in one series: each date in its own sensor's values, one date a day with a target, and who saw what."""

from __future__ import annotations

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
from prithvi.errors import BandError, ConfigError, SceneError
from prithvi.hls import Granule
from prithvi.mapping import fill_series
from prithvi.mapping.asked_dates import AskedDates
from prithvi.mapping.two_sensors import Sensors
from tests.conftest import Answer, benchmark
from tests.mapping.test_asked_dates import made

Cli = Callable[..., Answer]
L30, S30 = "hls-l30", "hls-s30"
DAYS = [0, 1, 8, 8, 16, 17, 24, 26]
SENSORS = [L30, S30] * 4
HOURS = np.array([10, 11] * 4) * np.timedelta64(1, "h")
FILLED, FROM_L30, FROM_S30, NOTHING = 0, 1, 2, 255


def pair_of_sensors(clouds: float = 0.3, seed: int = 0) -> xr.DataArray:
    """The dates of `made`; S30 sees every value as 1.1 x + 50. 2022-05-09 was seen by both."""
    series = made(DAYS, seed, clouds)
    later = np.array(SENSORS) == S30
    values = np.where(later[:, None, None, None], series.values * np.float32(1.1) + 50, series.values)
    series = series.copy(data=values).assign_coords(time=series["time"].values + HOURS, sensor=("time", SENSORS))
    return series.assign_attrs(gain=1e-4, bias=0.0)


def as_l30(series: xr.DataArray) -> np.ndarray:
    """All values as L30 sees them."""
    later = (series["sensor"].values == S30)[:, None, None, None]
    return np.where(later, (series.values - 50) / 1.1, series.values)


@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_filled_is_in_the_values_of_the_dates_own_sensor(lazy: bool) -> None:
    series = pair_of_sensors()
    found = prithvi.fill(series.chunk(y=16) if lazy else series, "linear", window=24)
    assert dask.is_dask_collection(found["image"]) == lazy
    known = np.isfinite(series.values)
    assert (known.mean(axis=(1, 2, 3)) < 1).any()
    np.testing.assert_array_equal(found["image"].values[known], series.values[known])
    # The ground rises by 10 a day along a line, so that `linear` finds it where it knows a date before and after.
    days = np.array(DAYS)[:, None, None, None]
    truth = np.nanmean(as_l30(series) - 10 * days, axis=0) + 10 * days
    truth = np.where((np.array(SENSORS) == S30)[:, None, None, None], truth * 1.1 + 50, truth)
    inner = slice(2, 6)
    off = np.abs(found["image"].values - truth)[inner][~known[inner]]
    assert np.median(off) < 12  # of these the gains have 10: see below
    plain = prithvi.fill(series.drop_vars("sensor"), "linear", window=24)
    assert np.median(np.abs(plain["image"].values - truth)[inner][~known[inner]]) > 40
    assert "source" not in plain
    assert found["sensor"].values.tolist() == SENSORS
    codes = np.array([FROM_L30, FROM_S30] * 4)[:, None, None]
    np.testing.assert_array_equal(found["source"].values, np.where(known.all(axis=1), codes, FILLED))
    assert found["source"].attrs["flag_values"] == [FILLED, FROM_L30, FROM_S30, NOTHING]
    assert found["source"].attrs["flag_meanings"] == "filled hls-l30 hls-s30 nothing"
    assert "blue x 1.1" in found.attrs["PRITHVI_SENSOR_NOTES"]
    assert "1 more" not in found.attrs["PRITHVI_SENSOR_NOTES"]
    assert "2022-05-09 has dates of hls-l30 and hls-s30, which are written apart" in found.attrs["PRITHVI_SENSOR_NOTES"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nearest", "local_regression", "prithvi_hls_tiny"])
def test_lazily_and_in_other_windows_of_dates_it_is_the_same(method: str) -> None:
    series = pair_of_sensors()
    options: dict[str, Any] = {"window": 16, "target": "S30", "only": series["time"].values[[0, 3, 6]]}
    options["uncertainty"] = method != "prithvi_hls_tiny"
    found = prithvi.fill(series, method, **options)
    lazy = prithvi.fill(series.chunk(y=20), method, **options)
    xr.testing.assert_identical(found, lazy.compute())
    alone = prithvi.fill(series, method, **{**options, "only": series["time"].values[3]})
    xr.testing.assert_identical(alone, found.isel(time=[1]))


@pytest.mark.parametrize("target", [S30, "S30", "l30"])
def test_a_day_of_both_is_the_targets_and_filled_from_what_the_other_saw_that_day(target: str) -> None:
    series = pair_of_sensors(clouds=0.4)
    series[3, 2, 20:24] = np.nan  # a band alone
    found = prithvi.fill(series, "linear", target=target, window=24)
    own, other = (2, 3) if target == "l30" else (3, 2)
    name = SENSORS[own]
    assert found.sizes["time"] == 7
    assert found["sensor"].values.tolist() == [*SENSORS[:2], name, *SENSORS[4:]]
    assert found["time"].values[2] == series["time"].values[own]
    image, source = found["image"].values[2], found["source"].values[2]
    mine, theirs = np.isfinite(series.values[own]), np.isfinite(series.values[other])
    np.testing.assert_array_equal(image[mine], series.values[own][mine])
    taken = ~mine.all(axis=0) & theirs.all(axis=0)
    brought = series.values[other] * 1.1 + 50 if name == S30 else (series.values[other] - 50) / 1.1
    # S30 comes a day later on average, in which the ground rises by 10: that is taken for the sensors' as well.
    assert np.abs(image - brought)[:, taken].max() < 20
    assert np.abs(series.values[other] - brought)[:, taken].min() > 90
    expected = np.where(taken, SENSORS[other] == S30, name == S30) + 1
    np.testing.assert_array_equal(source, np.where(mine.all(axis=0) | taken, expected, FILLED))
    assert {FILLED, FROM_L30, FROM_S30} <= set(np.unique(source))
    np.testing.assert_array_equal(found["filled"].values[2], ~mine.all(axis=0))
    np.testing.assert_array_equal(found["uncertainty"].values[2] > 0, ~mine)
    # Every other date is in its own values, and as if no target had been named.
    apart = prithvi.fill(series, "linear", window=24).isel(time=[at for at in range(8) if at != other])
    for layer in ("image", "filled", "uncertainty"):
        np.testing.assert_array_equal(found[layer].values, apart[layer].values)
    options: dict[str, Any] = {"target": target, "window": 24}
    alone = prithvi.fill(series, "linear", **options, only=series["time"].values[other])  # which is one with this
    np.testing.assert_array_equal(alone["image"].values[0], image)


@pytest.mark.parametrize("method", ["nearest", "linear", "local_regression"])
def test_beside_the_swath_of_the_target_a_day_is_what_the_other_saw(method: str) -> None:
    series = pair_of_sensors(clouds=0.2)
    series[2] = made([8], clouds=0.0).values[0]
    series[3] = np.nan
    found = prithvi.fill(series, method, target=S30, only="2022-05-09")
    assert found["sensor"].values.tolist() == [S30]
    assert (found["source"].values == FROM_L30).all()
    assert np.abs(found["image"].values[0] - (series.values[2] * 1.1 + 50)).mean() < 15


def test_where_no_date_knows_anything_no_sensor_saw_it() -> None:
    series = pair_of_sensors()
    series[:, :, :5, :5] = np.nan
    found = prithvi.fill(series, "nearest", target=L30)
    assert (found["source"].values[:, :5, :5] == NOTHING).all()
    assert np.isnan(found["image"].values[:, :, :5, :5]).all()


def test_files_cubes_and_written_results_say_the_same(tmp_path: Path) -> None:
    series = pair_of_sensors()
    options: dict[str, Any] = {
        "target": S30,
        "window": 24,
        "on": ["2022-05-13"],
        "only": series["time"].values[[0, 3, 5]],
    }
    found = prithvi.fill(series, "linear", **options)
    found.prithvi.to_cog(tmp_path / "array")
    files = fill_series(series, tmp_path / "files", "linear", **options)
    fill_series(series, tmp_path / "cube.zarr", "linear", **options)
    assert files.dates == ["2022-05-01", "2022-05-09", "2022-05-13", "2022-05-18"]
    assert any("hls-l30 is brought to hls-s30" in note for note in files.notes)
    cube = xr.open_zarr(tmp_path / "cube.zarr", mask_and_scale=False, decode_coords="all")
    assert cube["source"].attrs["flag_meanings"] == "filled hls-l30 hls-s30 nothing"
    assert cube["sensor"].values.tolist() == found["sensor"].values.tolist() == [L30, S30, S30, S30]
    assert "hls-l30 to hls-s30" in cube.attrs["PRITHVI_GAINS"]
    for date, label in enumerate(files.dates):
        for end in ("", "_filled", "_uncertainty", "_source"):
            with (
                rasterio.open(tmp_path / "files" / f"{label}{end}.tif") as raster,
                rasterio.open(tmp_path / "array" / f"{label}{end}.tif") as other,
            ):
                pixels, tags = raster.read(), raster.tags()
                np.testing.assert_array_equal(pixels, other.read())
                np.testing.assert_array_equal(pixels.squeeze(), cube[end[1:] or "image"].values[date])
                assert tags["PRITHVI_SENSOR"] == other.tags()["PRITHVI_SENSOR"] == [L30, S30, S30, S30][date]
                assert tags["PRITHVI_SENSORS"] == "hls-l30, hls-s30"
                if end == "_source":
                    assert tags["CLASS_0"] == "filled"
                    assert (tags["CLASS_1"], tags["CLASS_2"]) == (L30, S30)
                    assert raster.nodata == NOTHING
                    assert set(raster.colormap(1)) >= {0, 1, 2}
                    np.testing.assert_array_equal(pixels[0], found["source"].values[date])
    again = prithvi.open_scene(cube["image"])  # it is a series of two sensors again
    assert again["sensor"].values.tolist() == [L30, S30, S30, S30]


def test_a_day_without_observation_is_in_the_targets_values_or_the_usual_ones() -> None:
    series = pair_of_sensors(clouds=0.0).isel(time=[0, 1, 2, 4, 5, 6, 7])  # four of L30, three of S30
    day = "2022-05-14"
    truth = np.nanmean(as_l30(series) - 10 * np.array([0, 1, 8, 16, 17, 24, 26])[:, None, None, None], axis=0) + 130
    for target, expected in ((None, truth), ("S30", truth * 1.1 + 50), ("L30", truth)):
        found = prithvi.fill(series, "linear", on=day, target=target)
        assert np.abs(found["image"].values[0] - expected).max() < 20
        assert found["sensor"].values.tolist() == [S30 if target == "S30" else L30]
        assert (found["source"].values == FILLED).all()
        told = "are filled as hls-l30 would have seen them, of which the series has the most dates: --target"
        assert (told in found.attrs["PRITHVI_SENSOR_NOTES"]) == (target is None)


def test_one_sensor_is_as_it_was(tmp_path: Path) -> None:
    series = made([0, 10, 20])
    expected = prithvi.fill(series, "linear")
    for same in (series.assign_coords(sensor=("time", [S30] * 3)), series.assign_attrs(sensor=S30)):
        for target in (None, "S30"):
            found = prithvi.fill(same, "linear", target=target)
            for name in ("image", "filled", "uncertainty"):
                np.testing.assert_array_equal(found[name].values, expected[name].values)
            assert "source" not in found
            assert "PRITHVI_SENSORS" not in found.attrs
            fill_series(same, tmp_path, "linear", target=target)
    assert not list(tmp_path.glob("*_source.tif"))


def test_what_is_not_clear_is_refused_and_the_remedy_helps(tmp_path: Path) -> None:
    series, two = pair_of_sensors(), made([0, 10])
    midnight = series.assign_coords(time=series["time"].values.astype("datetime64[D]").astype("datetime64[ns]"))
    some = series.assign_coords(sensor=("time", [*SENSORS[:-1], ""]))
    unknown = (
        r"which sensor each date of made here is of is not known, so that none can be the target "
        r"\(target=, --target\): leave it out, or say it with series.assign_coords\(sensor=\('time'"
    )
    one_day = (
        r"a date of hls-l30 and one of hls-s30 on 2022-05-09: name the sensor whose values that day is to have "
        r"\(--target hls-s30, target=\), or give both their times"
    )
    refused: list[tuple[xr.DataArray, str | None, str, tuple[xr.DataArray, str | None]]] = [
        (midnight, None, one_day, (midnight, "hls-s30")),
        (midnight, None, one_day, (midnight.assign_coords(time=series["time"]), None)),
        (some, None, r"the sensor of some dates of made here is not known \(2022-05-27\): name it in", (series, None)),
        (series, "S31", "the series has no sensor 'S31': ", (series, "S30")),
        (two, "S30", unknown, (two, None)),
        (two, "S30", unknown, (two.assign_coords(sensor=("time", [L30, S30])), "S30")),
        (series.drop_vars("time"), None, "are compared on dates near to each other: give them", (series, None)),
    ]
    for given, target, told, (mended, chosen) in refused:
        with pytest.raises((SceneError, ConfigError), match=told):
            prithvi.fill(given, "linear", target=target)
        if "time" in given.coords:  # which files want in any case
            with pytest.raises((SceneError, ConfigError), match=told):
                fill_series(given, tmp_path, "linear", target=target)
        assert not list(tmp_path.iterdir())
        assert np.isfinite(prithvi.fill(mended, "linear", target=chosen)["image"].values).mean() > 0.75


def test_gains_and_sensors_are_part_of_what_a_run_is(tmp_path: Path) -> None:
    def run_of(series: xr.DataArray, **options: Any) -> tuple[str, dict[str, str]]:
        fill_series(series, tmp_path, "linear", only=series["time"].values[0], resume=True, **options)
        with rasterio.open(tmp_path / "2022-05-01.tif") as raster:
            return raster.tags()["PRITHVI_RUN"], raster.tags()

    series = pair_of_sensors()
    first, tags = run_of(series)
    made_at = (tmp_path / "2022-05-01.tif").stat().st_mtime_ns
    assert run_of(series)[0] == first
    assert (tmp_path / "2022-05-01.tif").stat().st_mtime_ns == made_at  # there already
    assert '"hls-s30 to hls-l30": {"blue": [0.90' in tags["PRITHVI_GAINS"]
    others = [run_of(series, target=target)[0] for target in ("S30", "L30")]
    others.append(run_of(series.drop_vars("sensor"))[0])
    assert len({first, *others}) == 4
    sensors = Sensors.of(series)
    assert sensors is not None
    asked = AskedDates.of(series)
    fitted = sensors.fitted(series, PRITHVI_BANDS, asked)
    assert fitted.facts() == sensors.fitted(series, PRITHVI_BANDS, asked).facts()
    assert fitted.facts() != sensors.fitted(series.isel(y=slice(20)), PRITHVI_BANDS, asked).facts()


GRANULES = (
    "HLS.L30.T30SVH.2022145T105621.v2.0", "HLS.S30.T30SVH.2022145T110629.v2.0", "HLS.S30.T30SVH.2022150T110629.v2.0",
    "HLS.L30.T30SVH.2022153T105621.v2.0", "HLS.S30.T30SVH.2022155T110629.v2.0",
)  # fmt: skip


@pytest.fixture
def granules(write_tif: Callable[..., Path], six_bands: np.ndarray, tmp_path: Path) -> dict[str, np.ndarray]:
    """Folders of five granules of 64 x 64 pixels, with the bands that each product has, a cloud in each."""
    found = {}
    for number, name in enumerate(GRANULES):
        (tmp_path / name).mkdir()
        gain = 1.1 if ".S30." in name else 1.0
        found[name] = (six_bands[:, 100:164, 330:394] * gain).round().astype(np.int16)
        fmask = np.zeros((1, 64, 64), np.uint8)
        fmask[0, 10 * number : 10 * number + 20, :30] = 2
        granule = Granule.parse(name)
        for band, pixels in zip(PRITHVI_BANDS, found[name], strict=True):
            write_tif(pixels[None], f"{name}/{granule.file_name(band)}", names=None, nodata=-9999)
        own = ("B05", "B08") if gain > 1 else ("B10",)
        for band in own:
            write_tif(found[name][:1], f"{name}/{name}.{band}.tif", names=None, nodata=-9999)
        write_tif(fmask, f"{name}/{granule.file_name('fmask')}", names=None, scale=None)
    return found


def test_granules_bring_their_sensors_and_the_bands_that_both_have(
    granules: dict[str, np.ndarray], tmp_path: Path
) -> None:
    scene = prithvi.open_scene([tmp_path / name for name in GRANULES])
    assert scene["sensor"].values.tolist() == [name[:7].lower().replace(".", "-") for name in GRANULES]
    assert sorted(scene["band"].values) == sorted(PRITHVI_BANDS)
    alone = prithvi.open_scene([tmp_path / name for name in GRANULES if ".S30." in name])
    assert len(alone["band"]) == 8
    assert alone["sensor"].values.tolist() == [S30] * 3
    (tmp_path / GRANULES[1] / f"{GRANULES[1]}.B03.tif").unlink()
    with pytest.raises(BandError, match="green is not there on every date"):
        prithvi.open_scene([tmp_path / name for name in GRANULES])


@pytest.mark.slow
def test_the_command_line_makes_one_date_of_a_day_and_says_who_saw_it(
    granules: dict[str, np.ndarray], tmp_path: Path, prithvi: Cli
) -> None:
    folders = [tmp_path / name for name in GRANULES]
    apart = prithvi("fill", "--method", "linear", *folders, "-o", tmp_path / "apart", "--no-uncertainty")
    assert apart.code == 0, apart.err
    assert (
        "Note: 2022-05-25 has dates of hls-l30 and hls-s30, which are written apart, each under its time: --target"
        in apart.err
    )
    assert (tmp_path / "apart" / "2022-05-25T105621_source.tif").is_file()
    answer = prithvi("fill", "--method", "linear", *folders, "-o", tmp_path / "out", "--target", "S30")
    assert answer.code == 0, answer.err
    assert "Note: hls-l30 is brought to hls-s30 where it helps" in answer.err
    day = tmp_path / "out" / "2022-05-25.tif"
    with rasterio.open(day) as raster, rasterio.open(day.with_stem("2022-05-25_source")) as mark:
        values, source = raster.read(), mark.read(1)
    clear = np.ones((2, 64, 64), bool)
    clear[0, :20, :30] = clear[1, 10:30, :30] = False
    np.testing.assert_array_equal(source, np.where(clear[1], FROM_S30, np.where(clear[0], FROM_L30, FILLED)))
    np.testing.assert_array_equal(values[:, clear[1]], granules[GRANULES[1]][:, clear[1]])
    taken = ~clear[1] & clear[0]
    assert np.percentile(np.abs(values - granules[GRANULES[1]])[:, taken], 90) < 2
    assert np.percentile(np.abs(granules[GRANULES[0]] - granules[GRANULES[1]])[:, taken], 10) > 20
    wrong = prithvi("fill", "--method", "linear", *folders, "-o", tmp_path / "out", "--target", "landsat")
    assert wrong.code == 2
    assert "the series has no sensor 'landsat'" in wrong.err


def test_real_dates_of_landsat_are_filled_better_from_sentinel_too(shared: Path) -> None:
    """Two winters' dates of Landsat 8, half of each hidden, from its own dates and from those of both."""
    pytest.importorskip("h5py")
    root = shared / "worldcereal_training"
    benchmark("pseudo_labels")
    benchmark("pretraining_sources")
    sources = benchmark("bench_two_sensors")
    series = sources.both_of(root, sources.SITE).sel(time=slice("2018-01-20", "2018-03-20"))
    landsat = np.flatnonzero(series["sensor"].values == "landsat-8")
    known = np.isfinite(series.values).all(axis=1)
    errors: dict[str, list[float]] = {"own": [], "both": []}
    for date in (at for at in landsat if known[at].all()):
        values = series.values.copy()
        values[date, :, :, :32] = np.nan
        hidden = series.copy(data=values)
        for name, part in (("own", hidden.isel(time=landsat)), ("both", hidden)):
            found = prithvi.fill(part, "local_regression", only=series["time"].values[date], uncertainty=False)
            image = found["image"].values[0]
            np.testing.assert_array_equal(image[:, :, 32:], series.values[date, :, :, 32:])
            errors[name].append(float(np.abs(image - series.values[date])[:, :, :32].mean()))
            assert ("source" in found) == (name == "both")
    assert len(errors["own"]) == 2
    assert np.mean(errors["both"]) < 0.9 * np.mean(errors["own"])
    assert found["source"].attrs["flag_meanings"] == "filled landsat-8 sentinel-2 nothing"
    assert set(np.unique(found["source"].values)) == {FILLED, 1}
