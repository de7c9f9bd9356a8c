"""A map's STAC item: valid, in its place, true to the files, relative, and the same twice."""

from __future__ import annotations

import copy
import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from pystac.errors import STACValidationError
from rasterio.transform import from_origin
from shapely.geometry import Point, shape

from prithvi.errors import ConfigError, OutputError, SceneError
from prithvi.mapping import map_item, map_scene, times_of, vectorise, write_item, write_style
from prithvi.modelio.predictor import FittedModel
from prithvi.products.map_item import CLASSIFICATION, PROCESSING, RASTER
from prithvi.products.provenance import Provenance
from prithvi.scenes import open_scene
from prithvi.scenes.polygons import footprint
from tests.stac_schemas import PROJECTION, read, validate

Write = Callable[..., Path]
DAY = [dt.date(2019, 9, 18)]
MADE = Provenance("prithvi_hls_tiny", "ab" * 32, ("scene.tif",), "prithvi map model scene.tif")


@pytest.fixture
def flood(fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path) -> Path:
    """maps/flood.tif, and its polygons and style beside it."""
    path = tmp_path / "maps" / "flood.tif"
    map_scene(fitted, open_scene(write_tif(six_bands[:, :64, :96])), path)
    vectorise(path, path.with_suffix(".parquet"))
    write_style(path, classes=fitted.classes)
    return path


def beside(path: Path) -> dict[str, Path]:
    return {"polygons": path.with_suffix(".parquet"), "style": path.with_suffix(".qml")}


def test_the_item_is_valid_stac_with_its_extensions(flood: Path) -> None:
    plain = read(write_item(flood, provenance=MADE, dates=DAY, assets=beside(flood)))
    assert plain["id"] == "flood"
    assert set(validate(plain)[1:]) == {PROJECTION, RASTER, PROCESSING, CLASSIFICATION}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("properties", "datetime"), None),
        (("properties", "processing:software"), "prithvi"),
        (("properties", "proj:transform"), [1, 2]),
        (("assets", "classes", "classification:classes", 0, "color_hint"), "#E8E4D0"),
        (("assets", "classes", "raster:bands", 0, "data_type"), "byte"),
        (("geometry", "type"), "Square"),
    ],
)
def test_a_broken_item_is_found_out(place: tuple[Any, ...], value: Any, flood: Path) -> None:
    plain = copy.deepcopy(read(write_item(flood, provenance=MADE, dates=DAY)))
    inner: Any = plain
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(STACValidationError):
        validate(plain)


def test_the_item_says_what_the_raster_is(flood: Path, fitted: FittedModel) -> None:
    plain = read(write_item(flood, provenance=MADE, dates=DAY, assets=beside(flood)))
    told, classes = plain["properties"], plain["assets"]["classes"]
    with rasterio.open(flood) as raster:
        assert told["proj:code"] == "EPSG:32630"
        assert told["proj:shape"] == list(raster.shape)
        assert told["proj:transform"] == list(raster.transform)[:6]
        assert told["proj:bbox"] == list(raster.bounds)
    assert told["datetime"] == "2019-09-18T00:00:00Z"
    assert classes["raster:bands"] == [{"name": "class", "data_type": "uint8", "nodata": 255}]
    assert classes["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert [(c["value"], c["name"], c["color_hint"]) for c in classes["classification:classes"]] == [
        (entry.value, entry.name, entry.color) for entry in fitted.classes
    ]
    assert plain["assets"]["polygons"]["type"] == "application/vnd.apache.parquet"
    assert (told["prithvi:model"], told["prithvi:weights_sha256"]) == ("prithvi_hls_tiny", "ab" * 32)
    assert told["prithvi:inputs"] == ["scene.tif"]
    assert told["processing:lineage"] == "prithvi map model scene.tif"
    assert list(told["processing:software"]) == ["prithvi"]


def test_a_quantity_has_its_unit_scale_and_nodata(write_tif: Write, tmp_path: Path) -> None:
    path = write_tif(np.ones((1, 40, 40), np.int16), "height.tif", ("height",), scale=0.1, nodata=-9999)
    unsure = write_tif(np.ones((1, 40, 40), np.float32), "unsure.tif", None, scale=None, nodata=np.nan)
    with rasterio.open(path, "r+") as raster:
        raster.units = ["m"]
    plain = read(write_item(path, provenance=MADE, dates=DAY, assets={"confidence": unsure}))
    validate(plain)
    assert plain["assets"]["value"]["raster:bands"] == [
        {"name": "height", "data_type": "int16", "nodata": -9999, "unit": "m", "scale": 0.1}
    ]
    assert plain["assets"]["confidence"]["raster:bands"] == [{"data_type": "float32", "nodata": "nan"}]
    assert plain["assets"]["value"]["type"] == "image/tiff; application=geotiff"
    assert CLASSIFICATION not in plain["stac_extensions"]


def test_the_folder_can_be_moved_with_its_item(flood: Path, model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "maps" / "model")
    made = Provenance("tiny", model_folder=str(tmp_path / "maps" / "model"))
    write_item(flood, provenance=made, dates=DAY, assets=beside(flood))
    moved = (tmp_path / "maps").rename(tmp_path / "elsewhere")
    item = pystac.Item.from_file(str(moved / "flood.json"))
    files = {name: Path(str(asset.get_absolute_href())) for name, asset in item.assets.items()}
    assert files == {
        "classes": moved / "flood.tif", "polygons": moved / "flood.parquet", "style": moved / "flood.qml",
    }  # fmt: skip
    assert all(file.is_file() for file in files.values())
    (link,) = item.get_links("derived_from")
    model = link.resolve_stac_object().target
    assert isinstance(model, pystac.Item)
    assert model.properties["mlm:name"] == "prithvi_hls_tiny segmentation"
    assert item.properties["processing:expression"] == {"format": "stac-mlm", "expression": "./model/item.json"}


def test_an_item_leads_to_what_it_was_made_of(flood: Path, write_tif: Write, six_bands: np.ndarray) -> None:
    source = write_tif(np.ones((1, 40, 40), np.int16), "input.tif", None)
    write_item(source, provenance=MADE, dates=DAY)
    inputs = (
        str(source), "https://example.org/collections/hls/items/T30", "https://example.org/a/scene.json",
        "https://example.org/a/scene.tif?signed=1", "scene.tif", ".", "2 files",
    )  # fmt: skip
    plain = read(write_item(flood, provenance=Provenance("tiny", inputs=inputs), dates=DAY))
    validate(plain)
    assert [(link["rel"], link["href"]) for link in plain["links"]] == [
        ("derived_from", "../input.json"),
        ("derived_from", "https://example.org/collections/hls/items/T30"),
        ("derived_from", "https://example.org/a/scene.json"),
        ("via", "https://example.org/a/scene.tif"),  # what signs an address stays out of items
    ]
    assert plain["properties"]["prithvi:inputs"] == [each.partition("?")[0] for each in inputs]
    # An input of the same name beside the map has the map's own item there, which is no source of itself.
    again = Provenance("tiny", inputs=(str(flood.with_suffix(".jp2")),))
    assert read(write_item(flood, provenance=again, dates=DAY))["links"] == []


def test_the_same_map_has_the_same_item(flood: Path) -> None:
    first = write_item(flood, provenance=MADE, dates=DAY, assets=beside(flood)).read_bytes()
    backwards = dict(reversed(beside(flood).items()))
    assert write_item(flood, provenance=MADE, dates=DAY, assets=backwards).read_bytes() == first
    assert sorted(file.name for file in flood.parent.glob("*.json")) == ["flood.json"]
    assert not list(flood.parent.glob("*.partial"))


def test_several_dates_are_a_span_and_times_keep_their_zone(flood: Path) -> None:
    cest = dt.timezone(dt.timedelta(hours=2))
    dates = [dt.datetime(2022, 3, 1, 1, 30, tzinfo=cest), dt.date(2022, 1, 5), dt.date(2022, 2, 1)]
    told = read(write_item(flood, provenance=MADE, dates=dates))
    validate(told)
    told = told["properties"]
    assert told["datetime"] is None
    assert (told["start_datetime"], told["end_datetime"]) == ("2022-01-05T00:00:00Z", "2022-02-28T23:30:00Z")
    assert map_item(flood, provenance=MADE, dates=[*DAY, *DAY]).datetime == dt.datetime(2019, 9, 18, tzinfo=dt.UTC)


def test_a_scene_s_times_date_its_map(write_tif: Write, six_bands: np.ndarray) -> None:
    path = write_tif(six_bands[:, :32, :32])
    scene = open_scene(path, dates=["2019-09-18"])
    assert times_of(scene) == [dt.datetime(2019, 9, 18, tzinfo=dt.UTC)]
    assert times_of(open_scene(path)) == []


def test_what_cannot_be_told_is_asked_for(flood: Path, write_tif: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the scene's date"):
        map_item(flood, provenance=MADE, dates=[])
    with pytest.raises(ConfigError, match="no asset 'polygon': did you mean polygons"):
        map_item(flood, provenance=MADE, dates=DAY, assets={"polygon": flood})
    with pytest.raises(ConfigError, match="is itself the asset classes"):
        map_item(flood, provenance=MADE, dates=DAY, assets={"classes": flood})
    with pytest.raises(ConfigError, match=r"its asset style is not there: .*gone\.qml"):
        map_item(flood, provenance=MADE, dates=DAY, assets={"style": tmp_path / "gone.qml"})
    with pytest.raises(SceneError, match="cannot be read as a map"):
        map_item(flood.with_suffix(".parquet"), provenance=MADE, dates=DAY)
    nowhere = write_tif(np.ones((1, 8, 8), np.uint8), "nowhere.tif", None, crs=None)
    with pytest.raises(SceneError, match="no coordinate reference system"):
        map_item(nowhere, provenance=MADE, dates=DAY)
    far = {"crs": "ESRI:54009", "transform": from_origin(-17_900_000, 8_900_000, 10_000, 10_000)}
    with pytest.raises(SceneError, match=r"far\.tif: the grid reaches to where"):
        map_item(write_tif(np.ones((1, 8, 8), np.uint8), "far.tif", None, **far), provenance=MADE, dates=DAY)
    flood.with_suffix(".json").unlink(missing_ok=True)
    flood.with_suffix(".json").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_item(flood, provenance=MADE, dates=DAY)


@pytest.mark.parametrize(
    "crs",
    [
        "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs",
        "+proj=laea +lat_0=52 +lon_0=10 +x_0=4321000 +y_0=3210000 +ellps=GRS80",  # resembles EPSG:3035
    ],
)
def test_a_crs_without_a_code_is_given_in_words(crs: str, write_tif: Write) -> None:
    place = {"crs": crs, "transform": from_origin(500_000, 5_000_000, 500, 500)}
    path = write_tif(np.ones((1, 20, 20), np.uint8), "words.tif", None, **place)
    plain = read(write_item(path, provenance=MADE, dates=DAY))
    validate(plain)
    assert plain["properties"]["proj:code"] is None
    with rasterio.open(path) as raster:
        assert rasterio.CRS.from_wkt(plain["properties"]["proj:wkt2"]) == raster.crs


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32630", from_origin(300_000, 6_200_000, 1000, 1000)),
        ("EPSG:32630", Affine.translation(300_000, 6_200_000) @ Affine.rotation(30) @ Affine.scale(1000, -1000)),
        ("EPSG:32630", Affine(1000, 0, 300_000, 0, 1000, 6_000_000)),  # rows run north
        ("EPSG:4326", from_origin(-5, 50, 0.02, 0.02)),
        ("EPSG:5070", from_origin(-2_000_000, 3_000_000, 8000, 8000)),
    ],
)
def test_the_footprint_holds_every_pixel_and_little_more(crs: str, transform: Affine) -> None:
    geometry, bounds = footprint(crs, transform, (110, 220))
    outline = shape(geometry)
    assert outline.is_valid
    assert outline.geom_type == "Polygon"
    assert outline.exterior.is_ccw
    assert bounds == pytest.approx(outline.bounds)
    back = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    inverse = ~transform
    rows, columns = np.mgrid[0.5:110:4, 0.5:220:4].reshape(2, -1)
    forth = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    inside = forth.transform(
        transform.a * columns + transform.b * rows + transform.c,
        transform.d * columns + transform.e * rows + transform.f,
    )
    assert all(outline.buffer(1e-6).contains(Point(point)) for point in zip(*inside, strict=True))
    # Along its edges, between the points that it has, it leaves the grid by less than half a pixel.
    edge = np.array(
        [outline.exterior.interpolate(share, normalized=True).coords[0] for share in np.linspace(0, 1, 999)]
    )
    x, y = back.transform(*edge.T)
    column = inverse.a * x + inverse.b * y + inverse.c
    row = inverse.d * x + inverse.e * y + inverse.f
    off = np.minimum(
        np.minimum(abs(column), abs(column - 220)) + np.maximum(0, abs(row - 55) - 55),
        np.minimum(abs(row), abs(row - 110)) + np.maximum(0, abs(column - 110) - 110),
    )
    assert off.max() < 0.5


@pytest.mark.parametrize(
    ("crs", "transform", "size"),
    [
        ("EPSG:32660", from_origin(600_000, 7_200_000, 3660, 3660), (30, 30)),
        ("EPSG:4326", from_origin(179, 10, 0.1, 0.1), (20, 20)),
        ("EPSG:4326", from_origin(-181, 10, 0.1, 0.1), (20, 20)),
        ("EPSG:3832", from_origin(3_200_000, 0, 1000, 1000), (200, 200)),  # Pacific Mercator
    ],
)
def test_a_map_over_the_antimeridian_is_cut_there(crs: str, transform: Affine, size: tuple[int, int]) -> None:
    geometry, (west, south, east, north) = footprint(crs, transform, size)
    assert geometry["type"] == "MultiPolygon"
    parts = list(shape(geometry).geoms)
    assert len(parts) == 2
    assert all(part.is_valid and part.exterior.is_ccw for part in parts)
    assert parts[0].bounds[2] == 180
    assert parts[1].bounds[0] == -180
    assert west == pytest.approx(parts[0].bounds[0])
    assert east == pytest.approx(parts[1].bounds[2])
    assert west > 0 > east
    assert sum(part.bounds[2] - part.bounds[0] for part in parts) < 10
    assert south < north


def test_a_map_that_ends_at_the_antimeridian_is_whole() -> None:
    for left, expected in ((178, [178, 8, 180, 10]), (-180, [-180, 8, -178, 10]), (180, [-180, 8, -178, 10])):
        geometry, bounds = footprint("EPSG:4326", from_origin(left, 10, 0.1, 0.1), (20, 20))
        assert geometry["type"] == "Polygon"
        assert bounds == pytest.approx(expected)
    geometry, bounds = footprint("EPSG:4326", from_origin(-180, 90, 1, 1), (180, 360))
    assert bounds == [-180, -90, 180, 90]
    assert shape(geometry).area == 360 * 180


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_a_map_of_a_pole_holds_it(crs: str, pole: int) -> None:
    geometry, bounds = footprint(crs, from_origin(-300_000, 500_000, 10_000, 10_000), (80, 90))
    outline = shape(geometry)
    assert outline.is_valid
    assert (bounds[0], bounds[2]) == (-180, 180)
    assert pole in bounds
    for longitude in range(-175, 180, 10):
        assert outline.contains(Point(longitude, 0.99 * pole))
        assert not outline.contains(Point(longitude, 0.9 * pole))


def test_an_antimeridian_map_has_a_valid_item(write_tif: Write, tmp_path: Path) -> None:
    place = {"crs": "EPSG:32660", "transform": from_origin(600_000, 7_200_000, 3660, 3660)}
    path = write_tif(np.ones((1, 30, 30), np.uint8), "dateline.tif", None, **place)
    plain = read(write_item(path, provenance=MADE, dates=DAY))
    validate(plain)
    assert plain["geometry"]["type"] == "MultiPolygon"
    assert plain["bbox"][0] > 170 > -170 > plain["bbox"][2]


@pytest.mark.parametrize(
    "inputs",
    [(), ("a.tif",), ("a.tif", "b c.tif"), ("Spain, May/a.tif",), ("a.tif", "b, c.tif"), ('["x.tif',), ("é, ü.tif",)],
)
def test_inputs_are_read_back_as_they_were_written(inputs: tuple[str, ...]) -> None:
    tags = Provenance("tiny", inputs=inputs).tags()
    assert Provenance.from_tags(tags).inputs == inputs
    if inputs == ("a.tif", "b c.tif"):
        assert tags["PRITHVI_INPUT"] == "a.tif, b c.tif"
