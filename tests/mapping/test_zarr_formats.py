"""Stores of maps, series and embeddings in both formats of Zarr: the same values, place, nodata, and overviews."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from affine import Affine

import prithvi
from prithvi.errors import ConfigError
from prithvi.mapping import embed_scene, fill_series, map_scene
from prithvi.mapping.zarr_overviews import halved
from prithvi.modelio.predictor import FittedModel
from prithvi.products.products import Products
from prithvi.scenes import open_scene
from tests.conftest import SPAIN, Answer
from tests.mapping.test_asked_dates import made
from tests.mapping.test_embeddings import DAY, ROTATED, UTM, Write, tiny

Cli = Callable[..., Answer]


def meta_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "zarr.json").read_text())
    return found


def test_a_cube_of_format_3_holds_what_one_of_2_does_and_states_its_nodata(tmp_path: Path) -> None:
    """GDAL takes the fill value for nodata, and xarray would state 0 for it, whatever `_FillValue` says."""
    series = made([0, 5, 11])
    paths = [tmp_path / "two.zarr", tmp_path / "three.zarr"]
    for zarr_format, path in zip((2, 3), paths, strict=True):
        fill_series(series, path, "linear", zarr_format=zarr_format)
    two, three = (xr.open_zarr(path, mask_and_scale=False, decode_coords="all") for path in paths)
    for name in ("image", "filled", "uncertainty"):
        np.testing.assert_array_equal(two[name].values, three[name].values)
        assert two[name].dtype == three[name].dtype == xr.open_zarr(paths[1], mask_and_scale=False)[name].dtype
    assert xr.open_zarr(paths[1])["filled"].dtype == np.uint8
    assert three.rio.crs == series.rio.crs
    assert (three["time"].values == series["time"].values).all()
    assert list(three["band"].values) == list(series["band"].values)
    assert {name: meta_of(paths[1] / name)["fill_value"] for name in ("image", "filled", "uncertainty")} == {
        "image": -9999, "filled": 255, "uncertainty": -9999,
    }  # fmt: skip
    assert meta_of(paths[1] / "band")["data_type"] == "string"
    assert "multiscales" not in three.attrs  # it is small
    assert three.attrs["zarr_conventions"] == two.attrs["zarr_conventions"]


def test_a_killed_cube_of_format_3_goes_on_and_another_format_begins_anew(tmp_path: Path) -> None:
    calls = 0

    def fails(image, known, times, where):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 140:
            raise KeyboardInterrupt
        return np.where(known, image, 700).astype(np.float32)

    fails.facts = {"value": 700}  # type: ignore[attr-defined]
    series = made([0, 5, 11, 20, 26, 40])
    with pytest.raises(KeyboardInterrupt):
        fill_series(series, tmp_path / "c.zarr", fails, window=16, zarr_format=3)
    first = calls
    fill_series(series, tmp_path / "c.zarr", fails, window=16, zarr_format=3, resume=True)
    again = calls - first
    fill_series(series, tmp_path / "w.zarr", fails, window=16, zarr_format=3)
    assert again < calls - first - again

    def content(path: Path) -> dict[str, bytes]:
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}

    mine, whole = content(tmp_path / "c.zarr"), content(tmp_path / "w.zarr")
    assert mine.keys() == whole.keys()
    assert {name for name in mine if mine[name] != whole[name]} <= {"zarr.json"}  # how it was made
    before = calls
    fill_series(series, tmp_path / "c.zarr", fails, window=16, resume=True)
    assert calls > before
    assert (tmp_path / "c.zarr" / ".zgroup").is_file()


def test_overviews_are_half_as_large_each_and_lie_where_the_whole_does(fitted: FittedModel, tmp_path: Path) -> None:
    one = open_scene(SPAIN, sensor="sentinel-2-l1c", offset=0).load()
    values = np.tile(one.values, (1, 1, 9, 1))[..., :1125, :71]
    scene = xr.DataArray(values, dims=one.dims, coords={"band": one["band"], "time": one["time"]}, attrs=one.attrs)
    scene = scene.rio.write_crs(one.rio.crs).rio.write_transform(one.rio.transform())
    kept = {"confidence": True, "probabilities": "float32"}
    result = map_scene(fitted, scene, tmp_path / "m.zarr", products=Products(**kept), zarr_format=3)  # type: ignore[arg-type]
    whole = xr.open_zarr(result.path, decode_coords="all")
    assert whole["class"].shape == (1125, 71)
    assert result.pixels == {"land": int((whole["class"] == 0).sum()), "water": int((whole["class"] == 1).sum())}
    layout = whole.attrs["multiscales"]["layout"]
    assert [entry["asset"] for entry in layout] == ["class", "ovr_2x", "ovr_4x"]
    assert [entry.get("derived_from") for entry in layout] == [None, "class", "ovr_2x"]
    assert [entry["spatial:shape"] for entry in layout] == [[1125, 71], [563, 36], [282, 18]]
    at, below = one.rio.transform(), whole
    for factor in (2, 4):
        level = xr.open_zarr(result.path, group=f"ovr_{factor}x", decode_coords="all")
        assert level.rio.crs == one.rio.crs
        assert level["class"].rio.transform().almost_equals(at @ Affine.scale(factor))
        np.testing.assert_array_equal(level["class"].values, halved(below["class"].values, 255, True))
        np.testing.assert_allclose(level["confidence"].values, halved(below["confidence"].values, np.nan, False))
        assert level["probability"].shape == (2, *level["class"].shape)
        assert level["class"].dtype == np.uint8
        below = level
    assert "ovr_2x" not in whole


@pytest.mark.parametrize(
    ("values", "nodata", "category", "wanted"),
    [
        ([[1, 1, 2], [2, 3, 2], [9, 255, 255]], 255, True, [[1, 2], [9, 255]]),
        ([[3, 1], [1, 3]], 255, True, [[3]]),  # the first of two
        ([[255, 255], [255, 4]], 255, True, [[4]]),
        ([[10, -9999], [-9999, 13]], -9999, False, [[12]]),
        ([[-9999, -9999], [-9999, -9999]], -9999, False, [[-9999]]),
    ],
)
def test_a_pixel_above_stands_for_those_below_that_have_data(
    values: list[list[int]], nodata: int, category: bool, wanted: list[list[int]]
) -> None:
    np.testing.assert_array_equal(halved(np.array(values, np.int16), nodata, category), wanted)


def test_no_number_is_made_of_half_floats_that_are_not_there() -> None:
    values = np.array([[1, np.nan, np.nan], [3, np.nan, np.nan]], np.float16)
    np.testing.assert_array_equal(halved(values, np.nan, False), np.array([[2, np.nan]], np.float16))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_map_in_a_store_is_what_prithvi_map_gives(fitted: FittedModel, tmp_path: Path, zarr_format: int) -> None:
    scene = open_scene(SPAIN, sensor="sentinel-2-l1c", offset=0).isel(y=slice(20, 220), x=slice(100, 340))
    wanted = prithvi.map(scene, fitted, disagreement=True)
    asked = Products(confidence=True, disagreement=True)
    result = map_scene(fitted, scene, tmp_path / "m.zarr", products=asked, zarr_format=zarr_format, command="mine")
    with xr.open_zarr(result.path, decode_coords="all") as stored:
        for name in ("class", "confidence", "disagreement"):
            np.testing.assert_array_equal(stored[name].values, wanted[name].values)
            assert stored[name].dtype == wanted[name].dtype
        assert stored.attrs["PRITHVI_COMMAND"] == "mine"
        assert stored.rio.crs == scene.rio.crs
        assert stored.rio.transform().almost_equals(scene.rio.transform(), 1e-12)
        assert stored["class"].attrs["flag_meanings"] == "land water"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.zarr"]
    if zarr_format == 2:
        with rasterio.open(f'ZARR:"{result.path}":/class') as raster:
            np.testing.assert_array_equal(raster.read(1), wanted["class"].values)
            assert raster.crs == scene.rio.crs
            assert raster.transform.almost_equals(scene.rio.transform(), 1e-12)
        with rasterio.open(f'ZARR:"{result.path}":/confidence') as raster:
            assert raster.crs == scene.rio.crs


def test_what_a_store_of_a_map_has_not_is_refused_before_anything_is_read(
    folder: Path, tmp_path: Path, prithvi: Cli
) -> None:
    words = [
        "map",
        str(folder),
        str(SPAIN),
        "-o",
        str(tmp_path / "m.zarr"),
        "--sensor",
        "sentinel-2-l1c",
        "--offset",
        "0",
    ]
    assert "leave out resume, or the .zarr" in prithvi(*words, "--resume").err
    assert "one Zarr store" in prithvi(*words, str(folder)).err
    assert "no Zarr format 4" in prithvi(*words, "--zarr-format", "4").err
    zones = tmp_path / "zones.geojson"
    zones.write_text('{"type": "FeatureCollection", "features": []}')
    assert prithvi(*words, "--zones", str(zones)).code != 0
    assert not (tmp_path / "m.zarr").exists()
    done = prithvi(*words, "--confidence")
    assert done.code == 0, done.err
    assert "land" in done.out
    assert set(xr.open_zarr(tmp_path / "m.zarr", decode_coords="all").data_vars) == {"class", "confidence"}


@pytest.mark.parametrize("transform", [UTM, ROTATED])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_embeddings_have_one_place_by_cf_and_by_geozarr(
    zarr_format: int, transform: Affine, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    scene = open_scene(write_tif(six_bands[:, :80, :304], transform=transform), dates=[DAY])
    path = embed_scene(tiny(), scene, tmp_path / "e.zarr", zarr_format=zarr_format)
    store = xr.open_zarr(path, decode_coords="all")
    at = transform @ Affine.scale(4)
    assert store["embedding"].rio.transform().almost_equals(at)
    assert store.attrs["spatial:transform"] == pytest.approx(list(at)[:6])
    assert store.attrs["spatial:shape"] == [20, 76]
    assert store.attrs["proj:code"] == "EPSG:32630"
    assert ("spatial:bbox" in store.attrs) == (transform == UTM)
    for entry in store.attrs["zarr_conventions"]:
        assert f"/{entry['name']}/refs/tags/v0.1/" in entry["schema_url"]
    assert store["embedding"].dtype == np.float16
    if zarr_format == 3:
        assert meta_of(path / "embedding")["fill_value"] == "NaN"
        assert zarr.open_array(path / "embedding", mode="r").metadata.zarr_format == 3


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Zarr format 1"):
        fill_series(made([0, 5]), tmp_path / "c.zarr", "linear", zarr_format=1)
    assert list(tmp_path.iterdir()) == []
