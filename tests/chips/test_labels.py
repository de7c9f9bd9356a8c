"""Labels from features and rasters: areas agree, classes never mix, and what nobody knows stays unlabelled."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.transform import array_bounds, from_origin
from shapely import affinity
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box

from prithvi.chips.label_files import open_labels
from prithvi.errors import DatasetError
from prithvi.scenes.area import Area
from prithvi.scenes.polygons import RASTERIO_LOCK

CRS = "EPSG:32631"
AT = from_origin(600_000, 5_000_000, 30, 30)
SHAPE = (64, 64)
BOUNDS = array_bounds(*SHAPE, AT)


def field(x: float, y: float, width: float, height: float, turn: float) -> Polygon:
    return affinity.rotate(box(x, y, x + width, y + height), turn)


@pytest.mark.parametrize("suffix", ["gpkg", "parquet", "geojson", "shp"])
def test_areas_agree_with_the_polygons_within_their_edge_pixels(tmp_path: Path, suffix: str) -> None:
    shapes = [field(600_200, 4_998_400, 700, 400, 20), field(601_000, 4_999_000, 500, 600, -33)]
    frame = gpd.GeoDataFrame({"crop": ["maize", "wheat"]}, geometry=shapes, crs=CRS).to_crs("EPSG:4326")
    path = tmp_path / f"fields.{suffix}"
    frame.to_parquet(path) if suffix == "parquet" else frame.to_file(path)
    labels = open_labels(path, "crop")
    assert [entry.name for entry in labels.classes] == ["maize", "wheat"]
    label = labels.near(CRS, BOUNDS).on(AT, SHAPE)
    for number, shape in enumerate(shapes):
        edge_pixels = shape.length / 30 * np.sqrt(2)
        assert abs((label == number).sum() * 900 - shape.area) <= edge_pixels * 900
        assert abs((label == number).sum() * 900 - shape.area) <= 0.03 * shape.area
    rows, columns = np.nonzero(label != 255)
    for row, column in zip(rows, columns, strict=True):
        middle = Point(AT * (column + 0.5, row + 0.5))
        assert shapes[label[row, column]].buffer(0.1).contains(middle)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1500), st.floats(0, 1500), st.floats(50, 900), st.floats(50, 900), st.floats(0, 90))
def test_a_pixel_is_labelled_exactly_when_its_middle_lies_inside(
    tmp_path_factory: pytest.TempPathFactory, x: float, y: float, width: float, height: float, turn: float
) -> None:
    shape = field(600_000 + x, 4_998_080 + y, width, height, turn)
    path = tmp_path_factory.mktemp("labels") / "one.parquet"
    gpd.GeoDataFrame({"kind": [3]}, geometry=[shape], crs=CRS).to_parquet(path)
    label = open_labels(path, "kind").near(CRS, BOUNDS).on(AT, SHAPE)
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    xs, ys = AT * (columns, rows)
    surely_in = gpd.points_from_xy(xs.ravel(), ys.ravel()).within(shape.buffer(-0.01)).reshape(SHAPE)
    surely_out = ~gpd.points_from_xy(xs.ravel(), ys.ravel()).within(shape.buffer(0.01)).reshape(SHAPE)
    assert (label[surely_in] == 0).all()
    assert (label[surely_out] == 255).all()


def test_a_pixel_claimed_by_two_classes_is_nobodys_and_by_one_twice_is_its_own(tmp_path: Path) -> None:
    shapes = [box(600_000, 4_999_400, 600_600, 5_000_000), box(600_300, 4_999_400, 600_900, 5_000_000)]
    same = box(600_000, 4_999_700, 600_300, 5_000_000)
    frame = gpd.GeoDataFrame({"kind": ["a", "b", "a"]}, geometry=[*shapes, same], crs=CRS)
    frame.to_file(tmp_path / "f.gpkg")
    label = open_labels(tmp_path / "f.gpkg", "kind").near(CRS, BOUNDS).on(AT, SHAPE)
    assert (label[:20, :10] == 0).all()
    assert (label[:20, 10:20] == 255).all()
    assert (label[:20, 20:30] == 1).all()
    assert (label[:, 30:] == 255).all()


def test_a_background_class_fills_what_no_feature_touches(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"kind": ["burnt"]}, geometry=[box(600_000, 4_999_400, 600_600, 5_000_000)], crs=CRS)
    frame.to_file(tmp_path / "f.gpkg")
    labels = open_labels(tmp_path / "f.gpkg", "kind", background="not burnt")
    assert [entry.name for entry in labels.classes] == ["not burnt", "burnt"]
    label = labels.near(CRS, BOUNDS).on(AT, SHAPE)
    assert (label[:20, :20] == 1).all()
    assert (label == 1).sum() == 400
    assert (label == 0).sum() == 64 * 64 - 400


def test_a_chip_is_of_the_part_of_the_features_on_it_and_not_of_those_beside_it(tmp_path: Path) -> None:
    left, bottom, right, top = BOUNDS
    middle = (left + right) / 2
    rows = [
        ("train", box(left, bottom, middle, top)), ("val", box(middle, bottom, right, top)),
        ("test", box(right, bottom, right + 1920, top)), ("test", box(left, bottom - 1920, right, bottom)),
    ]  # fmt: skip
    frame = gpd.GeoDataFrame(rows, columns=["part", "geometry"], crs=CRS).assign(kind="field")
    frame.to_file(tmp_path / "f.gpkg")
    labels = open_labels(tmp_path / "f.gpkg", "kind").near(CRS, (left - 3000, bottom - 3000, right + 3000, top + 3000))
    half = (SHAPE[0], SHAPE[1] // 2)
    assert labels.split_on(AT, half, "part") == "train"
    assert labels.split_on(AT @ Affine.translation(32, 0), half, "part") == "val"
    assert labels.split_on(AT, SHAPE, "part") == ""  # of two
    assert labels.split_on(AT @ Affine.translation(-64, 0), SHAPE, "part") is None


def test_points_label_the_pixel_they_lie_in(tmp_path: Path) -> None:
    places = [AT * (3.9, 5.1), AT * (10.5, 0.01)]
    frame = gpd.GeoDataFrame({"kind": [7, 4]}, geometry=[Point(*place) for place in places], crs=CRS).to_crs(
        "EPSG:4326"
    )
    frame.to_file(tmp_path / "p.geojson")
    labels = open_labels(tmp_path / "p.geojson", "kind")
    label = labels.near(CRS, BOUNDS).on(AT, SHAPE)
    assert [entry.name for entry in labels.classes] == ["4", "7"]
    assert label[5, 3] == 1
    assert label[0, 10] == 0
    assert (label != 255).sum() == 2


@pytest.mark.parametrize(
    ("resolution", "crs"), [(30, CRS), (90, CRS), (10, CRS), (20, "EPSG:32632"), (0.0005, "EPSG:4326")]
)
def test_a_raster_on_another_grid_lies_where_it_should(tmp_path: Path, resolution: float, crs: str) -> None:
    """Two halves of a raster, their border 960 m east of the chip's edge: the border stays where it is."""
    frame = gpd.GeoDataFrame(geometry=[box(*BOUNDS).buffer(3000)], crs=CRS).to_crs(crs)
    left, bottom, right, top = frame.total_bounds
    width, height = round((right - left) / resolution), round((top - bottom) / resolution)
    transform = from_origin(left, top, resolution, resolution)
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    xs, ys = transform * (columns, rows)
    moved = gpd.GeoSeries(gpd.points_from_xy(xs.ravel(), ys.ravel(), crs=crs)).to_crs(CRS)
    values = np.where(moved.x < 600_960, 11, 30).reshape(height, width).astype(np.uint8)
    values[moved.y.to_numpy().reshape(height, width) < 4_998_500] = 0
    path = tmp_path / "classes.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=1,
        dtype="uint8",
        crs=crs,
        transform=transform,
        nodata=0,
    ) as raster:
        raster.write(values, 1)
    labels = open_labels(path)
    assert [entry.name for entry in labels.classes] == ["11", "30"]
    label = labels.near(CRS, BOUNDS).on(AT, SHAPE)
    slack = 3 if resolution in (90, 0.0005) else 1
    assert (label[: 50 - slack, : 32 - slack] == 0).all()
    assert (label[: 50 - slack, 32 + slack :] == 1).all()
    assert (label[50 + slack :] == 255).all()


@pytest.mark.parametrize(
    "at",
    [
        Affine(10, 0, 599_000, 0, 10, 4_997_500),  # rows from south to north
        Affine.translation(601_000, 5_001_500) @ Affine.rotation(-50) @ Affine.scale(10, -10),
        Affine.translation(598_500, 4_997_000) @ Affine.rotation(30) @ Affine.scale(10, 10),
    ],
)
def test_a_raster_may_lie_aslant_or_upside_down(tmp_path: Path, at: Affine) -> None:
    """Stripes of 240 m from west to east in the chip's own coordinates, and no label north of y = 4,999,500."""
    columns, rows = np.meshgrid(np.arange(480) + 0.5, np.arange(480) + 0.5)
    xs, ys = at @ (columns, rows)
    values = np.where(ys > 4_999_500, 0, 1 + (xs // 240).astype(int) % 3).astype(np.uint8)
    form = {"driver": "GTiff", "height": 480, "width": 480, "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(tmp_path / "c.tif", "w", crs=CRS, transform=at, **form) as raster:
        raster.write(values, 1)
    columns, rows = np.meshgrid(np.arange(SHAPE[1]) + 0.5, np.arange(SHAPE[0]) + 0.5)
    x, y = AT @ (columns, rows)
    column, row = ~at @ (x, y)
    inner = (np.abs(column - 240) < 236) & (np.abs(row - 240) < 236)  # what lies on the raster for certain
    inner &= (np.abs(x % 240 - 120) < 90) & (np.abs(y - 4_999_500) > 30)  # and on no border of two classes
    assert inner.sum() > 200
    label = open_labels(tmp_path / "c.tif").near(CRS, BOUNDS).on(AT, SHAPE)
    np.testing.assert_array_equal(label[inner], np.where(y > 4_999_500, 255, (x // 240).astype(int) % 3)[inner])
    outside = (np.abs(column - 240) > 244) | (np.abs(row - 240) > 244)
    assert (label[outside] == 255).all()


def test_a_chip_beside_the_raster_is_unlabelled_there(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "c.tif", "w", driver="GTiff", height=10, width=10, count=1, dtype="int16", crs=CRS, transform=AT
    ) as raster:
        raster.write(np.full((1, 10, 10), 3, np.int16))
    label = open_labels(tmp_path / "c.tif").near(CRS, BOUNDS).on(AT, SHAPE)
    assert (label[:10, :10] == 0).all()
    assert (label != 255).sum() == 100
    far = open_labels(tmp_path / "c.tif").near(CRS, BOUNDS).on(AT * Affine.translation(500, 0), SHAPE)
    assert (far == 255).all()


ACROSS = {
    "zone 1": ("EPSG:32701", from_origin(150_000, 8_100_000, 600, 600)),
    "zone 60": ("EPSG:32760", from_origin(790_000, 8_100_000, 600, 600)),
}


def longitudes(crs: str, at: Affine) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) longitudes from 0 to 360, and latitudes, of the middles of pixels."""
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    longitude, latitude = Transformer.from_crs(crs, 4326, always_xy=True).transform(*(at * (columns, rows)))
    assert longitude.min() < -179 < 179 < longitude.max()
    return longitude % 360, latitude


@pytest.mark.parametrize("tile", ACROSS)
def test_features_in_degrees_label_a_tile_across_the_date_line(tmp_path: Path, tile: str) -> None:
    """Cut at 180 degrees, as two features, going on past it to 180.1, or before -180; and on one side only."""
    crs, at = ACROSS[tile]
    longitude, latitude = longitudes(crs, at)
    low, high = latitude.min() + 0.05, latitude.max() - 0.05
    truth = (longitude > 179.9) & (longitude < 180.1) & (latitude > low) & (latitude < high)
    assert truth.sum() > 500
    west, east = box(179.9, low, 180, high), box(-180, low, -179.9, high)
    whole = box(179.9, low, 180.1, high)
    features = {
        "cut": [MultiPolygon([west, east])], "two": [west, east], "past": [whole],
        "before": [affinity.translate(whole, -360)],
    }  # fmt: skip
    for name, shapes in features.items():
        for suffix in ("gpkg", "parquet", "geojson"):
            path = tmp_path / f"{name}.{suffix}"
            frame = gpd.GeoDataFrame({"kind": ["a"] * len(shapes)}, geometry=shapes, crs=4326)
            frame.to_parquet(path) if suffix == "parquet" else frame.to_file(path)
            label = open_labels(path, "kind", background="b").near(crs, array_bounds(*SHAPE, at)).on(at, SHAPE)
            assert (label == 1).sum() == truth.sum(), (name, suffix)
            assert ((label == 1) == truth).all()
    for shape, side in ((west, longitude < 180), (east, longitude > 180)):
        gpd.GeoDataFrame({"kind": ["a"]}, geometry=[shape], crs=4326).to_file(tmp_path / "side.gpkg")
        label = open_labels(tmp_path / "side.gpkg", "kind").near(crs, array_bounds(*SHAPE, at)).on(at, SHAPE)
        assert ((label == 0) == (truth & side)).all()
    places = [Point(179.95, latitude.mean()), Point(-179.95, latitude.mean()), Point(180.05, low + 0.05)]
    gpd.GeoDataFrame({"kind": [1, 2, 3]}, geometry=places, crs=4326).to_file(tmp_path / "points.gpkg")
    label = open_labels(tmp_path / "points.gpkg", "kind").near(crs, array_bounds(*SHAPE, at)).on(at, SHAPE)
    assert sorted(label[label != 255]) == [0, 1, 2]


@pytest.mark.parametrize("tile", ACROSS)
@pytest.mark.parametrize(("left", "width"), [(-180.0, 3600), (0.0, 3600), (179.0, 20), (-181.0, 20), (179.0, 10)])
def test_a_raster_in_degrees_labels_a_tile_across_the_date_line(
    tmp_path: Path, tile: str, left: float, width: int
) -> None:
    """Of the whole Earth from -180 or from 0, one that goes on past 180 degrees, and one that ends there."""
    crs, at = ACROSS[tile]
    longitude, latitude = longitudes(crs, at)
    values = np.arange(width) * 7 % 5 + np.arange(40)[:, None] % 2 * 5
    path = tmp_path / "degrees.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=40, width=width, count=1, dtype="uint8", crs=4326,
        transform=from_origin(left, -15, 0.1, 0.1),
    ) as raster:  # fmt: skip
        raster.write(values.astype(np.uint8), 1)
    column = np.floor((longitude - left) % 360 * 10 + 1e-9).astype(int)
    truth = np.where(
        column < width, values[np.floor((-15 - latitude) * 10).astype(int), column.clip(0, width - 1)], 255
    )
    label = open_labels(path).near(crs, array_bounds(*SHAPE, at)).on(at, SHAPE)
    assert ((label != 255) == (truth != 255)).mean() > 0.995
    assert (label == truth).mean() > 0.98  # the warp is exact to an eighth of a pixel


def test_a_raster_of_the_whole_earth_is_read_near_the_tile_only(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "world.tif", "w", driver="GTiff", height=1800, width=3600, count=1, dtype="uint8", crs=4326,
        transform=from_origin(-180, 90, 0.1, 0.1), tiled=True, compress="deflate",
    ) as raster:  # fmt: skip
        values = np.zeros((1800, 3600), np.uint8)
        values[:, 1831:] = 1  # from 3.1 degrees east on
        raster.write(values, 1)
    label = open_labels(tmp_path / "world.tif").near(CRS, BOUNDS).on(AT, SHAPE)
    assert (label == 1).all()  # 600 km east of zone 31's middle meridian of 3 degrees less 500 km: 4.2 degrees


def test_a_polygon_in_degrees_keeps_its_edges_in_utm(tmp_path: Path) -> None:
    """An edge along a parallel is a curve in UTM; and what a feature has far away has no place in it."""
    edge = 45.0
    at, shape = from_origin(500_000 - 32 * 900, 4_983_000 + 32 * 30, 900, 30), (64, 64)
    gpd.GeoDataFrame({"kind": ["a"]}, geometry=[box(-180, -89, 180, edge)], crs=4326).to_parquet(tmp_path / "a.parquet")
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    _, latitude = Transformer.from_crs(CRS, 4326, always_xy=True).transform(*(at * (columns, rows)))
    with pytest.warns(UserWarning, match="more than 180 degrees wide"):
        labels = open_labels(tmp_path / "a.parquet", "kind")
    label = labels.near(CRS, array_bounds(*shape, at)).on(at, shape)
    sure = abs(latitude - edge) > 1e-5
    assert ((label == 0) == (latitude < edge))[sure].all()


def test_features_that_cover_themselves_label_what_they_enclose(tmp_path: Path) -> None:
    corners = [AT * place for place in ((4, 4), (44, 4), (44, 44), (4, 44))]
    inner = [AT * place for place in ((14, 14), (34, 14), (34, 34), (14, 34))]
    twice = Polygon([*corners, corners[0], *inner, inner[0], corners[0]])
    doubled = MultiPolygon([Polygon(corners), Polygon(inner)])
    for shape in (twice, doubled):
        for crs in (CRS, "EPSG:4326"):
            gpd.GeoDataFrame({"kind": ["a"]}, geometry=[shape], crs=CRS).to_crs(crs).to_file(tmp_path / "twice.gpkg")
            with pytest.warns(UserWarning, match=r"twice.gpkg: 1 of 1 features .* number 1 has 1\.44\d km2"):
                labels = open_labels(tmp_path / "twice.gpkg", "kind")
            label = labels.near(CRS, BOUNDS).on(AT, SHAPE)
            assert (label[4:44, 4:44] == 0).all()
            assert (label == 0).sum() == 1600


def test_files_that_give_no_labels_say_why(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"kind": ["a"], "share": [0.5]}, geometry=[box(0, 0, 1, 1)], crs=CRS)
    frame.to_file(tmp_path / "f.gpkg")
    with pytest.raises(DatasetError, match=r"no class column was named; it has kind, share \(--class-column NAME\)"):
        open_labels(tmp_path / "f.gpkg")
    with pytest.raises(DatasetError, match="there is no column 'knd'; it has kind, share"):
        open_labels(tmp_path / "f.gpkg", "knd")
    with pytest.raises(DatasetError, match=r"holds 0\.5, which is a measurement"):
        open_labels(tmp_path / "f.gpkg", "share")
    with pytest.raises(DatasetError, match="there is no file of labels"):
        open_labels(tmp_path / "none.gpkg", "kind")
    (tmp_path / "broken.gpkg").write_text("not a geopackage")
    with pytest.raises(DatasetError, match="cannot be read as a vector file"):
        open_labels(tmp_path / "broken.gpkg", "kind")
    gpd.GeoDataFrame({"kind": ["a"]}, geometry=[LineString([(0, 0), (1, 1)])], crs=CRS).to_file(tmp_path / "l.gpkg")
    with pytest.raises(DatasetError, match="holds LineString: labels come from polygons or points"):
        open_labels(tmp_path / "l.gpkg", "kind")
    gpd.GeoDataFrame({"kind": ["a"]}, geometry=[box(0, 0, 1, 1)]).to_parquet(tmp_path / "n.parquet")
    with pytest.raises(DatasetError, match="has no CRS, so its features lie nowhere"):
        open_labels(tmp_path / "n.parquet", "kind")


def test_rasterio_burns_and_warps_in_one_thread_at_a_time(tmp_path: Path) -> None:
    """It sets Python's filter of warnings meanwhile, which holds in all threads: one lock for all that do so."""
    path, raster = tmp_path / "one.parquet", tmp_path / "classes.tif"
    gpd.GeoDataFrame({"kind": [3]}, geometry=[box(*BOUNDS)], crs=CRS).to_parquet(path)
    with rasterio.open(
        raster, "w", driver="GTiff", height=64, width=64, count=1, dtype="uint8", crs=CRS, transform=AT, nodata=0
    ) as file:
        file.write(np.full((1, 64, 64), 3, np.uint8))
    scene = xr.DataArray(np.zeros((1, 64, 64)), dims=("band", "y", "x")).rio.write_crs(CRS).rio.write_transform(AT)
    burnt, warped = (labels.near(CRS, BOUNDS) for labels in (open_labels(path, "kind"), open_labels(raster)))
    area = Area.from_file(path)
    tasks: list[Callable[[], object]] = [
        lambda: burnt.on(AT, SHAPE), lambda: warped.on(AT, SHAPE),
        lambda: area.mask(scene, slice(0, 64), slice(0, 64)),
    ]  # fmt: skip
    with ThreadPoolExecutor(len(tasks)) as pool:
        with RASTERIO_LOCK:
            started = [pool.submit(task) for task in tasks]
            assert wait(started, timeout=1).done == set()
        assert [np.shape(task.result(timeout=60)) for task in started] == [SHAPE] * 3
