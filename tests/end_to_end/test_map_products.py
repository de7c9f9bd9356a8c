"""What `prithvi map` writes: each file opens with the tool it is for, and says the same as the map."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.features import geometry_mask
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import Polygon, box

from prithvi.modelio import save
from prithvi.modelio.predictor import FittedModel
from prithvi.modelio.program import export
from prithvi.tasks import RegressionTask
from tests.conftest import Answer, small_task
from tests.faults.test_bad_input import refused
from tests.stac_schemas import read, validate

Cli = Callable[..., Answer]
Write = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH = 150, 170
GRIDS = {
    "utm": ("EPSG:32630", Affine(10, 0, 600_000, 0, -10, 4_200_000)),
    "geographic": ("EPSG:4326", Affine(1e-4, 0, -1.9, 0, -9e-5, 37.9)),
    "rotated": ("EPSG:32630", Affine.translation(600_000, 4_200_000) @ Affine.rotation(25) @ Affine.scale(10, -10)),
}
DAY = ("--date", "2019-09-18")


@pytest.fixture
def scene(request: pytest.FixtureRequest, six_bands: np.ndarray, write_tif: Write) -> Path:
    """150 x 170 pixels with a hole, on one of the grids."""
    crs, transform = GRIDS[getattr(request, "param", "utm")]
    pixels = six_bands[:, 100 : 100 + HEIGHT, 300 : 300 + WIDTH].copy()
    pixels[:, 20:40, 60:75] = -9999
    return write_tif(pixels, nodata=-9999, crs=crs, transform=transform)


on_every_grid = pytest.mark.parametrize("scene", GRIDS, indirect=True)
on_straight_grids = pytest.mark.parametrize("scene", ["utm", "geographic"], indirect=True)


def part_of(scene: Path, corners: list[tuple[float, float]], path: Path) -> Path:
    """A polygon over columns and rows of a scene, in degrees."""
    with rasterio.open(scene) as raster:
        there = Transformer.from_crs(raster.crs, "EPSG:4326", always_xy=True)
        shape = Polygon([there.transform(*(raster.transform @ corner)) for corner in corners])
    gpd.GeoDataFrame({"farm": ["x"]}, geometry=[shape], crs="EPSG:4326").to_file(path)
    return path


def pixels_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        values: np.ndarray = raster.read()
    return values


def pixel_size(path: Path) -> float:
    with rasterio.open(path) as raster:
        return abs(raster.transform.determinant)


@on_every_grid
@pytest.mark.parametrize("form", ["uint8", "float32"])
def test_every_raster_is_a_cog_in_its_place(
    form: str, scene: Path, prithvi: Cli, fitted: FittedModel, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = prithvi("map", model_folder, scene, "-o", out, *DAY, "--confidence", "--probabilities", form)
    assert answer.code == 0, answer.err
    ends = (".json", ".parquet", ".qml", ".tif", ".tif.aux.xml", "_confidence.tif", "_probabilities.tif")
    assert sorted(path.name for path in out.iterdir()) == [f"scene{end}" for end in ends]
    with rasterio.open(scene) as source:
        hole = source.read(1) == -9999
    for name in ("scene", "scene_confidence", "scene_probabilities"):
        path = out / f"{name}.tif"
        assert cog_validate(path)[:2] == (True, [])
        with rasterio.open(path) as raster, rasterio.open(scene) as source:
            assert (raster.crs, raster.shape) == (source.crs, source.shape)
            assert raster.transform.almost_equals(source.transform, 1e-9)
            assert raster.tags()["PRITHVI_MODEL"] == "prithvi_hls_tiny"
            np.testing.assert_array_equal(raster.read_masks(1) == 0, hole)
    classes = pixels_of(out / "scene.tif")[0]
    with rasterio.open(out / "scene_probabilities.tif") as raster:
        assert raster.descriptions == ("land", "water")
        assert raster.dtypes == (form, form)
        factor = raster.scales[0]
        chances = raster.read() * (factor if form == "uint8" else 1)
    step = 0.5 * factor + 1e-6 if form == "uint8" else 1e-6
    assert np.abs(chances.sum(axis=0) - 1)[~hole].max() <= 2 * step
    with rasterio.open(out / "scene_confidence.tif") as raster:
        sure = raster.read(1) * raster.scales[0]
    assert np.abs(sure - chances.max(axis=0))[~hole].max() <= 0.5 / 250 + step
    clear = ~hole & (np.abs(chances[0] - chances[1]) > 2 * step)
    np.testing.assert_array_equal(classes[clear], chances.argmax(axis=0)[clear])
    shares = [line for line in answer.out.splitlines() if line.startswith(f"{out}/scene.tif: ")]
    assert f"land {(classes == 0).sum() / (~hole).sum():.1%}" in shares[0]
    assert f"; {hole.sum()} pixels without data" in shares[0]


@on_every_grid
def test_polygons_have_the_area_of_the_raster(scene: Path, prithvi: Cli, model_folder: Path, tmp_path: Path) -> None:
    frames = {}
    for form, reader in (("parquet", gpd.read_parquet), ("gpkg", gpd.read_file)):
        out = tmp_path / form
        assert prithvi("map", model_folder, scene, "-o", out, *DAY, "--polygons", form).code == 0
        frames[form] = frame = reader(out / f"scene.{form}")
        classes = pixels_of(out / "scene.tif")[0]
        size = pixel_size(scene)
        with rasterio.open(scene) as source:
            assert frame.crs == source.crs
        for number in (0, 1):
            area = shapely.area(frame[frame["class"] == number].geometry.to_numpy()).sum()
            assert area == pytest.approx((classes == number).sum() * size, rel=1e-9)
        item = pystac.Item.from_file(str(out / "scene.json"))
        assert item.assets["polygons"].href == f"./scene.{form}"
    assert len(frames["parquet"]) == len(frames["gpkg"])
    assert prithvi("map", model_folder, scene, "-o", tmp_path / "out", "--min-area", 2000).code == 0
    large = gpd.read_parquet(tmp_path / "out" / "scene.parquet")
    assert large["area_m2"].min() >= 2000
    assert len(large) == (frames["parquet"]["area_m2"] >= 2000).sum() < len(frames["parquet"])
    assert prithvi("map", model_folder, scene, "-o", tmp_path / "none", *DAY, "--polygons", "none").code == 0
    names = [f"scene{end}" for end in (".json", ".qml", ".tif", ".tif.aux.xml")]
    assert sorted(path.name for path in (tmp_path / "none").iterdir()) == names
    assert "polygons" not in pystac.Item.from_file(str(tmp_path / "none" / "scene.json")).assets


@on_every_grid
def test_a_map_of_an_area_is_the_whole_map_there(scene: Path, prithvi: Cli, model_folder: Path, tmp_path: Path) -> None:
    aoi = part_of(scene, [(31, 12), (140, 45), (100, 130), (45, 120)], tmp_path / "aoi.geojson")
    assert prithvi("map", model_folder, scene, "-o", tmp_path / "whole").code == 0
    bounds = gpd.read_file(aoi).total_bounds
    for name, words in (("aoi", ["--aoi", aoi]), ("box", ["--bbox", *bounds])):
        answer = prithvi("map", model_folder, scene, "-o", tmp_path / name, *DAY, *words, "--confidence")
        assert answer.code == 0, answer.err
        shape = gpd.read_file(aoi).geometry[0] if name == "aoi" else box(*bounds).segmentize(1e-4)
        with rasterio.open(tmp_path / name / "scene.tif") as part, rasterio.open(tmp_path / "whole/scene.tif") as whole:
            placed = gpd.GeoSeries([shape.segmentize(1e-4)], crs=4326).to_crs(whole.crs)
            inside = geometry_mask(placed, whole.shape, whole.transform, invert=True)
            column, row = ~whole.transform @ (part.transform @ (0, 0))
            assert (column, row) == pytest.approx((round(column), round(row)), abs=1e-6)
            there = slice(round(row), round(row) + part.height), slice(round(column), round(column) + part.width)
            assert inside.sum() == inside[there].sum() > 3000  # nothing of it is left out
            np.testing.assert_array_equal(part.read(1), np.where(inside, whole.read(1), 255)[there])
            assert part.height < HEIGHT
        item = pystac.Item.from_file(str(tmp_path / name / "scene.json"))
        assert item.properties["proj:shape"] == list(pixels_of(tmp_path / name / "scene.tif").shape[1:])
    both = ("--aoi", aoi, "--bbox", *bounds)
    refused(prithvi("map", model_folder, scene, "-o", tmp_path / "both", *both), "--bbox and --aoi are two areas")


@on_straight_grids
def test_zones_have_the_areas_of_the_polygons_in_them(
    scene: Path, prithvi: Cli, model_folder: Path, tmp_path: Path
) -> None:
    zones = part_of(scene, [(10, 10), (150, 20), (120, 140), (20, 100)], tmp_path / "farms.geojson")
    answer = prithvi("map", model_folder, scene, "-o", tmp_path / "out", *DAY, "--zones", zones)
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader((tmp_path / "out" / "scene_zones.csv").read_text().splitlines()))
    table = gpd.read_parquet(tmp_path / "out" / "scene_zones.parquet")
    assert [row["name"] for row in rows] == list(table["name"]) == ["land", "water"]
    assert (tmp_path / "out" / "scene_zones.csv").read_text() in answer.out
    polygons = gpd.read_parquet(tmp_path / "out" / "scene.parquet")
    zone = gpd.read_file(zones).segmentize(1e-4).to_crs(polygons.crs).geometry[0]
    for row in rows:
        one = polygons[polygons["name"] == row["name"]]
        shapes = one.geometry.to_numpy()
        share = shapely.area(shapely.intersection(shapes, zone)) / shapely.area(shapes)
        assert float(row["area_m2"]) == pytest.approx((one["area_m2"] * share).sum(), rel=1e-4)
    item = pystac.Item.from_file(str(tmp_path / "out" / "scene.json"))
    assert item.assets["zones"].href == "./scene_zones.parquet"


def test_zones_that_cannot_be_are_refused_before_anything_is_mapped(
    scene: Path, prithvi: Cli, model_folder: Path, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    crs, transform = GRIDS["rotated"]
    turned = write_tif(six_bands[:, :64, :64], "turned.tif", crs=crs, transform=transform)
    zones = part_of(scene, [(10, 10), (150, 20), (120, 140)], tmp_path / "farms.geojson")
    for file, words, told in (
        (turned, ["--zones", zones], "turned.tif is rotated; areas by zone need rows that run east"),
        (scene, ["--zones", tmp_path / "absent.gpkg"], "absent.gpkg cannot be read as zones"),
        (scene, ["--polygons", "shp"], "there is no form 'shp'"),
        (scene, ["--probabilities", "int8"], "there is no form 'int8'"),
    ):
        answer = prithvi("map", model_folder, file, "-o", tmp_path / "out", *words)
        refused(answer, told)
        assert "%" not in answer.err
    assert not (tmp_path / "out").exists()


@on_every_grid
def test_the_item_leads_to_every_file_and_to_the_model(
    scene: Path, prithvi: Cli, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    words = ["--confidence", "--probabilities", "uint8"]
    assert prithvi("map", model_folder, scene, "-o", out, *DAY, *words).code == 0
    item = pystac.Item.from_file(str(out / "scene.json"))
    files = {name: Path(str(asset.get_absolute_href())) for name, asset in item.assets.items()}
    assert {name: file.name for name, file in files.items()} == {
        "classes": "scene.tif", "confidence": "scene_confidence.tif", "probabilities": "scene_probabilities.tif",
        "polygons": "scene.parquet", "style": "scene.qml",
    }  # fmt: skip
    assert all(file.is_file() and file.parent == out for file in files.values())
    (link,) = item.get_links("derived_from")
    assert not Path(link.href).is_absolute()
    assert (out / link.href).resolve() == model_folder / "item.json"
    model = link.resolve_stac_object().target
    assert isinstance(model, pystac.Item)
    assert (out / item.properties["processing:expression"]["expression"]).resolve() == model_folder / "item.json"
    assert str(item.datetime)[:10] == "2019-09-18"
    with rasterio.open(out / "scene.tif") as raster:
        there = Transformer.from_crs(raster.crs, "EPSG:4326", always_xy=True)
        middle = there.transform(*(raster.transform @ (raster.width / 2, raster.height / 2)))
    assert item.bbox is not None
    assert item.bbox[0] < middle[0] < item.bbox[2]
    assert item.bbox[1] < middle[1] < item.bbox[3]
    validate(read(out / "scene.json"))


def test_the_style_and_the_tags_name_the_classes(
    scene: Path, prithvi: Cli, model_folder: Path, fitted: FittedModel, tmp_path: Path
) -> None:
    assert prithvi("map", model_folder, scene, "-o", tmp_path / "out").code == 0
    entries = ElementTree.parse(tmp_path / "out" / "scene.qml").findall(".//paletteEntry")
    assert [(entry.get("label"), entry.get("color")) for entry in entries] == [
        (entry.name, f"#{entry.color.lower()}") for entry in fitted.classes
    ]


def test_gdal_s_own_tools_read_all_of_it(scene: Path, prithvi: Cli, model_folder: Path, tmp_path: Path) -> None:
    gdalinfo, ogrinfo = shutil.which("gdalinfo"), shutil.which("ogrinfo")
    if gdalinfo is None or ogrinfo is None:
        pytest.skip("needs gdalinfo and ogrinfo (Debian: gdal-bin)")
    words = ["--confidence", "--probabilities", "float32", "--polygons", "gpkg"]
    assert prithvi("map", model_folder, scene, "-o", tmp_path / "out", *words).code == 0
    for name, bands, kind in (
        ("scene", 1, "Byte"),
        ("scene_confidence", 1, "Byte"),
        ("scene_probabilities", 2, "Float32"),
    ):
        file = tmp_path / "out" / f"{name}.tif"
        done = subprocess.run([gdalinfo, "-json", "-checksum", file], capture_output=True, check=True, text=True)
        told = json.loads(done.stdout)
        assert done.stderr == ""
        assert told["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
        assert [band["type"] for band in told["bands"]] == [kind] * bands
    done = subprocess.run([ogrinfo, "-al", "-so", tmp_path / "out" / "scene.gpkg"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Feature Count: {len(gpd.read_file(tmp_path / 'out' / 'scene.gpkg'))}" in done.stdout


def biomass(tmp_path: Path, **quantity: float) -> Path:
    options = {key: small_task().hparams[key] for key in ("contract", "head", "window", "model_options")}
    told = {"name": "biomass", "mean": 100.0, "std": 50.0, "unit": "t/ha", **quantity}
    return save(RegressionTask(quantity=told, **options).fitted(seed=0), tmp_path / "biomass")


def test_a_quantity_is_a_map_of_floats(scene: Path, prithvi: Cli, tmp_path: Path) -> None:
    model, out = biomass(tmp_path), tmp_path / "out"
    answer = prithvi("map", model, scene, "-o", out, *DAY)
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in out.iterdir()) == ["scene.json", "scene.qml", "scene.tif"]
    assert cog_validate(out / "scene.tif")[:2] == (True, [])
    with rasterio.open(out / "scene.tif") as made, rasterio.open(scene) as source:
        assert (made.dtypes, made.units, made.descriptions) == (("float32",), ("t/ha",), ("biomass",))
        assert np.isnan(made.nodata)
        values, hole = made.read(1), source.read(1) == -9999
    np.testing.assert_array_equal(np.isnan(values), hole)
    assert values[~hole].std() > 0
    ramp = ElementTree.parse(out / "scene.qml").findall(".//colorrampshader/item")
    low, high = np.percentile(values[~hole], [2, 98])
    assert (float(str(ramp[0].get("value"))), float(str(ramp[-1].get("value")))) == pytest.approx((low, high))
    item = pystac.Item.from_file(str(out / "scene.json"))
    assert list(item.assets) == ["value", "style"]
    refused(prithvi("map", model, scene, "-o", tmp_path / "no", "--confidence"), "confidence are of classes")
    validate(read(out / "scene.json"))


def test_a_quantity_that_is_the_same_everywhere_has_a_style_too(scene: Path, prithvi: Cli, tmp_path: Path) -> None:
    model, out = biomass(tmp_path, std=1e-9), tmp_path / "out"
    answer = prithvi("map", model, scene, "-o", out)
    assert answer.code == 0, answer.err
    values = pixels_of(out / "scene.tif")
    assert np.unique(values[np.isfinite(values)]).tolist() == [100.0]
    assert ElementTree.parse(out / "scene.qml").find(".//colorrampshader") is not None


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("lightning", "jsonargparse", "torchmetrics", "terratorch", "peft"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from prithvi.cli import main
main()
"""


@pytest.mark.slow
def test_an_exported_program_makes_the_same_map_without_what_training_needs(
    scene: Path, prithvi: Cli, fitted: FittedModel, model_folder: Path, tmp_path: Path
) -> None:
    program = export(fitted, tmp_path / "model.pt2")
    words = [scene, *DAY, "--confidence", "--probabilities", "float32"]
    assert prithvi("map", model_folder, *words, "-o", tmp_path / "folder").code == 0
    command = [sys.executable, "-c", WITHOUT, "map", program, *words, "-o", tmp_path / "program"]
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    folder, other = tmp_path / "folder", tmp_path / "program"
    assert [path.name for path in sorted(folder.iterdir())] == [path.name for path in sorted(other.iterdir())]
    one, two = (pixels_of(place / "scene_probabilities.tif") for place in (folder, other))
    assert np.nanmax(np.abs(one - two)) < 1e-4
    np.testing.assert_array_equal(pixels_of(folder / "scene.tif"), pixels_of(other / "scene.tif"))
