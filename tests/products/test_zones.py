"""Areas by zone: as large as the zones are on the ellipsoid, whatever the reference systems."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from affine import Affine
from rasterio.transform import from_origin

from prithvi.errors import DatasetError, OutputError, SceneError
from prithvi.mapping import area_by_zone, write_zones
from prithvi.modelio.predictor import FittedModel
from prithvi.products.products import Products
from prithvi.products.provenance import Provenance
from tests.products.test_class_polygons import DEGREES, UTM, check_geoparquet, noise, write_confidence, write_map


def zones_of(shapes: list[Any], crs: str = "EPSG:32630", **columns: list[Any]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns or {"id": list(range(len(shapes)))}, geometry=shapes, crs=crs)


def box(left: float, bottom: float, right: float, top: float, transform: Affine = UTM) -> Any:
    """Between columns and rows that are counted from the upper left corner."""
    return shapely.box(*(transform @ (left, top)), *(transform @ (right, bottom)))


def geodesic(shape: Any, crs: str) -> float:
    """Karney's area of the shape, its edges followed closely."""
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    dense = shapely.segmentize(shape, 1e-4 if pyproj.CRS(crs).is_geographic else 10)
    moved = shapely.transform(dense, lambda places: np.stack(to_degrees.transform(*places.T), axis=1))
    return abs(float(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(moved)[0]))


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32630", UTM),
        ("EPSG:4326", DEGREES),
        ("EPSG:32630", Affine(10, 0, 600_000, 0, 10, 4_200_000)),  # rows run north
        ("EPSG:3857", from_origin(-400_000, 9_000_000, 30, 30)),  # where the map's metres are far from metres
    ],
)
def test_areas_are_the_zone_s_own_on_the_ellipsoid(tmp_path: Path, crs: str, transform: Affine) -> None:
    values = np.zeros((80, 90))
    values[:, 45:] = 1
    path = write_map(tmp_path / "map.tif", values, transform, crs)
    corners = [transform @ place for place in ((10.3, 5.6), (80.2, 30.7), (60.1, 70.9), (12.2, 55.5))]
    zone = shapely.Polygon(corners)
    left = zone.intersection(box(0, 80, 45, 0, transform))
    for other in (crs, "EPSG:3035"):
        table = area_by_zone(path, zones_of([zone], crs).to_crs(other)).set_index("name")
        assert table["area_m2"].sum() == pytest.approx(geodesic(zone, crs), rel=1e-4)
        assert table["area_m2"]["land"] == pytest.approx(geodesic(left, crs), rel=1e-4)
        assert table["share"]["land"] == pytest.approx(geodesic(left, crs) / geodesic(zone, crs), rel=1e-4)
        assert table["without_data_m2"].max() <= 1e-4 * geodesic(zone, crs)


def test_a_zone_as_wide_as_a_country_keeps_its_edges(tmp_path: Path) -> None:
    """An edge along a parallel is a curve in the map's UTM, by kilometres over six degrees."""
    zone = shapely.box(-5.5, 42.0, -0.5, 43.0)
    path = write_map(tmp_path / "map.tif", np.ones((300, 500)), from_origin(250_000, 4_900_000, 1000, 1000))
    table = area_by_zone(path, zones_of([zone], "EPSG:4326")).set_index("name")
    assert table["area_m2"]["water"] == pytest.approx(geodesic(zone, "EPSG:4326"), rel=1e-4)


def test_zones_that_divide_the_map_add_up_to_it(tmp_path: Path) -> None:
    from prithvi.products.classmap import mapped_areas

    path = write_map(tmp_path / "map.tif", noise((60, 50)))
    zones = zones_of([box(0, 60, 17.3, 0), box(17.3, 60, 50, 0)])
    table = area_by_zone(path, zones)
    assert table.groupby("name")["area_m2"].sum().to_dict() == pytest.approx(mapped_areas(path), rel=1e-9)
    assert table.groupby("id")["share"].sum().tolist() == pytest.approx([1, 1])
    missing = table.groupby("id")["without_data_m2"].first() + table.groupby("id")["area_m2"].sum()
    assert missing.tolist() == pytest.approx([geodesic(zone, "EPSG:32630") for zone in zones.geometry], rel=1e-6)


def test_large_zones_are_looked_at_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_map(tmp_path / "map.tif", noise((60, 50)))
    zones = zones_of([box(3.5, 55.5, 47.5, 2.5)])
    at_once = area_by_zone(path, zones)
    monkeypatch.setattr("prithvi.products.zones.CELLS", 200)
    assert area_by_zone(path, zones)["area_m2"].tolist() == pytest.approx(at_once["area_m2"].tolist(), rel=1e-12)


def test_rows_have_the_zone_s_columns_and_every_class(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", [[0, 0, 1, 255]])
    certain = write_confidence(tmp_path / "confidence.tif", [[100, 200, 255, 50]])
    outline = [box(0, 1, 2, 0), box(1.5, 1, 4, 0), box(100, 1, 110, 0)]
    zones = zones_of(outline, name=["a", "b", "far"], people=[3, 4, 5])
    zones.to_file(tmp_path / "zones.gpkg")
    table = area_by_zone(path, tmp_path / "zones.gpkg", confidence=certain)
    assert list(table.columns) == [
        "zone_name", "people", "class", "name", "area_m2", "share", "confidence", "without_data_m2", "geometry",
    ]  # fmt: skip
    assert table["zone_name"].tolist() == ["a"] * 3 + ["b"] * 3 + ["far"] * 3
    assert table["name"].tolist() == ["land", "water", "crop"] * 3
    assert table["area_m2"].tolist() == pytest.approx([200, 0, 0, 50, 100, 0, 0, 0, 0], rel=1e-3, abs=0)
    assert table["share"].tolist() == pytest.approx([1, 0, 0, 1 / 3, 2 / 3, 0, *[np.nan] * 3], nan_ok=True)
    nan = np.nan
    assert table["confidence"].tolist() == pytest.approx([0.75, nan, nan, 1, nan, nan, nan, nan, nan], nan_ok=True)
    assert table["without_data_m2"][::3].tolist() == pytest.approx([0, 100, 1000], rel=1e-3, abs=1e-9)
    assert table.geometry[0].equals(outline[0])
    assert table.crs == "EPSG:32630"


def test_confidence_is_weighed_by_area(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", [[1, 1]])
    certain = write_confidence(tmp_path / "confidence.tif", [[0, 200]])
    table = area_by_zone(path, zones_of([box(0.75, 1, 2, 0)]), confidence=certain).set_index("name")
    assert table["confidence"]["water"] == pytest.approx(0.8, rel=1e-6)


def test_odd_zones_do_not_end_it(tmp_path: Path) -> None:
    """On the other side of the Earth, without a shape, crossing itself, with heights."""
    path = write_map(tmp_path / "map.tif", np.ones((20, 20)))
    bow = shapely.Polygon([UTM @ place for place in ((0, 0), (10, 10), (10, 0), (0, 10))])
    high = shapely.force_3d(box(0, 10, 10, 0), 7.0)
    zones = zones_of([shapely.box(177, -40, 178, -39)], "EPSG:4326").to_crs("EPSG:4326")
    zones = gpd.GeoDataFrame(
        pd.concat([zones, zones_of([None, bow, high]).to_crs("EPSG:4326")], ignore_index=True), crs="EPSG:4326"
    )
    with pytest.warns(UserWarning, match=r"1 of 4 features cross or cover themselves .* number 3 has 0\.00500\d km2"):
        table = area_by_zone(path, zones)
    water = table[table["name"] == "water"]["area_m2"].tolist()
    assert water == pytest.approx([0, 0, 5000, 10_000], rel=1e-3, abs=0)
    assert table["without_data_m2"].tolist()[3:] == pytest.approx([0] * 9, abs=1e-6)
    assert table["without_data_m2"][0] == pytest.approx(geodesic(zones.geometry[0], "EPSG:4326"), rel=1e-6)
    assert write_zones(table, tmp_path / "odd")[1].exists()
    everywhere_else = area_by_zone(path, zones[:1])
    assert everywhere_else["area_m2"].tolist() == [0, 0, 0]
    assert everywhere_else["share"].isna().all()


def test_a_zone_drawn_twice_round_counts_once(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", np.ones((60, 60)))
    corners = [UTM @ place for place in ((5, 5), (45, 5), (45, 45), (5, 45))]
    inner = [UTM @ place for place in ((15, 15), (35, 15), (35, 35), (15, 35))]
    twice = shapely.Polygon([*corners, corners[0], *inner, inner[0], corners[0]])
    doubled = shapely.MultiPolygon([box(5, 45, 45, 5), box(5, 45, 45, 5)])
    zones = zones_of([twice, doubled, box(5, 45, 45, 5)])
    with pytest.warns(
        UserWarning, match=r"the zones: 2 of 3 features .*: number 1 has 0\.1601 km2, number 2 has 0\.1601 km2"
    ):
        table = area_by_zone(path, zones.to_crs("EPSG:4326"))
    areas = table[table["name"] == "water"].set_index("id")
    assert areas["area_m2"].tolist() == pytest.approx([areas["area_m2"][2]] * 3, rel=1e-6)
    assert areas["area_m2"][2] == pytest.approx(160_000, rel=1e-3)
    assert areas["without_data_m2"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32701", Affine(600, 0, 150_000, 0, -600, 8_160_000)),
        ("EPSG:32760", Affine(600, 0, 790_000, 0, -600, 8_160_000)),
        ("EPSG:4326", Affine(0.01, 0, 179.5, 0, -0.005, -16.5)),  # on past 180 degrees
        ("EPSG:4326", Affine(0.01, 0, -180.5, 0, -0.005, -16.5)),
    ],
)
def test_zones_across_the_date_line_have_their_whole_area(tmp_path: Path, crs: str, transform: Affine) -> None:
    path = write_map(tmp_path / "map.tif", np.ones((100, 100)), transform, crs)
    whole = shapely.box(179.9, -16.9, 180.2, -16.7)
    cut = shapely.MultiPolygon([shapely.box(179.9, -16.9, 180, -16.7), shapely.box(-180, -16.9, -179.8, -16.7)])
    zones = zones_of([whole, cut, shapely.affinity.translate(whole, -360)], "EPSG:4326")
    utm = zones_of([gpd.GeoSeries([shapely.segmentize(whole, 0.01)], crs=4326).to_crs(32760)[0]], "EPSG:32760")
    for frame in (zones, utm):
        table = area_by_zone(path, frame)
        water = table[table["name"] == "water"]
        assert water["area_m2"].tolist() == pytest.approx([geodesic(whole, "EPSG:4326")] * len(frame), rel=1e-3)
        assert water["without_data_m2"].max() < 1e-3 * geodesic(whole, "EPSG:4326")


def test_files_are_written_whole(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", noise((20, 20)))
    table = area_by_zone(path, zones_of([box(0, 10, 10, 0), box(5, 20, 20, 5)], who=["ä", "b"]))
    csv, parquet = write_zones(table, tmp_path / "out" / "flood", Provenance("a model"))
    assert (csv.name, parquet.name) == ("flood_zones.csv", "flood_zones.parquet")
    assert sorted(entry.name for entry in csv.parent.iterdir()) == [csv.name, parquet.name]
    pd.testing.assert_frame_equal(
        pd.read_csv(csv), pd.DataFrame(table.drop(columns="geometry")), check_dtype=False, rtol=1e-12
    )
    check_geoparquet(parquet)
    metadata = pq.read_metadata(parquet).metadata
    assert metadata[b"PRITHVI_MODEL"] == b"a model"
    assert json.loads(metadata[b"geo"])["columns"]["geometry"]["geometry_types"] == ["Polygon"]
    assert gpd.read_parquet(parquet).geometry.tolist() == table.geometry.tolist()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_zones(table, tmp_path / "file" / "flood")


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", noise((9, 9)))
    good = zones_of([box(0, 5, 5, 0)])
    (tmp_path / "text.gpkg").write_text("no zones")
    for name in ("text.gpkg", "none.geojson", "none.parquet"):
        with pytest.raises(DatasetError, match=f"{name} cannot be read as zones"):
            area_by_zone(path, tmp_path / name)
    good[:0].to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(DatasetError, match="has no features"):
        area_by_zone(path, tmp_path / "empty.parquet")
    good.set_crs(None, allow_override=True).to_parquet(tmp_path / "nowhere.parquet")
    with pytest.raises(DatasetError, match="no coordinate reference system"):
        area_by_zone(path, tmp_path / "nowhere.parquet")
    with pytest.raises(DatasetError, match="has Point features; zones are polygons"):
        area_by_zone(path, zones_of([shapely.Point(UTM @ (1, 1))]))
    turned = write_map(tmp_path / "turned.tif", noise((9, 9)), UTM @ Affine.rotation(20))
    with pytest.raises(SceneError, match="is rotated; areas by zone need rows that run east"):
        area_by_zone(turned, good)


FAR = {
    "New Caledonia": (165, -21), "Guiana": (-53, 4), "Tahiti": (-150, -17), "87 degrees east of it": (84, 0),
    "a quarter of the Earth away": (87, 0), "behind the Earth": (177, -40),
}  # fmt: skip


def test_parts_far_away_leave_a_zone_s_area_as_it_is(tmp_path: Path) -> None:
    """UTM has no numbers for them, or wrong ones."""
    path = write_map(tmp_path / "map.tif", np.ones((40, 40)))
    near = gpd.GeoSeries([box(-10, 50, 50, -10)], crs="EPSG:32630").to_crs("EPSG:4326").iloc[0]
    far = [shapely.box(x - 1, y - 1, x + 1, y + 1) for x, y in FAR.values()]
    shapes = [near, *(shapely.MultiPolygon([near, part]) for part in far)]
    shapes += [shapely.box(-30, 30, 60, 70), shapely.box(-180, -90, 180, 90), shapely.box(-180, 0, 180, 85)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*more than 180 degrees wide")
        for crs in ("EPSG:4326", "EPSG:4258"):
            table = area_by_zone(path, zones_of(shapes, crs))
            water = table[table["name"] == "water"]["area_m2"]
            assert water.tolist() == pytest.approx([160_000] * len(shapes), rel=2e-3)


def test_zones_of_a_map_with_a_pole_in_it_and_of_one_of_the_world(tmp_path: Path) -> None:
    polar = write_map(
        tmp_path / "polar.tif", np.ones((130, 140)), Affine(10_000, 0, -700_000, 0, -10_000, 650_000), "EPSG:3413"
    )
    cap, quarter, part = shapely.box(-180, 86, 180, 90), shapely.box(0, 86, 90, 90), shapely.box(-5, 40, 5, 50)
    geod = pyproj.Geod(ellps="WGS84")
    sizes = [abs(geod.geometry_area_perimeter(shapely.segmentize(shape, 0.05))[0]) for shape in (quarter, part)]
    world = write_map(tmp_path / "world.tif", np.ones((90, 180)), from_origin(-180, 90, 2, 2), "EPSG:4326")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*more than 180 degrees wide")
        for path, crs in (polar, "EPSG:4326"), (world, "EPSG:4258"):
            table = area_by_zone(path, zones_of([cap, quarter], crs))
            water = table[table["name"] == "water"]["area_m2"].tolist()
            assert water == pytest.approx([4 * sizes[0], sizes[0]], rel=2e-2)
    # Around a pole the inside of a map lies outside the box of its outline in cylindrical projections.
    belt = shapely.segmentize(shapely.box(-180, 86, 180, 88), 0.1)
    size = 4 * abs(geod.geometry_area_perimeter(shapely.segmentize(shapely.box(0, 86, 90, 88), 0.05))[0])
    for crs in ("EPSG:3857", "EPSG:6933"):
        there = gpd.GeoDataFrame(geometry=gpd.GeoSeries([belt], crs=4326).to_crs(crs))
        assert area_by_zone(polar, there)["area_m2"].sum() == pytest.approx(size, rel=2e-2), crs
    for crs in ("EPSG:4258", "EPSG:3035", "EPSG:32631", "EPSG:2154"):
        there = gpd.GeoDataFrame(geometry=gpd.GeoSeries([shapely.segmentize(part, 0.1)], crs=4326).to_crs(crs))
        assert area_by_zone(world, there)["area_m2"].sum() == pytest.approx(sizes[1], rel=1e-2)


def test_columns_of_zones_may_be_called_anything(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", np.ones((9, 9)))
    zones = zones_of([box(0, 5, 5, 0)], name=["a"], zone_name=["b"])
    zones["centre"] = zones.centroid
    zones = zones.rename_geometry("geom")
    zones["geometry"] = ["in words"]
    zones.to_parquet(tmp_path / "zones.parquet")
    table = area_by_zone(path, tmp_path / "zones.parquet")
    write_zones(table, tmp_path / "out")
    told = pd.read_csv(tmp_path / "out_zones.csv").iloc[1]
    assert (told["zone_zone_name"], told["zone_name"], told["name"]) == ("a", "b", "water")
    assert told["zone_geometry"] == "in words"
    assert "centre" not in told
    assert told["area_m2"] == pytest.approx(2500, rel=1e-3)
    again = gpd.read_parquet(tmp_path / "out_zones.parquet")
    assert area_by_zone(path, again)["area_m2"].sum() == pytest.approx(3 * 2500, rel=1e-3)


def test_what_is_wrong_with_zones_is_said_before_a_map_is_made(tmp_path: Path, fitted: FittedModel) -> None:
    zones_of([shapely.Point(UTM @ (1, 1))]).to_file(tmp_path / "points.gpkg")
    with pytest.raises(DatasetError, match="zones are polygons"):
        Products(zones=tmp_path / "points.gpkg").check(fitted, None)
