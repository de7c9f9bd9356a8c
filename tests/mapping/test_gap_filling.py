"""`prithvi.fill`: observed values stay, gaps are filled, and the answer is the same however the series came."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import BandError, ConfigError, ModelError, ScaleError, SceneError
from prithvi.mapping import fill_series, with_model
from prithvi.mapping.fillers import fill_window
from prithvi.mapping.window_filling import AT_ONCE
from prithvi.modelio import save_pretrained
from prithvi.modelio.predictor import FittedModel
from prithvi.models import GapFiller, PrithviMAE, build

NONE = np.float32(np.nan)


def mean_of_others(image: np.ndarray, known: np.ndarray, times: np.ndarray, where: tuple[float, float]) -> np.ndarray:
    """The mean of the dates that know a pixel: a function of its pixel alone, so that all windows agree."""
    count = known.sum(axis=0)
    total = np.where(known, image, 0).astype(np.float64).sum(axis=1)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.where(known, image, mean[:, None]).astype(np.float32)


def series_of(image: np.ndarray, known: np.ndarray, **more: Any) -> xr.DataArray:
    """(T, band, y, x) reflectance x 10,000 that says so, NaN where not known."""
    dtype, stated = np.result_type(image.dtype, np.float32), {"gain": 1e-4, "bias": 0.0}
    values = np.where(known[:, None], image, NONE).astype(dtype)
    return xr.DataArray(values, dims=("time", "band", "y", "x"), attrs=stated, **more)


@pytest.fixture(scope="module")
def real(six_bands: np.ndarray) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Dates made of the sample: values (T, 6, y, x) float32 and (T, y, x) what is known of them."""

    def make(dates: int, height: int, width: int, first: int = 120) -> tuple[np.ndarray, np.ndarray]:
        base = six_bands[:, first : first + height, 330 : 330 + width].astype(np.float32)
        image = np.stack([base * (1 + 0.1 * np.sin(date)) for date in range(dates)])
        y, x = np.mgrid[:height, :width]
        radius = max(3, min(height, width) // 5)
        known = np.stack([
            (y - (3 + 7 * date) % height) ** 2 + (x - (5 + 11 * date) % width) ** 2 > radius**2 for date in range(dates)
        ])  # fmt: skip
        return image, known

    return make


def check(result: xr.Dataset, series: xr.DataArray) -> None:
    """What every answer promises."""
    image, filled, unsure = (
        result[name].transpose("time", ..., "y", "x").values for name in ("image", "filled", "uncertainty")
    )
    given = series.transpose("time", "band", "y", "x").values
    known = np.isfinite(given)
    np.testing.assert_array_equal(image[known], given[known])
    assert (unsure[known] == 0).all()
    said = np.isfinite(image)
    assert (filled == (said.all(axis=1) & ~known.all(axis=1))).all()
    new = said & ~known
    assert (unsure[new & np.isfinite(unsure)] > 0).all()
    assert np.isnan(unsure[~said]).all()
    assert result["filled"].dtype == bool


@pytest.mark.parametrize("cases", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_any_size_and_any_holes_keep_what_was_observed(cases: int) -> None:
    settings(max_examples=cases, deadline=None)(given(data=st.data())(keeps_what_was_observed))()


def keeps_what_was_observed(data: st.DataObject) -> None:
    dates, bands, height, width = (data.draw(st.integers(*ends)) for ends in ((2, 7), (1, 3), (1, 40), (1, 40)))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    kind = np.dtype(data.draw(st.sampled_from(["float32", "float64"])))
    image = random.uniform(-100, 9000, (dates, bands, height, width)).astype(kind)
    holes = random.random((dates, 1, height, width)) < random.random((dates, 1, 1, 1)) * 1.2
    single = random.random(image.shape) < 0.02  # a band alone
    series = xr.DataArray(np.where(holes | single, np.nan, image).astype(kind), dims=("time", "band", "y", "x"))
    window = data.draw(st.integers(3, 30))
    result = prithvi.fill(series, mean_of_others, window=window)
    check(result, series)
    assert result["image"].dtype == kind
    # The dates that are together near enough hold every pixel that any of them knows as a whole.
    if dates <= 3:
        somewhere = np.isfinite(series.values).all(axis=1).any(axis=0)
        assert np.isfinite(result["image"].values[:, :, somewhere]).all()
        nowhere = ~somewhere[None] & ~np.isfinite(series.values).all(axis=1)
        assert not result["filled"].values[nowhere].any()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 30), (50, 41), (70, 90), (131, 20)])
def test_the_model_fills_every_size(height: int, width: int, real) -> None:  # type: ignore[no-untyped-def]
    image, known = real(3, height, width)
    series = series_of(image, known)
    result = prithvi.fill(series)
    check(result, series)
    assert np.isfinite(result["image"].values).all()
    assert (result["filled"].values == ~known).all()
    error = np.abs(result["image"].values - image)[np.broadcast_to(~known[:, None], image.shape)].mean()
    assert error < 0.12 * image.mean()


def test_a_partly_known_pixel_keeps_the_bands_it_has(real) -> None:  # type: ignore[no-untyped-def]
    image, known = real(3, 32, 32)
    series = series_of(image, known)
    series[1, 2, 20:24, 20:24] = np.nan
    result = prithvi.fill(series)
    check(result, series)
    here = result.isel(time=1, y=slice(20, 24), x=slice(20, 24))
    assert here["filled"].values.all()
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(here["image"].values[others], image[1, others, 20:24, 20:24])
    assert (here["uncertainty"].values[others] == 0).all()
    assert (here["uncertainty"].values[2] > 0).all()


@pytest.mark.parametrize("dates", [2, 3, 5, 9])
def test_dates_without_a_clear_pixel_are_filled(dates: int, real) -> None:  # type: ignore[no-untyped-def]
    image, known = real(dates, 40, 40)
    known[1:-1] = False  # in a row, longer than what is seen together
    known[-1] = dates == 2 and known[-1]
    result = prithvi.fill(series_of(image, known))
    assert np.isfinite(result["image"].values).all()
    assert result["filled"].values[1:-1].all()


def test_a_place_without_data_stays_without(real) -> None:  # type: ignore[no-untyped-def]
    image, known = real(3, 40, 100)
    known[:, :, 64:] = False
    series = series_of(image, known)
    result = prithvi.fill(series, mean_of_others, window=16, stride=16)
    check(result, series)
    assert np.isnan(result["image"].values[..., 64:]).all()
    assert np.isnan(result["uncertainty"].values[..., 64:]).all()
    assert not result["filled"].values[..., 64:].any()
    nothing = series_of(image, np.zeros_like(known))
    for each in (prithvi.fill(nothing, mean_of_others), prithvi.fill(nothing.chunk(), mean_of_others).compute()):
        assert np.isnan(each["image"].values).all()
        assert np.isnan(each["uncertainty"].values).all()
        assert not each["filled"].values.any()
    for each in (nothing, nothing.chunk()):
        with pytest.raises(SceneError, match="has no pixel with data in every band"):
            prithvi.fill(each, "linear")


def test_windows_that_say_nothing_do_not_silence_those_beside_them() -> None:
    def only_where_much_is_known(image, known, times, where):  # type: ignore[no-untyped-def]
        found = mean_of_others(image, known, times, where)
        return found if known.mean() > 0.5 else np.where(known, image, NONE)

    known = np.ones((2, 16, 48), bool)
    known[:, :, :20] = False
    known[0, :, 18:20] = True
    image = np.full((2, 1, 16, 48), 500.0, np.float32)
    found = prithvi.fill(series_of(image, known), only_where_much_is_known, window=16, stride=8)
    np.testing.assert_allclose(found["image"].values[:, :, :, 18:], 500, rtol=1e-6)
    assert np.isnan(found["image"].values[..., :16]).all()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small gap filler as `prithvi fit` leaves it, made for two dates."""
    torch.manual_seed(0)
    mae = build("prithvi_hls_tiny", num_frames=2, img_size=32, embed_dim=32, depth=1, num_heads=2).eval()
    record = {"gap filling": {"touched": "visible", "landmarks": 64}}
    return save_pretrained(mae, tmp_path_factory.mktemp("models") / "filler", record)


def named(image: np.ndarray, known: np.ndarray, days: list[str] | None = None) -> xr.DataArray:
    dates = days or [f"2022-0{1 + date}-11" for date in range(len(image))]
    series = series_of(image, known, coords={
        "time": np.array(dates, "datetime64[ns]"), "band": list(PRITHVI_BANDS),
        "y": 4_500_000 - 30.0 * np.arange(image.shape[2]), "x": 600_000 + 30.0 * np.arange(image.shape[3]),
    })  # fmt: skip
    return series.rio.write_crs("EPSG:32631")


@pytest.mark.slow
def test_eager_lazy_and_files_are_the_same(real, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("prithvi.mapping.engine.ROWS", 30)  # several blocks
    image, known = real(AT_ONCE + 2, 70, 30)
    image = image.round()
    series = named(image, known)
    series[2, 3, 50:54, 10:20] = np.nan  # a band alone
    eager = prithvi.fill(series, small, together=3)
    lazy = prithvi.fill(series.chunk({"time": 1, "y": 33}), small, together=3)
    assert all(dask.is_dask_collection(lazy[name].data) for name in lazy.data_vars)
    xr.testing.assert_identical(eager, lazy.compute())
    check(eager, series)
    assert eager["filled"].sum() == (~np.isfinite(series.values)).any(axis=1).sum()
    part = {"y": slice(50, 70), "x": slice(3, 9), "time": [4]}
    again = prithvi.fill(series.chunk({"x": 20}), small, together=3).isel(part)
    xr.testing.assert_identical(again.compute(), eager.isel(part))

    stated = series.assign_attrs(gain=1e-4, bias=0.0, shape=(70, 30))
    result = fill_series(stated, tmp_path / "files", small, together=3)
    eager.prithvi.to_cog(tmp_path / "arrays")
    for number, day in enumerate(series["time"].dt.strftime("%Y-%m-%d").values):
        with rasterio.open(tmp_path / "files" / f"{day}.tif") as raster:
            assert raster.descriptions == PRITHVI_BANDS
            values = raster.read()
        with rasterio.open(tmp_path / "files" / f"{day}_uncertainty.tif") as raster:
            unsure = raster.read()
        with rasterio.open(tmp_path / "files" / f"{day}_filled.tif") as raster:
            marks = raster.read(1)
        np.testing.assert_array_equal(values, np.round(eager["image"].values[number]))
        np.testing.assert_array_equal(unsure, np.ceil(eager["uncertainty"].values[number]))
        np.testing.assert_array_equal(marks, eager["filled"].values[number])
        for name, expected in (("", values), ("_uncertainty", unsure), ("_filled", marks[None])):
            with rasterio.open(tmp_path / "arrays" / f"{day}{name}.tif") as raster:
                np.testing.assert_array_equal(raster.read(), expected)
                assert raster.tags()["PRITHVI_MODEL"] == str(small)
                assert len(raster.tags()["PRITHVI_WEIGHTS_SHA256"]) == 64
    assert result.filled == int(eager["filled"].sum())
    assert result.observed + result.filled == eager["filled"].size


def test_of_a_lazy_series_a_sample_is_read_before_it_is_asked_for() -> None:
    import dask.array as da

    read: list[tuple[int, ...]] = []

    def count(block: np.ndarray) -> np.ndarray:
        read.append(block.shape)
        return block

    whole = (5, 6, 2048, 512)
    pixels = da.full(whole, 800, chunks=(1, 6, 256, 256), dtype=np.float32).map_blocks(
        count, dtype=np.float32, meta=np.empty((0, 0, 0, 0), np.float32)
    )
    series = xr.DataArray(pixels, dims=("time", "band", "y", "x"), attrs={"gain": 1e-4})
    for model in ("prithvi_hls_tiny", "linear"):
        read.clear()
        lazy = prithvi.fill(series, model, clear=xr.DataArray(np.ones((5, 2048, 512), bool), dims=("time", "y", "x")))
        assert dask.is_dask_collection(lazy["image"].data)
        assert 0 < sum(map(np.prod, read)) < 0.25 * np.prod(whole)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("int16", "float32"), ("uint16", "float32"), ("int32", "float64"), ("float32", "float32"), ("float64", "float64")],
)
def test_values_stay_themselves_in_every_type(kind: str, answer: str) -> None:
    random = np.random.default_rng(0)
    image = (random.random((2, 2, 20, 20)) * (2**31 - 1 if kind == "int32" else 32_767)).astype(kind)
    clear = random.random((2, 20, 20)) < 0.7
    clear[0, :5] = clear[1, :5] = False
    series = xr.DataArray(image, dims=("time", "band", "y", "x"))
    mask = xr.DataArray(clear, dims=("time", "y", "x"))
    result = prithvi.fill(series, mean_of_others, clear=mask)
    assert result["image"].dtype == answer
    assert isinstance(result["image"].data, np.ndarray)
    kept = np.broadcast_to(clear[:, None], image.shape)
    np.testing.assert_array_equal(result["image"].values[kept], image[kept])
    assert (result["filled"].values == (~clear & clear.any(axis=0))).all()
    turned = prithvi.fill(series, mean_of_others, clear=mask.transpose("x", "time", "y"))
    xr.testing.assert_identical(turned, result)
    lazy = prithvi.fill(series, mean_of_others, clear=mask.chunk())
    xr.testing.assert_identical(lazy.compute(), result)
    with pytest.raises(SceneError, match="do not lie on one grid"):
        prithvi.fill(series, mean_of_others, clear=mask[:, 1:])
    with pytest.raises(SceneError, match="are a ndarray"):
        prithvi.fill(series, mean_of_others, clear=mask.values)


def test_dimensions_and_coordinates_are_those_of_the_series(real) -> None:  # type: ignore[no-untyped-def]
    image, known = real(3, 40, 30)
    series = named(image, known)
    plain = prithvi.fill(series)
    turned = prithvi.fill(series.transpose("y", "band", "x", "time"))
    assert turned["image"].dims == turned["uncertainty"].dims == ("y", "band", "x", "time")
    assert turned["filled"].dims == ("y", "x", "time")
    xr.testing.assert_identical(turned.transpose("time", "band", "y", "x"), plain)
    assert plain["image"].rio.crs == series.rio.crs
    for name in ("time", "band", "y", "x"):
        xr.testing.assert_identical(plain[name], series[name])
    assert plain["image"].attrs == series.attrs


def test_weights_of_any_name_are_recorded_by_their_hash(tmp_path: Path) -> None:
    """Published weights are single files, or lie in a folder under a name of their own."""
    folder = shutil.copytree(Path(prithvi.__file__).parent / "weights" / "prithvi_hls_tiny", tmp_path / "tiny")
    weights = (folder / "model.safetensors").rename(folder / "Prithvi_tiny.safetensors")
    assert with_model(folder).sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert with_model("prithvi_hls_tiny").sha256 == with_model(folder).sha256


def test_bands_are_found_by_name(real) -> None:  # type: ignore[no-untyped-def]
    image, known = real(3, 32, 32)
    series = named(image, known)
    more = xr.concat([series.sel(band=["swir_1"]).assign_coords(band=["thermal"]), series[:, ::-1]], dim="band")
    model = "prithvi_hls_tiny"
    xr.testing.assert_equal(prithvi.fill(more, model), prithvi.fill(series, model))
    with pytest.raises(BandError, match="the series lacks red, swir_2; it has blue, "):
        prithvi.fill(series.sel(band=["blue", "green", "nir_narrow", "swir_1"]), model)
    with pytest.raises(BandError, match="5 bands without names"):
        prithvi.fill(series_of(image, known)[:, :5], model)


def test_dates_and_place_are_used_where_they_are_there(real) -> None:  # type: ignore[no-untyped-def]
    image, known = real(4, 24, 24)
    seen: list[tuple[np.ndarray, tuple[float, float]]] = []

    def look(image, known, times, where):  # type: ignore[no-untyped-def]
        seen.append((times, where))
        return mean_of_others(image, known, times, where)

    prithvi.fill(series_of(image, known), look, uncertainty=False)
    assert np.isnan([where for _, where in seen]).all()
    assert np.isnan([times for times, _ in seen]).all()
    seen.clear()
    prithvi.fill(series_of(image, known, coords={"time": [3, 1, 2, 9]}), look, uncertainty=False)
    assert np.isnan([times for times, _ in seen]).all()  # numbers are no dates
    seen.clear()
    series = named(image, known, ["2022-03-01", "2021-12-31", "2022-01-02", "2022-02-01"])  # out of order
    found = prithvi.fill(series, look, together=2, uncertainty=False)
    assert np.allclose(seen[0][1], (40.65, 4.19), atol=0.01)
    assert {tuple(map(tuple, times)) for times, _ in seen} == {
        ((2021, 364), (2022, 1)), ((2022, 1), (2022, 31)), ((2022, 31), (2022, 59)),
    }  # fmt: skip
    ordered = prithvi.fill(series.sortby("time"), look, together=2, uncertainty=False)
    xr.testing.assert_identical(found.sortby("time"), ordered)


def test_a_model_comes_by_name_folder_object_or_function(real, small: Path, fitted: FittedModel) -> None:  # type: ignore[no-untyped-def]
    image, known = real(3, 32, 32)
    series = series_of(image, known)
    by_name = prithvi.fill(series, "prithvi_hls_tiny")
    for model in (prithvi.load("prithvi_hls_tiny"), prithvi.load("prithvi_hls_tiny", num_frames=3)):
        xr.testing.assert_equal(prithvi.fill(series, model), by_name)
    xr.testing.assert_equal(prithvi.fill(series, with_model("prithvi_hls_tiny")), by_name)

    folder, mae = small, prithvi.load(small)
    assert isinstance(mae, PrithviMAE)
    how = with_model(folder)
    assert (how.filler.touched, how.filler.landmarks, how.window, how.dates) == ("visible", 64, 32, 2)
    assert how.sha256 == json.loads((folder / "config.json").read_text())["weights_sha256"]
    expected = prithvi.fill(series, GapFiller(mae, "visible", 64))
    for model in (folder, str(folder)):
        xr.testing.assert_equal(prithvi.fill(series, model), expected)
    assert not expected.equals(prithvi.fill(series, mae))  # what is not said is hidden
    assert prithvi.fill(series, folder).attrs["PRITHVI_WEIGHTS_SHA256"] == how.sha256
    sent = pickle.loads(pickle.dumps(how))  # to a worker of Dask's
    xr.testing.assert_equal(prithvi.fill(series, sent), expected)
    with pytest.raises(ModelError, match="gaps are filled by"):
        prithvi.fill(series, fitted)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="there is no model"):
        prithvi.fill(series, "prithvi_hls_tinny")


def test_what_open_scene_gives_is_brought_to_the_models_units(real) -> None:  # type: ignore[no-untyped-def]
    image, known = real(3, 32, 32)
    series = named(image, known)
    with pytest.warns(UserWarning, match=r"is taken for value x 1, and it states value x 0\.0001"):
        scene = prithvi.open_scene(series / 1e4, scale=1.0)  # xarray keeps the scale that the array stated
    result = prithvi.fill(scene)
    np.testing.assert_allclose(result["image"].values, prithvi.fill(series)["image"].values, rtol=1e-4)
    again = prithvi.fill(result["image"])  # the answer is a scene in its own units
    np.testing.assert_array_equal(again["image"].values, result["image"].values)
    with pytest.raises(ScaleError, match="too small"):
        prithvi.fill(prithvi.open_scene(series / 1e4, scale=10_000))


def test_what_does_not_fit_is_one_sentence(real) -> None:  # type: ignore[no-untyped-def]
    image, known = real(3, 32, 32)
    series = series_of(image, known)
    with pytest.raises(SceneError, match="has 1 date, and a gap is filled from others"):
        prithvi.fill(series[:1])
    with pytest.raises(SceneError, match=r"the dimensions \(band, y, x\); a series has \(time, band, y, x\)"):
        prithvi.fill(series[0])
    with pytest.raises(ModelError, match=r"the method gave the shape \(6, 2, 32, 32\) for pixels of \(6, 3, 32, 32\)"):
        prithvi.fill(series, lambda image, *_: image[:, :2])
    with pytest.raises(SceneError, match=r"32 x 3 pixels, fewer than one patch of the model \(8\)"):
        prithvi.fill(series[..., :3], "prithvi_hls_tiny")
    with pytest.raises(ConfigError, match=r"windows of 30 pixels are not whole patches of the model \(8\)"):
        prithvi.fill(series, "prithvi_hls_tiny", window=30)
    with pytest.raises(ConfigError, match="at least one other"):
        prithvi.fill(series, together=1)


def test_a_flat_series_is_never_said_to_be_certain() -> None:
    known = np.ones((2, 16, 16), bool)
    known[0, 4:9, 4:9] = False
    found = fill_window(mean_of_others, np.full((1, 2, 16, 16), 700, np.float32), known, np.zeros((2, 2)), (0.0, 0.0))  # type: ignore[arg-type]
    assert (found.uncertainty[0][~known] > 0).all()
    assert (found.uncertainty[0][known] == 0).all()


def test_uncertainty_is_the_error_under_mirrored_gaps() -> None:
    """A method that is off by a known amount says so."""

    def off(image, known, times, where):  # type: ignore[no-untyped-def]
        return np.where(known, image, image_of_truth + np.float32([[3], [5]])[:, :, None, None])

    image_of_truth = np.random.default_rng(0).uniform(100, 900, (2, 3, 24, 24)).astype(np.float32)
    known = np.ones((3, 24, 24), bool)
    known[1, :8, :10] = False
    known[2] = False  # nothing to hide here: judged by the others under its gap
    hidden = np.where(known, image_of_truth, NONE)
    found = fill_window(off, hidden, known, np.zeros((3, 2), np.float32), (0.0, 0.0))
    for band, error in enumerate((3, 5)):
        np.testing.assert_allclose(found.uncertainty[band][~known], error, rtol=1e-4)
    np.testing.assert_array_equal(found.image[:, known], image_of_truth[:, known])
    alone = np.array([[True] * 4, [False] * 4]).reshape(2, 2, 2)
    nobody = fill_window(mean_of_others, image_of_truth[:, :2, :2, :2], alone, np.zeros((2, 2)), (0.0, 0.0))  # type: ignore[arg-type]
    assert np.isfinite(nobody.image).all()
    assert np.isnan(nobody.uncertainty[:, 1]).all()  # it cannot be known


def test_the_documented_code_runs(real, write_tif, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    text = (Path(__file__).parents[2] / "docs" / "gap_filling.md").read_text(encoding="utf-8")
    image, known = real(3, 40, 40)
    for letter, pixels, there in zip("abc", image, known, strict=True):
        write_tif(pixels.round().clip(1, 9000).astype(np.int16), f"{letter}.tif", nodata=-9999)
        write_tif((~there[None]).astype(np.uint8), f"{letter}_clouds.tif", names=None, scale=None)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    found: list[dict[str, Any]] = []
    for block in blocks:
        names: dict[str, Any] = {}
        exec(block, names)
        found.append(names)
        if "series" in names:  # what the command before the last block writes
            fill_series(names["series"], "filled.zarr", "linear", masks=names["clouds"])
    filled = found[0]["filled"].compute()
    assert (filled["filled"].values == ~known).all()
    assert len(list((tmp_path / "filled").glob("*.tif"))) == 9
    assert found[1]["filled"].shape == (1, 6, 3, 64, 64)
    assert found[2]["cube"]["image"].sizes == {"time": 3, "band": 6, "y": 40, "x": 40}
