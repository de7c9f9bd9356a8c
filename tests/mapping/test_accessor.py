"""`.prithvi` of results: the files are those that the functions for files write."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from affine import Affine
from rasterio.errors import RasterioIOError
from rio_cogeo.cogeo import cog_validate

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.contract import Contract, Quantity
from prithvi.errors import ConfigError, OutputError, SceneError
from prithvi.mapping import Products, composite, embed_scene, engine, fill_series, map_scene, mappable_module
from prithvi.mapping.methods import GAP_METHODS
from prithvi.modelio.predictor import FittedModel
from prithvi.scenes import open_scene
from tests.stac_schemas import read, validate

Write = Callable[..., Path]
DAY = "2019-09-18"
THERE = Affine(10, 0, 5, 0, -10, 7)
ROTATED = Affine.translation(600_000, 4_200_000) @ Affine.rotation(30) @ Affine.scale(10, -10)


class Mean(torch.nn.Module):
    """The mean of all bands."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=1).nan_to_num(0)


@pytest.fixture
def scene(six_bands: np.ndarray, write_tif: Write, monkeypatch: pytest.MonkeyPatch) -> xr.DataArray:
    """A lazy scene with holes, whose answers come in several blocks."""
    monkeypatch.setattr(engine, "ROWS", 48)
    pixels = six_bands[:, :150, 200:330].copy()
    pixels[:, 60:90, 20:] = -9999
    return open_scene(write_tif(pixels, nodata=-9999), dates=[DAY])


def told(path: Path) -> dict[str, Any]:
    """All that a raster says, but for what made it and for the check of embeddings, which arrays have not."""
    with rasterio.open(path) as raster:
        tags = raster.tags()
        for key in ("PRITHVI_COMMAND", "PRITHVI_RUN", "PRITHVI_CHECKED"):
            tags.pop(key, None)
        first = raster.colorinterp[0].name
        return {
            "pixels": raster.read(), "tags": tags, "profile": dict(raster.profile), "names": raster.descriptions,
            "scales": raster.scales, "units": raster.units, "overviews": raster.overviews(1),
            "colours": raster.colormap(1) if first == "palette" else None,
        }  # fmt: skip


def same(found: Path, expected: Path) -> None:
    first, second = told(found), told(expected)
    np.testing.assert_array_equal(first.pop("pixels"), second.pop("pixels"))
    assert str(first) == str(second)  # nodata may be NaN
    assert cog_validate(found)[:2] == (True, [])


@pytest.mark.parametrize("lazy", [False, True])
def test_a_class_map_is_that_of_map_scene(lazy: bool, scene: xr.DataArray, fitted: FittedModel, tmp_path: Path) -> None:
    expected = map_scene(fitted, scene, tmp_path / "b" / "map.tif", products=Products(confidence=True)).path
    result = prithvi.map(scene if lazy else scene.compute(), fitted)
    path = result.prithvi.to_cog(tmp_path / "a" / "map.tif", confidence=True)
    same(path, expected)
    same(tmp_path / "a" / "map_confidence.tif", tmp_path / "b" / "map_confidence.tif")
    assert told(path)["colours"][1] == (0x2B, 0x6C, 0xB0, 255)
    categories = (tmp_path / "a" / "map.tif.aux.xml").read_text()
    assert categories == (tmp_path / "b" / "map.tif.aux.xml").read_text()
    assert sorted(file.name for file in path.parent.iterdir()) == ["map.tif", "map.tif.aux.xml", "map_confidence.tif"]
    assert [file.name for file in result.prithvi.to_cog(tmp_path / "c" / "map.tif").parent.iterdir()].count("map.tif")
    assert not (tmp_path / "c" / "map_confidence.tif").exists()


def test_a_quantity_and_embeddings_are_those_of_their_functions(
    scene: xr.DataArray, fitted: FittedModel, tmp_path: Path
) -> None:
    contract = Contract(PRITHVI_BANDS, (0.0,) * 6, (1.0,) * 6)
    biomass = Quantity("biomass", mean=10.0, std=0.5, unit="t/ha")
    expected = map_scene(
        mappable_module(Mean(), contract, quantity=biomass, window=32), scene, tmp_path / "b" / "value.tif"
    ).path
    result = prithvi.map(scene, Mean(), contract=contract, quantity=biomass, window=32)
    same(result.prithvi.to_cog(tmp_path / "a" / "value.tif"), expected)
    assert told(expected)["units"] == ("t/ha",)
    expected = embed_scene(fitted, scene, tmp_path / "b" / "e.tif")
    same(prithvi.embed(scene, fitted).prithvi.to_cog(tmp_path / "a" / "e.tif"), expected)


def test_a_filled_series_is_that_of_fill_series(six_bands: np.ndarray, write_tif: Write, tmp_path: Path) -> None:
    pixels = np.stack([six_bands[:, 40 * step : 40 * step + 64, :64] for step in range(3)])
    pixels[1, :, 10:30, 20:50] = -9999
    files = [write_tif(pixels[step], f"{step}.tif", nodata=-9999) for step in range(3)]
    series = open_scene(files, dates=["2022-05-01", "2022-05-11", "2022-05-21"])

    def linear(image: Any, known: Any, times: Any, place: Any) -> Any:
        from prithvi.mapping.methods import days_of

        return (1e4 * GAP_METHODS["linear"](image / 1e4, known, days_of(times))).astype("float32")

    fill_series(series, tmp_path / "b", linear, window=32, uncertainty=False)
    folder = prithvi.fill(series, linear, window=32, uncertainty=False).prithvi.to_cog(tmp_path / "a")
    names = sorted(path.name for path in (tmp_path / "b").glob("*.tif"))
    assert len(names) == 6
    assert sorted(path.name for path in folder.glob("*.tif")) == names
    for name in names:
        np.testing.assert_array_equal(told(folder / name)["pixels"], told(tmp_path / "b" / name)["pixels"])


def means(image: Any, known: Any, times: Any, place: Any) -> Any:
    """The mean of the dates that know a pixel, in whatever units."""
    total, count = np.where(known, image, 0).astype(np.float64).sum(axis=1, keepdims=True), known.sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.where(known, image, mean).astype(np.float32)


@pytest.mark.parametrize(("gain", "bias"), [(1e-4, 0.0), (1.0, 0.0), (1e-4, -0.1), (2.75e-5, -0.2)])
def test_a_filled_series_is_written_as_reflectance_whatever_its_units(gain: float, bias: float, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    reflectance = random.uniform(0.02, 0.6, (3, 6, 32, 32))
    days = np.array(["2022-05-01", "2022-05-11", "2022-05-21"], "datetime64[ns]")
    gaps = np.zeros((3, 1, 32, 32), bool)
    gaps[1, :, 5:20, 8:30] = True
    values = np.where(gaps, np.nan, (reflectance - bias) / gain).astype(np.float32)
    series = xr.DataArray(
        values, dims=("time", "band", "y", "x"), coords={"time": days, "band": list(PRITHVI_BANDS)},
        attrs={"gain": gain, "bias": bias},
    ).rio.write_crs("EPSG:32630").rio.write_transform(THERE)  # fmt: skip
    expected = np.where(gaps, reflectance[[0, 2]].mean(axis=0), reflectance)
    folder = prithvi.fill(series, means, window=16).prithvi.to_cog(tmp_path / "filled")
    deviation = prithvi.fill(series, means, window=16)["uncertainty"].values * gain
    for number, day in enumerate(("2022-05-01", "2022-05-11", "2022-05-21")):
        with rasterio.open(folder / f"{day}.tif") as raster:
            assert np.abs(raster.read() * raster.scales[0] + raster.offsets[0] - expected[number]).max() < 6e-5
        with rasterio.open(folder / f"{day}_uncertainty.tif") as raster:
            difference = raster.read() * raster.scales[0] - deviation[number]
            assert (difference > -1e-6).all()  # rounded up
            assert (difference < 1.1e-4).all()


def test_a_series_of_unknown_units_or_dates_is_not_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.uniform(0.02, 0.6, (2, 6, 32, 32)).astype(np.float32)
    values[0, :, 3:9, 3:9] = np.nan
    days = np.array(["2022-05-01", "2022-05-11"], "datetime64[ns]")
    series = xr.DataArray(values, dims=("time", "band", "y", "x"), coords={"time": days, "band": list(PRITHVI_BANDS)})
    result = prithvi.fill(series.rio.write_crs("EPSG:32630").rio.write_transform(THERE), means, window=16)
    with pytest.raises(SceneError, match=r"state it with result\['image'\]\.attrs\.update\(gain=\.\.\., bias=\.\.\.\)"):
        result.prithvi.to_cog(tmp_path)
    result["image"].attrs.update(gain=1.0, bias=0.0)
    with rasterio.open(result.prithvi.to_cog(tmp_path) / "2022-05-11.tif") as raster:
        np.testing.assert_allclose(raster.read() * 1e-4, values[1], atol=6e-5)
    with pytest.raises(SceneError, match="written date by date, and this one has no dates: give it a `time`"):
        result.assign_coords(time=[1, 2]).prithvi.to_cog(tmp_path)
    told = result.assign_coords(time=[1, 2]).assign_coords(time=days).prithvi.to_cog(tmp_path / "dated")
    assert (told / "2022-05-01.tif").is_file()


@pytest.mark.slow
def test_rows_are_written_as_they_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ROWS", 64)
    contract = Contract(PRITHVI_BANDS, (0.0,) * 6, (1.0,) * 6)
    peaks = []
    for height in (512, 2048):
        pixels = da.random.default_rng(0).uniform(500, 3000, (1, 6, height, 1024), chunks=(1, 6, 64, 1024)).astype("f4")
        lazy = xr.DataArray(
            pixels, dims=("time", "band", "y", "x"), coords={"band": list(PRITHVI_BANDS)}, attrs={"gain": 1e-4}
        )
        lazy = lazy.rio.write_crs("EPSG:32630").rio.write_transform(Affine(10, 0, 600_000, 0, -10, 4_200_000))
        result = prithvi.map(lazy, Mean(), contract=contract, quantity=Quantity("mean", 0, 1), window=64)
        tracemalloc.start()
        result.prithvi.to_cog(tmp_path / "value.tif")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 4_000_000  # pixels take 38 million bytes more, values 6


def test_the_stac_item_is_valid_and_that_of_map_scene(scene: xr.DataArray, fitted: FittedModel, tmp_path: Path) -> None:
    map_scene(fitted, scene, tmp_path / "b" / "map.tif", products=Products(confidence=True, item=True))
    result = prithvi.map(scene, fitted)
    path = result.prithvi.to_cog(tmp_path / "a" / "map.tif", confidence=True)
    item = result.prithvi.to_stac(path)
    plain, expected = read(path.with_suffix(".json")), read(tmp_path / "b" / "map.json")
    assert item.id == "map"
    assert item.get_self_href() == str(path.with_suffix(".json"))
    assert set(plain["assets"]) == {"classes", "confidence"}
    for told in (plain, expected):
        told["properties"].pop("processing:lineage")
    assert plain == expected
    validate(plain)


def test_polygons_cover_the_map_s_area(scene: xr.DataArray, fitted: FittedModel, tmp_path: Path) -> None:
    result = prithvi.map(scene, fitted)
    path = result.prithvi.to_vectors(tmp_path / "flood.parquet")
    found = gpd.read_parquet(path)
    assert found.crs == scene.rio.crs
    for value, name in enumerate(("land", "water")):
        count = int((result["class"] == value).sum())
        assert found[found["name"] == name].geometry.area.sum() == pytest.approx(100 * count)
    assert found["confidence"].between(0.5, 1).all()
    assert list(tmp_path.glob("*.tif")) == [tmp_path / "scene.tif"]
    few = gpd.read_parquet(result.prithvi.to_vectors(tmp_path / "few.parquet", minimum_area=2000, names=["water"]))
    assert 0 < len(few) < len(found)
    assert set(few["name"]) == {"water"}
    with pytest.raises(ConfigError, match="this dataset has no class map"):
        prithvi.embed(scene, fitted).prithvi.to_vectors(tmp_path / "e.parquet")


def test_what_cannot_be_is_said_in_a_sentence(
    scene: xr.DataArray, fitted: FittedModel, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    result, vectors_of = prithvi.map(scene, fitted), prithvi.embed(scene, fitted)
    with pytest.raises(ConfigError, match=r"a GeoTIFF is written here: name .*map\.png \.tif"):
        result.prithvi.to_cog(tmp_path / "map.png")
    with pytest.raises(ConfigError, match="none of other is a map, a series or an embedding"):
        xr.Dataset({"other": result["class"]}).prithvi.to_cog(tmp_path / "map.tif")
    with pytest.raises(ConfigError, match="this dataset has no class map"):
        _ = vectors_of.prithvi.classes
    with pytest.raises(ConfigError, match="is written of maps"):
        vectors_of.prithvi.to_stac(tmp_path / "scene.tif")
    with pytest.raises(SceneError, match=r"there is no file .*map\.tif: write it first"):
        result.prithvi.to_stac(tmp_path / "map.tif")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        result.prithvi.to_cog(tmp_path / "file" / "map.tif")
    undated = prithvi.map(open_scene(write_tif(six_bands[:, :64, :64], "undated.tif")), fitted)
    path = undated.prithvi.to_cog(tmp_path / "map.tif")
    with pytest.raises(SceneError, match="a STAC item needs a date"):
        undated.prithvi.to_stac(path)


def test_a_part_of_a_result_keeps_its_place(
    scene: xr.DataArray, fitted: FittedModel, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    result = prithvi.map(scene, fitted)
    path = result.isel(y=slice(40, 110), x=slice(7, 60)).prithvi.to_cog(tmp_path / "part.tif")
    with rasterio.open(path) as made:
        assert made.transform == result.rio.transform() @ Affine.translation(7, 40)
        np.testing.assert_array_equal(made.read(1), result["class"][40:110, 7:60])
    turned = open_scene(write_tif(six_bands[:, :64, :64], "turned.tif", transform=ROTATED), dates=[DAY])
    for whole in (prithvi.map(turned, fitted), prithvi.embed(turned, fitted)):
        whole.prithvi.to_cog(tmp_path / "whole.tif")
        path = whole.isel(y=slice(1, 3), x=slice(1, None)).prithvi.to_cog(tmp_path / "part.tif")
        with rasterio.open(path) as part, rasterio.open(tmp_path / "whole.tif") as made:
            assert part.transform.almost_equals(made.transform @ Affine.translation(1, 1), precision=1e-6)
            np.testing.assert_array_equal(part.read(1), made.read(1)[1:3, 1:])
    below = prithvi.map(turned.isel(y=slice(16, None)), fitted)
    with rasterio.open(below.prithvi.to_cog(tmp_path / "below.tif")) as part:
        assert part.transform.almost_equals(ROTATED @ Affine.translation(0, 16), precision=1e-6)


def test_where_xarray_has_put_nan_there_is_no_data(scene: xr.DataArray, fitted: FittedModel, tmp_path: Path) -> None:
    result = prithvi.map(scene, fitted).compute()
    kept = result.where(xr.DataArray(np.arange(130) < 100, dims="x"))
    assert kept["class"].dtype.kind == "f"
    path = kept.prithvi.to_cog(tmp_path / "map.tif")
    with rasterio.open(path) as made:
        classes = made.read(1)
    np.testing.assert_array_equal(classes[:, :100], result["class"][:, :100])
    assert (classes[:, 100:] == 255).all()
    kept.prithvi.to_vectors(tmp_path / "map.parquet")
    area = gpd.read_parquet(tmp_path / "map.parquet").area.sum()
    assert area == pytest.approx(100 * (classes != 255).sum())


def test_a_composite_s_date_is_none_where_xarray_has_put_nan(
    six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    series = open_scene(write_tif(six_bands[:, :40, :40]), dates=[DAY])
    made = composite(series).compute()
    path = made.where(xr.DataArray(np.arange(40) < 30, dims="x")).prithvi.to_cog(tmp_path / "out")
    with rasterio.open(next(path.glob("*_date.tif"))) as raster:
        dates = raster.read(1)
    assert set(np.unique(dates[:, :30])) == {2019261}
    assert set(np.unique(dates[:, 30:])) == {0}


def test_rows_and_columns_may_come_in_any_order(scene: xr.DataArray, fitted: FittedModel, tmp_path: Path) -> None:
    for make in (prithvi.map, prithvi.embed):
        result = make(scene, fitted).compute().isel(x=slice(None, 40), y=slice(None, 40))
        same(result.transpose().prithvi.to_cog(tmp_path / "b.tif"), result.prithvi.to_cog(tmp_path / "a.tif"))
    result = prithvi.map(scene, fitted).compute()
    with pytest.raises(SceneError, match=r"'class' has the dimensions x, without y: .*isel\(y=\[0\]\)"):
        result.isel(y=50).prithvi.to_cog(tmp_path / "c.tif")
    with rasterio.open(result.isel(y=[50]).prithvi.to_cog(tmp_path / "c.tif")) as made:
        np.testing.assert_array_equal(made.read(1), result["class"][50:51])
    two = xr.concat([result, result], "time")
    with pytest.raises(SceneError, match=r"'class' has the dimension time, and .*isel\(time=0\)"):
        two.prithvi.to_cog(tmp_path / "c.tif")
    two.isel(time=0).prithvi.to_cog(tmp_path / "c.tif")
    other = result.drop_vars(["x", "y"]).rename(y="rows")
    with pytest.raises(SceneError, match=r"result\.rename\({'rows': 'y'}\)"):
        other.rio.write_transform(THERE).prithvi.to_cog(tmp_path / "c.tif")


def test_a_series_has_all_its_dimensions(six_bands: np.ndarray, write_tif: Write, tmp_path: Path) -> None:
    made = composite(open_scene(write_tif(six_bands[:, :40, :40]), dates=[DAY])).compute()
    for lacking in ("time", "band", "y"):
        with pytest.raises(SceneError, match=rf"'image' has the dimensions .*, without {lacking}: .*isel"):
            made.isel({lacking: 0}).prithvi.to_cog(tmp_path / "out")
    made.isel(band=[0]).transpose().prithvi.to_cog(tmp_path / "out")
    with rasterio.open(next((tmp_path / "out").glob("*18.tif"))) as raster:
        np.testing.assert_allclose(raster.read(1), made["image"][0, 0], atol=0.5)


def test_the_place_of_what_is_read_back_is_found_or_asked_for(
    scene: xr.DataArray, fitted: FittedModel, tmp_path: Path
) -> None:
    result = prithvi.map(scene, fitted).compute()
    result.to_zarr(tmp_path / "map.zarr", zarr_format=2)
    again = xr.open_zarr(tmp_path / "map.zarr")
    assert again["class"].rio.crs is None, "xarray leaves spatial_ref among the variables"
    with rasterio.open(again.prithvi.to_cog(tmp_path / "map.tif")) as made:
        assert made.crs == result.rio.crs
        np.testing.assert_array_equal(made.read(1), result["class"])
    with pytest.raises(SceneError, match=r"no coordinate reference system, .*result\.rio\.write_crs\('EPSG"):
        again.drop_vars("spatial_ref").prithvi.to_cog(tmp_path / "map.tif")
    again.drop_vars("spatial_ref").rio.write_crs("EPSG:32630").prithvi.to_cog(tmp_path / "map.tif")
    nowhere = again.drop_vars(["spatial_ref", "x", "y"]).rio.write_crs("EPSG:32630")
    with pytest.raises(SceneError, match=r"and no place: .*result\.rio\.write_transform\(Affine"):
        nowhere.prithvi.to_cog(tmp_path / "map.tif")
    with rasterio.open(nowhere.rio.write_transform(THERE).prithvi.to_cog(tmp_path / "map.tif")) as made:
        assert made.transform == THERE


def test_nothing_is_left_when_the_scene_is_damaged(
    fitted: FittedModel, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    scene, gone = open_scene(write_tif(six_bands[:, :150, :64]), dates=[DAY]), []

    def look(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if gone and block_info and block_info[0]["chunk-location"][2] == 2:
            raise RasterioIOError("Read failed")
        return block

    pixels = scene.data.rechunk((1, 6, 32, 64))
    scene = scene.copy(data=pixels.map_blocks(look, dtype=pixels.dtype, meta=np.empty((0,) * 4, pixels.dtype)))
    result = prithvi.map(scene, fitted)
    gone.append(True)
    with pytest.raises(SceneError, match=r"pixels cannot be read \(Read failed\)"):
        result.prithvi.to_cog(tmp_path / "out" / "map.tif")
    assert not list((tmp_path / "out").iterdir())
