"""Parts of scenes know their place on every grid, and areas are the pixels whose middles lie inside."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import dask.array
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from rasterio.features import geometry_mask
from shapely.geometry import LineString, Point, Polygon, box

from prithvi.errors import SceneError
from prithvi.scenes import Area, crop, open_scene, transform_of
from tests.scenes.test_remedies import command

Write = Callable[..., Path]
GRIDS = {
    "utm": ("EPSG:32630", Affine(30, 0, 600_000, 0, -30, 4_200_000)),
    "geographic": ("EPSG:4326", Affine(0.0003, 0, -1.9, 0, -0.0002, 37.9)),
    "rotated": (
        "EPSG:32630",
        Affine.translation(600_000, 4_200_000) @ Affine.rotation(25) @ Affine.scale(30, -30),
    ),
    "south-up": ("EPSG:32630", Affine(30, 0, 600_000, 0, 30, 4_190_000)),
    "polar": ("EPSG:3413", Affine(1000, 0, -400_000, 0, -1000, -1_200_000)),
}
SIZE = (120, 150)


def scene_on(grid: str, write: Write, size: tuple[int, int] = SIZE) -> xr.DataArray:
    crs, transform = GRIDS[grid]
    pixels = np.arange(2 * size[0] * size[1]).reshape(2, *size).astype(np.int32)
    return open_scene(write(pixels, f"{grid}.tif", names=("red", "blue"), crs=crs, transform=transform))


def corners(scene: xr.DataArray) -> np.ndarray:
    """Longitudes and latitudes of the corners."""
    turn = transform_of(scene)
    found = [turn @ place for place in ((0, 0), (scene.sizes["x"], 0), (0, scene.sizes["y"]), scene.shape[:1:-1])]
    return np.array(gpd.GeoSeries([Point(at) for at in found], crs=scene.rio.crs).to_crs(4326).get_coordinates())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(10, 70), slice(20, 90)), (slice(5, 6), slice(7, 90)), (slice(5, 60), slice(7, 8)),
        (slice(3, 4), slice(9, 10)), (slice(None), slice(-40, None)),
    ],
)  # fmt: skip
def test_a_part_lies_where_its_pixels_lie(grid: str, rows: slice, columns: slice, write_tif: Write) -> None:
    scene = scene_on(grid, write_tif)
    part = crop(scene, rows, columns)
    top, left = rows.indices(SIZE[0])[0], columns.indices(SIZE[1])[0]
    expected = GRIDS[grid][1] @ Affine.translation(left, top)
    size = max(abs(expected.a), abs(expected.e))
    for found in (transform_of(part), part.rio.transform(), part.rio.transform(recalc=False)):
        assert found.almost_equals(expected, precision=1e-6 * size)
    assert isinstance(part.data, dask.array.Array)
    np.testing.assert_array_equal(part.values, scene.values[:, :, rows, columns])
    assert scene.attrs == part.attrs
    assert transform_of(scene).almost_equals(GRIDS[grid][1], precision=1e-6 * size)  # the whole stays as it was


@pytest.mark.parametrize("grid", GRIDS)
def test_a_part_of_a_part_is_the_same_part(grid: str, write_tif: Write) -> None:
    scene = scene_on(grid, write_tif)
    twice = crop(crop(scene, slice(10, 70), slice(20, 90)), slice(5, 6), slice(30, 40))
    once = crop(scene, slice(15, 16), slice(50, 60))
    np.testing.assert_array_equal(twice.values, once.values)
    assert transform_of(twice).almost_equals(transform_of(once), precision=1e-9)
    assert twice.attrs == once.attrs


@pytest.mark.parametrize("grid", GRIDS)
def test_slices_of_parts_lie_where_their_pixels_lie(grid: str, write_tif: Write) -> None:
    part = crop(scene_on(grid, write_tif), slice(10, 70), slice(20, 90)).isel(y=slice(3, 9), x=slice(7, 8))
    expected = GRIDS[grid][1] @ Affine.translation(27, 13)
    assert transform_of(part).almost_equals(expected, precision=1e-6 * max(abs(expected.a), abs(expected.e)))


def test_a_part_without_pixels_or_with_steps_is_refused(write_tif: Write) -> None:
    scene = scene_on("utm", write_tif)
    with pytest.raises(SceneError, match=r"no pixel is left of .*utm\.tif: rows 200 to 210"):
        crop(scene, slice(200, 210), slice(0, 10))
    with pytest.raises(SceneError, match="steps of 2 rows and 1 columns"):
        crop(scene, slice(0, 10, 2), slice(0, 10))


def expected_mask(area: Area, scene: xr.DataArray) -> np.ndarray:
    """Polygons with a corner on every thousandth of their edges, on the whole grid at once."""
    dense = [shapely.segmentize(shape, shape.length / 4000) for shape in area.polygons]
    moved = gpd.GeoSeries(dense, crs=area.crs).to_crs(scene.rio.crs)
    return geometry_mask(moved, scene.shape[2:], transform_of(scene), invert=True)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_box_in_degrees_holds_the_pixels_whose_middles_lie_in_it(grid: str, write_tif: Write) -> None:
    scene = scene_on(grid, write_tif)
    lon, lat = corners(scene).T
    (west, east), (south, north) = np.quantile(lon, (0.3, 0.62)), np.quantile(lat, (0.21, 0.77))
    area = Area.box(float(west), float(south), float(east), float(north))
    truth = expected_mask(area, scene)
    assert 0.01 < truth.mean() < 0.9
    assert (area.mask(scene, slice(None), slice(None)) != truth).mean() < 2e-4
    rows, columns = area.window(scene)
    inside = area.mask(scene, rows, columns)
    assert inside.sum() == area.mask(scene, slice(None), slice(None)).sum()  # nothing lies outside of it
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()  # noqa: PT018
    part = crop(scene, rows, columns)
    np.testing.assert_array_equal(area.mask(part, slice(None), slice(None)), inside)


def test_the_edges_of_a_wide_box_are_curved_in_utm(write_tif: Write) -> None:
    """A parallel of three degrees bends by hundreds of metres between its ends."""
    path = write_tif(
        np.ones((1, 300, 1000), np.int16), "wide.tif", names=("red",), crs="EPSG:32633",
        transform=Affine(200, 0, 400_000, 0, -200, 6_680_000),
    )  # fmt: skip
    scene = open_scene(path)
    area = Area.box(13.5, 59.9, 16.5, 60.1)
    truth = expected_mask(area, scene)
    assert (area.mask(scene, slice(None), slice(None)) != truth).sum() <= 5
    straight = gpd.GeoSeries(list(area.polygons), crs=4326).to_crs(scene.rio.crs)
    assert (geometry_mask(straight, scene.shape[2:], transform_of(scene), invert=True) != truth).sum() > 500


@settings(max_examples=60, deadline=None)
@given(
    grid=st.sampled_from(sorted(GRIDS)),
    points=st.lists(st.tuples(st.floats(0.02, 0.98), st.floats(0.02, 0.98)), min_size=3, max_size=7),
    top=st.integers(0, 100), rows=st.integers(1, 30), left=st.integers(0, 130), columns=st.integers(1, 40),
)  # fmt: skip
def test_strips_and_parts_agree_with_the_whole(
    grid: str, points: list[tuple[float, float]], top: int, rows: int, left: int, columns: int
) -> None:
    crs, transform = GRIDS[grid]
    scene = xr.DataArray(np.ones((1, 1, *SIZE), np.float32), dims=("time", "band", "y", "x"))
    scene = scene.rio.write_crs(crs).rio.write_transform(transform)
    shape = shapely.make_valid(Polygon([transform @ (x * SIZE[1], y * SIZE[0]) for x, y in points]))
    area = Area(tuple(part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"), scene.rio.crs, "it")
    whole = area.mask(scene, slice(None), slice(None))
    part = slice(top, top + rows), slice(left, left + columns)
    np.testing.assert_array_equal(area.mask(scene, *part), whole[part])
    if area.polygons:
        np.testing.assert_array_equal(whole, geometry_mask(area.polygons, SIZE, transform, invert=True))
    if whole.any():
        found = area.window(scene)
        where = np.nonzero(whole)
        assert [(s.start, s.stop) for s in found] == [(int(axis.min()), int(axis.max()) + 1) for axis in where]


def test_an_area_larger_than_the_scene_or_the_world_is_the_whole_scene(write_tif: Write) -> None:
    for grid in GRIDS:
        scene = scene_on(grid, write_tif)
        world = Area.box(-180, -90, 180, 90)
        assert world.window(scene) == (slice(0, SIZE[0]), slice(0, SIZE[1]))
        assert world.mask(scene, slice(None), slice(None)).all()


def test_a_scene_across_the_antimeridian(write_tif: Write) -> None:
    path = write_tif(
        np.ones((1, 100, 100), np.int16), "fiji.tif", names=("red",), crs="EPSG:32701",
        transform=Affine(1000, 0, 130_000, 0, -1000, 8_100_000),
    )  # fmt: skip
    scene = open_scene(path)
    east, west = Area.box(-180, -20, -170, -10), Area.box(170, -20, 180, -10)
    one, other = (area.mask(scene, slice(None), slice(None)) for area in (east, west))
    assert one.any()
    assert other.any()
    assert (one ^ other).all()


ACROSS = {
    "zone 1": ("EPSG:32701", Affine(600, 0, 150_000, 0, -600, 8_160_000)),
    "zone 60": ("EPSG:32760", Affine(600, 0, 790_000, 0, -600, 8_160_000)),
    "past 180 degrees": ("EPSG:4326", Affine(0.01, 0, 179.5, 0, -0.005, -16.5)),
    "before -180 degrees": ("EPSG:4326", Affine(0.01, 0, -180.5, 0, -0.005, -16.5)),
}


@pytest.mark.parametrize("grid", ACROSS)
def test_an_area_across_the_date_line_is_that_of_its_pixels(grid: str, write_tif: Write, tmp_path: Path) -> None:
    """A box from west to east, polygons cut at 180 degrees, and such as go on past it."""
    crs, transform = ACROSS[grid]
    path = write_tif(np.ones((1, 100, 100), np.int16), "fiji.tif", names=("red",), crs=crs, transform=transform)
    scene = open_scene(path)
    columns, rows = np.meshgrid(np.arange(100) + 0.5, np.arange(100) + 0.5)
    longitude, latitude = Transformer.from_crs(crs, 4326, always_xy=True).transform(*(transform @ (columns, rows)))
    truth = ((longitude % 360 > 179.9) & (longitude % 360 < 180.2)) & (abs(latitude + 16.8) < 0.1)
    assert truth.sum() > 500
    area = Area.box(179.9, -16.9, -179.8, -16.7)
    assert (area.mask(scene, slice(None), slice(None)) == truth).all()
    rows_used, columns_used = np.nonzero(truth)
    assert area.window(scene) == (
        slice(rows_used.min(), rows_used.max() + 1), slice(columns_used.min(), columns_used.max() + 1)
    )  # fmt: skip
    halves = [box(179.9, -16.9, 180, -16.7), box(-180, -16.9, -179.8, -16.7)]
    whole = shapely.segmentize(box(179.9, -16.9, 180.2, -16.7), 0.001)
    for name, shapes, of in (
        ("cut", [shapely.MultiPolygon(halves)], 4326), ("two", halves, 4326), ("past", [whole], 4326),
        ("before", [shapely.affinity.translate(whole, -360)], 4326),
        ("UTM", [gpd.GeoSeries([whole], crs=4326).to_crs(32760)[0]], 32760),
    ):  # fmt: skip
        gpd.GeoDataFrame(geometry=shapes, crs=of).to_file(tmp_path / f"{name}.gpkg")
        mask = Area.from_file(tmp_path / f"{name}.gpkg").mask(scene, slice(None), slice(None))
        assert (mask != truth).sum() <= (2 if name == "UTM" else 0), name
    with pytest.raises(SceneError, match=r"the scene's 179\.\d+, -17(\.\d+)?, -179\.\d+, -16"):
        Area.box(10, 50, 11, 51).window(scene)


def in_degrees(crs: str, transform: Affine, write: Write) -> tuple[xr.DataArray, np.ndarray, np.ndarray]:
    """A scene of 130 x 140 pixels, and where their middles lie."""
    pixels = np.ones((2, 130, 140), np.int32)
    scene = open_scene(write(pixels, names=("red", "blue"), crs=crs, transform=transform))
    rows, columns = np.mgrid[0:130, 0:140] + 0.5
    return scene, *Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*(transform @ (columns, rows)))


@pytest.mark.parametrize("corner", [(-70_000, 65_000), (-10_000, 120_000)])
@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
def test_an_area_in_degrees_over_a_pole_is_that_of_its_pixels(
    crs: str, corner: tuple[float, float], write_tif: Write
) -> None:
    scene, longitude, latitude = in_degrees(crs, Affine(1000, 0, corner[0], 0, -1000, corner[1]), write_tif)
    north = 1 if crs == "EPSG:3413" else -1
    for west, least, east in ((-180, 80, 180), (-180, 89.7, 180), (1, 80, 91), (170, 80, -100)):
        low, high = sorted((north * least, north * 90))
        area = Area.box(west, low, east, high)
        along = (longitude >= west) & (longitude <= east) if west < east else (longitude >= west) | (longitude <= east)
        expected = along & (north * latitude >= least)
        assert expected.any()
        assert (area.mask(scene, slice(None), slice(None)) != expected).mean() < 0.002, (west, least, east)


def test_an_area_in_degrees_over_a_scene_of_the_world(write_tif: Write) -> None:
    """Its outline has one longitude at most in common with the box."""
    side = 20_037_508
    transform = Affine(2 * side / 140, 0, -side, 0, -2 * side / 130, side)
    scene, longitude, latitude = in_degrees("EPSG:3857", transform, write_tif)
    inside = Area.box(-7, -60, 20, 60).mask(scene, slice(None), slice(None))
    expected = (longitude > -7) & (longitude < 20) & (abs(latitude) < 60)
    assert expected.any()
    np.testing.assert_array_equal(inside, expected)


def test_an_area_beside_the_scene_says_where_both_are(write_tif: Write) -> None:
    scene = scene_on("utm", write_tif)
    with pytest.raises(SceneError) as failure:
        Area.box(10, 50, 11, 51).window(scene)
    said = str(failure.value)
    assert "the box 10,50,11,51 lies beside" in said
    assert "are 10, 50, 11, 51, the scene's -1.86" in said
    assert not Area.box(10, 50, 11, 51).mask(scene, slice(None), slice(None)).any()
    with pytest.raises(SceneError, match="lies beside"):
        Area((box(7e5, 7e6, 7.1e5, 7.1e6),), CRS.from_user_input("EPSG:32760"), "another zone").window(scene)


def test_an_area_between_the_middles_of_pixels_is_refused(write_tif: Write) -> None:
    scene = scene_on("utm", write_tif)
    tiny = Area((box(600_001, 4_199_991, 600_005, 4_199_999),), CRS.from_user_input("EPSG:32630"), "a shed")
    with pytest.raises(SceneError, match="a shed holds the middle of no pixel"):
        tiny.window(scene)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((10, 50, 0, 60), "would be 350 degrees wide across the date line: exchange west and east"),
        ((0, 50, 10, 95), "leaves the Earth"),
        ((0, 50, 190, 60), "leaves the Earth"),
        ((0, float("nan"), 10, 60), "leaves the Earth"),
        ((0, 60, 10, 50), "is empty"),
        ((5, 50, 5, 60), "is empty"),
    ],
)
def test_impossible_boxes_are_refused(edges: tuple[float, float, float, float], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        Area.box(*edges)


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "parquet", "shp"])
def test_polygons_come_from_files_of_any_kind(suffix: str, tmp_path: Path, write_tif: Write) -> None:
    scene = scene_on("utm", write_tif)
    shapes = [box(600_300, 4_199_000, 600_900, 4_199_700), box(601_500, 4_198_000, 602_100, 4_198_400)]
    frame = gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=shapes, crs="EPSG:32630")
    path = tmp_path / f"area.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        (frame.to_crs(4326) if suffix == "geojson" else frame).to_file(path)
    area = Area.from_file(path)
    truth = geometry_mask(shapes, SIZE, GRIDS["utm"][1], invert=True)
    assert (area.mask(scene, slice(None), slice(None)) != truth).sum() == 0
    assert area.source == str(path)
    assert area.window(scene) == (slice(10, 67), slice(10, 70))


def test_files_without_an_area_say_what_they_lack(tmp_path: Path) -> None:
    def written(name: str, shapes: list, crs: str | None = "EPSG:4326", **more: object) -> Path:
        path = tmp_path / name
        frame = gpd.GeoDataFrame({"n": list(range(len(shapes)))}, geometry=shapes, crs=crs)
        frame.to_parquet(path) if name.endswith("parquet") else frame.to_file(path, **more)
        return path

    with pytest.raises(SceneError, match="there is no file"):
        Area.from_file(tmp_path / "none.gpkg")
    with pytest.raises(SceneError, match="does not say its coordinate reference system"):
        Area.from_file(written("nowhere.parquet", [box(0, 0, 1, 1)], None))
    with pytest.raises(SceneError, match=r"holds no polygon \(LineString, Point\)"):
        Area.from_file(written("lines.geojson", [Point(0, 0), LineString([(0, 0), (1, 1)])]))
    with pytest.raises(SceneError, match=r"holds no polygon \(nothing at all\)"):
        Area.from_file(written("empty.gpkg", []))
    (tmp_path / "broken.geojson").write_text("{")
    (tmp_path / "broken.parquet").write_text("no")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    for name in ("broken.geojson", "broken.parquet"):
        with pytest.raises(SceneError, match="cannot be read as polygons"):
            Area.from_file(tmp_path / name)
    with pytest.raises(SceneError, match="a table without geometries"):
        Area.from_file(tmp_path / "table.csv")
    two = written("two.gpkg", [box(0, 0, 1, 1)], layer="fields")
    written("two.gpkg", [box(0, 0, 1, 1)], layer="farms")
    with pytest.raises(
        SceneError, match=r"has the layers fields, farms, and which .*: say layer=\.\.\. of Area\.from_file, or write"
    ):
        Area.from_file(two)
    with pytest.raises(SceneError, match="has no layer barns"):
        Area.from_file(two, layer="barns")
    assert len(Area.from_file(two, layer="farms").polygons) == 1


def test_polygons_that_cross_or_cover_themselves_are_mended_and_said(tmp_path: Path, write_tif: Write) -> None:
    scene = scene_on("utm", write_tif)
    left, top = 600_300, 4_199_700
    ring = [(left, top), (left + 1200, top), (left + 1200, top - 1200), (left, top - 1200)]
    inner = [(left + 300, top - 300), (left + 900, top - 300), (left + 900, top - 900), (left + 300, top - 900)]
    twice = Polygon([*ring, ring[0], *inner, inner[0], ring[0]])
    path = tmp_path / "district.gpkg"
    gpd.GeoDataFrame(geometry=[twice], crs="EPSG:32630").to_file(path)
    with pytest.warns(UserWarning, match=r"district.gpkg: 1 of 1 features cross .* number 1 has 1\.4\d+ km2"):
        area = Area.from_file(path)
    assert area.mask(scene, slice(None), slice(None)).sum() == 40 * 40
    gpd.GeoDataFrame(geometry=[Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])], crs=4326).to_file(tmp_path / "bow.geojson")
    with pytest.warns(UserWarning, match="1 of 1 features cross"):
        assert len(Area.from_file(tmp_path / "bow.geojson").polygons) == 2


def test_a_crop_can_be_written_and_opened_again(tmp_path: Path, write_tif: Write) -> None:
    part = crop(scene_on("rotated", write_tif), slice(10, 70), slice(20, 90))
    part.isel(time=0).rio.to_raster(tmp_path / "part.tif", recalc_transform=False)
    with rasterio.open(tmp_path / "part.tif") as raster:
        assert raster.transform.almost_equals(transform_of(part), precision=1e-6)


def test_an_area_is_mended_as_is_printed(tmp_path: Path) -> None:
    bare = tmp_path / "bare.gpkg"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pyogrio's about what this file is for
        gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)]).to_file(bare)
    with pytest.raises(SceneError) as failure:
        Area.from_file(bare)
    placed = tmp_path / "placed.gpkg"
    command(str(failure.value), "ogr2ogr", **{"EPSG:...": "EPSG:32630", "OUT": str(placed), "IN": str(bare)})
    assert Area.from_file(placed).crs.to_epsg() == 32630
