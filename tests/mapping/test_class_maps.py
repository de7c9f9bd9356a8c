"""Maps as files: place, classes, nodata, colours, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from prithvi.catalog import dataset
from prithvi.errors import OutputError, SceneError
from prithvi.mapping import class_polygons, map_scene, vectorise
from prithvi.modelio.predictor import FittedModel
from prithvi.products.products import Products
from prithvi.scenes import open_scene
from tests.conftest import SPAIN, small_task

Write = Callable[..., Path]


def test_a_map_has_place_classes_colours_names_and_nodata(fitted: FittedModel, tmp_path: Path) -> None:
    scene = open_scene(SPAIN, sensor="sentinel-2-l1c", offset=0)
    result = map_scene(fitted, scene, tmp_path / "flood.tif", stride=32)
    assert cog_validate(result.path)[:2] == (True, [])
    with rasterio.open(result.path) as made, rasterio.open(SPAIN) as source:
        assert made.crs == source.crs
        assert made.transform == source.transform
        assert made.shape == source.shape
        assert (made.dtypes, made.nodata, made.count) == (("uint8",), 255, 1)
        assert made.colormap(1)[1] == (0x2B, 0x6C, 0xB0, 255)
        assert made.tags()["CLASS_0"] == "land"
        assert made.tags()["PRITHVI_WEIGHTS_SHA256"] == fitted.sha256
        classes = made.read(1)
    assert result.pixels == {"land": int((classes == 0).sum()), "water": int((classes == 1).sum())}
    assert result.without_data == 0
    names = ElementTree.parse(tmp_path / "flood.tif.aux.xml").findall(".//Category")
    assert [name.text for name in names] == ["land", "water"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flood.tif", "flood.tif.aux.xml"]


def test_gdal_s_own_tool_reads_it(fitted: FittedModel, tmp_path: Path, six_bands: np.ndarray, write_tif: Write) -> None:
    gdalinfo = shutil.which("gdalinfo")
    if gdalinfo is None:
        pytest.skip("needs gdalinfo (Debian: gdal-bin)")
    path = map_scene(fitted, open_scene(write_tif(six_bands)), tmp_path / "out" / "map.tif").path
    told = json.loads(subprocess.run([gdalinfo, "-json", path], capture_output=True, check=True, text=True).stdout)
    band = told["bands"][0]
    text = subprocess.run([gdalinfo, path], capture_output=True, check=True, text=True).stdout
    listed = text.partition("Categories:")[2].split()
    assert listed[:4] == ["0:", "land", "1:", "water"]
    assert band["noDataValue"] == 255
    assert band["colorTable"]["entries"][1] == [0x2B, 0x6C, 0xB0, 255]
    assert told["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"


def test_large_maps_have_overviews_by_majority(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    wide = np.tile(six_bands[:, :64], (1, 1, 3))
    path = map_scene(fitted, open_scene(write_tif(wide)), tmp_path / "map.tif", stride=32).path
    with rasterio.open(path) as made:
        assert made.overviews(1)[0] == 2
    with rasterio.open(path, OVERVIEW_LEVEL=0) as small:
        assert set(np.unique(small.read(1))) <= {0, 1, 255}  # an average would invent classes


@pytest.mark.parametrize(
    "transform",
    [
        Affine.translation(600_000, 4_200_000) @ Affine.rotation(30) @ Affine.scale(10, -10),
        Affine(10, 0, 600_000, 0, 10, 4_200_000),  # rows run north
    ],
)
def test_map_of_rotated_grid_keeps_every_corner(
    transform: Affine, fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    scene = open_scene(write_tif(six_bands[:, :96, :80], transform=transform))
    path = map_scene(fitted, scene, tmp_path / "map.tif").path
    with rasterio.open(path) as made:
        for corner in ((0, 0), (80, 0), (0, 96), (80, 96)):
            assert made.transform @ corner == pytest.approx(transform @ corner)
    with rasterio.open(path) as made:
        rotated = made.read(1)
    straight = map_scene(fitted, open_scene(write_tif(six_bands[:, :96, :80])), tmp_path / "straight.tif").path
    with rasterio.open(straight) as made:
        np.testing.assert_array_equal(rotated, made.read(1))


def test_pixels_without_data_are_without_class(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    holes = six_bands[:, :100, :100].copy()
    holes[:, 40:, 60:] = -9999
    holes[2, 3, 4] = -9999  # one band is enough
    result = map_scene(fitted, open_scene(write_tif(holes, nodata=-9999)), tmp_path / "map.tif")
    with rasterio.open(result.path) as made:
        classes = made.read(1)
    expected = (holes == -9999).any(axis=0)
    np.testing.assert_array_equal(classes == 255, expected)
    assert result.without_data == expected.sum()


@pytest.mark.parametrize("size", [(20, 20), (32, 32), (33, 90), (8, 200)])
def test_scenes_of_any_size_are_mapped(
    size: tuple[int, int], fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    scene = open_scene(write_tif(six_bands[:, : size[0], : size[1]]))
    with rasterio.open(map_scene(fitted, scene, tmp_path / "map.tif").path) as made:
        assert made.shape == size
        assert made.read(1).max() <= 1


def test_one_window_equals_the_model_by_hand(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    import torch

    part = six_bands[:, 200:232, 300:332]
    with rasterio.open(map_scene(fitted, open_scene(write_tif(part)), tmp_path / "map.tif").path) as made:
        classes = made.read(1)
    contract = dataset("sen1floods11").contract
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (contract.mean, contract.std))
    images = torch.from_numpy((part.astype(np.float32) - mean) / std)[None, :, None]
    with torch.no_grad():
        expected = fitted.model(images).argmax(dim=1)[0].numpy()
    np.testing.assert_array_equal(classes, expected)


def test_coordinates_reach_models_that_were_trained_with_them(
    write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    import torch

    task = small_task(coordinates=True)
    with torch.no_grad():
        for name, parameter in task.named_parameters():
            if name.endswith("scale"):
                parameter.fill_(5.0)
    fitted = task.fitted()
    part = six_bands[:, :64, :64]
    maps = []
    for name, date, east in (("a", "2019-01-01", 600_000), ("b", "2019-07-01", 600_000), ("c", "2019-01-01", 300_000)):
        from rasterio.transform import from_origin

        path = write_tif(part, f"{name}.tif", transform=from_origin(east, 4_200_000, 10, 10))
        made = map_scene(fitted, open_scene(path, dates=[date]), tmp_path / "out" / f"{name}.tif").path
        with rasterio.open(made) as raster:
            maps.append(raster.read(1))
    assert not np.array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_a_map_does_not_depend_on_batches(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    """Each window has its own place, whatever it is batched with."""
    task = small_task(coordinates=True)
    scene = open_scene(write_tif(six_bands[:, :64, :200]), dates=["2019-01-01"])
    maps = []
    for size in (1, 3, 50):
        with rasterio.open(map_scene(task.fitted(), scene, tmp_path / f"{size}.tif", batch_size=size).path) as made:
            maps.append(made.read(1))
    assert (maps[0] == maps[1]).mean() > 0.999
    assert (maps[0] == maps[2]).mean() > 0.999


def test_nothing_is_left_when_a_map_fails(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    path = write_tif(six_bands, compress="deflate")
    whole = path.read_bytes()
    path.write_bytes(whole[:400_000] + b"\0" * 200_000 + whole[600_000:])
    out = tmp_path / "out"
    with pytest.raises(SceneError, match="damaged or cut short"):
        map_scene(fitted, open_scene(path), out / "map.tif")
    assert not out.exists() or not list(out.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        map_scene(fitted, open_scene(SPAIN, sensor="sentinel-2-l1c", offset=0), tmp_path / "file" / "map.tif")


def test_a_scene_of_other_dates_is_refused(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    names = tuple(f"{band} {date}" for date in ("2022-01-01", "2022-02-01") for band in ("blue", "green", "red"))
    with pytest.raises(SceneError, match="has 2 dates, and the model wants 1"):
        map_scene(fitted, open_scene(write_tif(six_bands, names=names)), tmp_path / "map.tif")


def test_polygons_cover_the_raster_s_area_in_its_place(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    result = map_scene(fitted, open_scene(write_tif(six_bands)), tmp_path / "flood.tif")
    vectorise(result.path, tmp_path / "flood.parquet")
    written = gpd.read_parquet(tmp_path / "flood.parquet")
    with rasterio.open(result.path) as made:
        bounds, size, crs = made.bounds, abs(made.transform.a * made.transform.e), made.crs
    assert written.crs == crs
    assert tuple(written.total_bounds) == pytest.approx(tuple(bounds))
    for name, count in result.pixels.items():
        area = written[written["name"] == name].geometry.area.sum()
        assert area == pytest.approx(count * size, rel=1e-9)
    # A UTM metre is up to 0.04 % shorter than one on the ground.
    assert written["area_m2"].sum() == pytest.approx(512 * 512 * 100, rel=1e-3)
    only = class_polygons(result.path, ["water"])
    assert set(only["name"]) == {"water"}
    geographic = map_scene(fitted, open_scene(SPAIN, sensor="sentinel-2-l1c", offset=0), tmp_path / "degrees.tif")
    # 512 pixels of 8.98e-5 degrees at 38.1 north: 4.03 km by 5.11 km.
    assert class_polygons(geographic.path)["area_m2"].sum() == pytest.approx(4.034e3 * 5.105e3, rel=2e-3)


@pytest.mark.slow
def test_a_compiled_model_maps_the_same(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :100]))
    plain = map_scene(fitted, scene, tmp_path / "plain.tif").path
    compiled = map_scene(fitted, scene, tmp_path / "compiled.tif", compile=True).path
    with rasterio.open(plain) as one, rasterio.open(compiled) as other:
        assert (one.read(1) == other.read(1)).mean() > 0.999


def test_what_an_earlier_map_left_is_named(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    scene, path = open_scene(write_tif(six_bands[:, :64, :64])), tmp_path / "out" / "map.tif"
    assert not map_scene(fitted, scene, path, products=Products(polygons="parquet", style=True)).notes
    changed = map_scene(fitted, scene, path, products=Products(polygons="gpkg", style=True))
    assert changed.notes == ("map.parquet is not of this map: remove it if an earlier run left it.",)
    bare = map_scene(fitted, scene, path)
    named = "map.parquet, map.gpkg, map.qml"
    assert bare.notes == (f"{named} are not of this map: remove them if an earlier run left them.",)
    for name in named.split(", "):
        path.with_name(name).unlink()
    assert not map_scene(fitted, scene, path).notes
    path.with_name("map.parquet").touch()
    assert not map_scene(fitted, scene, path.with_suffix(".zarr")).notes  # a store has nothing beside it
