"""Polygons of class maps: the same whatever the strips, their areas, their files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from prithvi.errors import ConfigError, OutputError, SceneError
from prithvi.mapping import class_polygons, vectorise
from prithvi.products.class_polygons import _frames, areas_of
from prithvi.products.classmap import ClassMap, open_classes
from prithvi.products.provenance import Provenance
from prithvi.products.vectorfiles import write_vectors

UTM = from_origin(600_000, 4_200_000, 10, 10)
DEGREES = from_origin(-3.1, 38.2, 0.001, 0.0015)
NAMES = {0: "land", 1: "water", 2: "crop"}
GRIDS = [
    UTM,
    Affine(10, 0, 600_000, 0, 10, 4_200_000),
    Affine.translation(600_000, 4_200_000) @ Affine.rotation(30) @ Affine.scale(10, -10),
    Affine(0.00026949458523585647, 0, -3.0123456789, 0, -0.00026949458523585647, 38.123456789),
]


def write_map(
    path: Path,
    values: Any,
    transform: Affine = UTM,
    crs: str | None = "EPSG:32630",
    names: dict[int, str] = NAMES,
    **more: Any,
) -> Path:
    values = np.asarray(values, dtype=more.pop("dtype", "uint8"))
    profile = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1,
               "dtype": values.dtype, "nodata": 255, "crs": crs, "transform": transform}  # fmt: skip
    with rasterio.open(path, "w", **{**profile, **more}) as raster:
        raster.write(values, 1)
        raster.update_tags(**{f"CLASS_{value}": name for value, name in names.items()})
    return path


def write_confidence(path: Path, values: Any, transform: Affine = UTM, crs: str = "EPSG:32630") -> Path:
    write_map(path, values, transform, crs, {})
    with rasterio.open(path, "r+") as raster:
        raster.scales = [0.005]
    return path


def at_once(values: Any, transform: Affine) -> list[tuple[int, bytes]]:
    """What GDAL makes of the whole raster."""
    found = rasterio.features.shapes(values, values != 255, connectivity=4, transform=transform)
    return normal((int(value), shapely.geometry.shape(geometry)) for geometry, value in found)


def of_frame(frame: gpd.GeoDataFrame) -> list[tuple[int, bytes]]:
    return normal(zip(frame["class"], frame.geometry, strict=True))


def normal(polygons: Iterable[tuple[int, Any]]) -> list[tuple[int, bytes]]:
    return sorted((value, shapely.to_wkb(shapely.normalize(polygon))) for value, polygon in polygons)


def noise(shape: tuple[int, int], shares: Sequence[float] = (0.5, 0.3, 0.15, 0.05)) -> Any:
    return np.random.default_rng(0).choice(np.array([0, 1, 2, 255], dtype=np.uint8), size=shape, p=shares)


@settings(max_examples=200, deadline=None)
@given(
    values=arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 255])),
    rows=st.integers(1, 15),
    transform=st.sampled_from(GRIDS),
)
def test_strips_give_the_polygons_of_the_whole(values: Any, rows: int, transform: Affine) -> None:
    profile = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": "uint8", "nodata": 255}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", crs="EPSG:32630", transform=transform, **profile) as raster:
            raster.write(values, 1)
        with open_classes(memory.name) as classes:
            (frame,) = _frames(classes, None, 0.0, 0.0, rows)
    assert of_frame(frame) == at_once(values, transform)
    assert frame.is_valid.all()


def test_a_large_noisy_map_is_the_same_in_strips(tmp_path: Path) -> None:
    """Thousands of polygons, holes in holes, and one class that reaches through every strip."""
    values = noise((200, 150), shares=(0.7, 0.2, 0.05, 0.05))
    path = write_map(tmp_path / "map.tif", values)
    vectorise(path, tmp_path / "strips.parquet", rows=7)
    frame = gpd.read_parquet(tmp_path / "strips.parquet")
    assert of_frame(frame) == at_once(values, UTM)
    assert max(len(polygon.interiors) for polygon in frame.geometry) > 100
    assert frame.is_valid.all()


def test_holes_are_kept_across_seams(tmp_path: Path) -> None:
    values = np.zeros((9, 9))
    values[2:7, 2:7] = 1
    values[4, 4] = 0
    path = write_map(tmp_path / "map.tif", values)
    assert vectorise(path, tmp_path / "map.parquet", rows=2) == 3
    frame = gpd.read_parquet(tmp_path / "map.parquet")
    counted = sorted(
        (value, len(polygon.interiors), polygon.area) for value, polygon in frame[["class", "geometry"]].values
    )
    assert counted == [(0, 0, 100.0), (0, 1, 5600.0), (1, 1, 2400.0)]
    ring = frame[frame["class"] == 1].geometry.iloc[0]
    assert (len(ring.exterior.coords), len(ring.interiors[0].coords)) == (5, 5)  # no vertex where a seam was


@pytest.mark.parametrize(("crs", "transform"), [("EPSG:32630", UTM), ("EPSG:4326", DEGREES)])
def test_areas_are_those_of_the_pixels_on_the_ellipsoid(tmp_path: Path, crs: str, transform: Affine) -> None:
    values = noise((40, 60))
    path = write_map(tmp_path / "map.tif", values, transform, crs)
    vectorise(path, tmp_path / "map.parquet", rows=11)
    found = gpd.read_parquet(tmp_path / "map.parquet").groupby("class")["area_m2"].sum()
    assert found.to_dict() == pytest.approx(geodesic_by_class(values, transform, crs), rel=1e-7)


def geodesic_by_class(values: Any, transform: Affine, crs: str) -> dict[int, float]:
    """By the pixels' corners and Karney's geodesics."""
    geod, to_degrees = pyproj.Geod(ellps="WGS84"), pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    sums: dict[int, float] = {}
    for row, column in np.argwhere(values != 255).tolist():
        corners = [transform @ (column + right, row + down) for right, down in ((0, 0), (1, 0), (1, 1), (0, 1))]
        area = abs(geod.polygon_area_perimeter(*to_degrees.transform(*zip(*corners, strict=True)))[0])
        sums[int(values[row, column])] = sums.get(int(values[row, column]), 0.0) + area
    return sums


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg"])
def test_confidence_is_the_mean_over_the_polygon_s_pixels(tmp_path: Path, suffix: str) -> None:
    values = np.repeat([[0, 1, 1, 255, 2]], 4, axis=0)
    certain = np.arange(20).reshape(4, 5) * 10
    certain[:, 2] = 255  # no confidence here
    certain[:, 4] = 255
    path, beside = write_map(tmp_path / "map.tif", values), write_confidence(tmp_path / "confidence.tif", certain)
    vectorise(path, tmp_path / f"map{suffix}", confidence=beside, rows=3)
    frame = gpd.read_parquet(tmp_path / "map.parquet") if suffix == ".parquet" else gpd.read_file(tmp_path / "map.gpkg")
    means = frame.set_index("class")["confidence"]
    assert means[0] == pytest.approx(certain[:, 0].mean() * 0.005)
    assert means[1] == pytest.approx(certain[:, 1].mean() * 0.005)
    assert np.isnan(means[2])


@pytest.mark.parametrize(("crs", "transform"), [("EPSG:32630", UTM), ("EPSG:4326", DEGREES)])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_every_row_is_what_the_plain_way_gives(tmp_path: Path, crs: str, transform: Affine, rows: int) -> None:
    """Polygon by polygon: GDAL's outline of the whole map, its geodesic area, and the mean over its pixels."""
    values, certain = noise((40, 30), shares=(0.6, 0.2, 0.1, 0.1)), np.random.default_rng(1).integers(0, 201, (40, 30))
    certain[:, 5] = 255  # no confidence here
    path = write_map(tmp_path / "map.tif", values, transform, crs)
    beside = write_confidence(tmp_path / "confidence.tif", certain, transform, crs)
    vectorise(path, tmp_path / "map.parquet", confidence=beside, rows=rows)
    frame = gpd.read_parquet(tmp_path / "map.parquet")
    geod = pyproj.Geod(ellps="WGS84")
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    plain = {}
    for geometry, value in rasterio.features.shapes(values, values != 255, connectivity=4, transform=transform):
        polygon = shapely.geometry.shape(geometry)
        inside = rasterio.features.rasterize([polygon], values.shape, transform=transform) == 1
        known = certain[inside & (certain != 255)]
        degrees = shapely.transform(polygon, lambda points: np.stack(to_degrees.transform(*points.T), axis=1))
        area = abs(geod.geometry_area_perimeter(shapely.orient_polygons(degrees))[0])
        mean = known.mean() * 0.005 if len(known) else np.nan
        plain[normal([(int(value), polygon)])[0]] = (NAMES[int(value)], area, mean)
    assert len(frame) == len(plain) > 100
    for value, name, area, mean, polygon in frame[["class", "name", "area_m2", "confidence", "geometry"]].values:
        wanted = plain[normal([(value, polygon)])[0]]
        assert (name, area, mean) == (
            wanted[0],
            pytest.approx(wanted[1], rel=1e-5),
            pytest.approx(wanted[2], nan_ok=True),
        )


def test_rings_run_counter_clockwise_around_an_area_and_clockwise_around_its_holes(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", noise((30, 30), shares=(0.8, 0.2, 0.0, 0.0)))
    frame = class_polygons(path)
    rings = [ring for polygon in frame.geometry for ring in polygon.interiors]
    assert len(rings) > 20
    assert shapely.is_ccw(shapely.get_exterior_ring(frame.geometry.to_numpy())).all()
    assert not shapely.is_ccw(rings).any()


def test_both_formats_hold_the_same(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", noise((30, 30)))
    numbers = [vectorise(path, tmp_path / name, rows=8) for name in ("map.parquet", "map.gpkg")]
    one, other = gpd.read_parquet(tmp_path / "map.parquet"), gpd.read_file(tmp_path / "map.gpkg")
    assert numbers == [len(one), len(other)]
    assert other.crs == one.crs == "EPSG:32630"
    assert list(other.columns) == list(one.columns) == ["class", "name", "area_m2", "geometry"]
    assert of_frame(one) == normal(zip(other["class"], other.geometry, strict=True))
    assert one["name"].tolist() == other["name"].tolist() == [NAMES[value] for value in one["class"]]
    held = class_polygons(path)
    assert of_frame(held) == at_once(noise((30, 30)), UTM)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["map.gpkg", "map.parquet", "map.tif"]


def test_batches_are_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prithvi.products.class_polygons.BATCH", 50)
    path = write_map(tmp_path / "map.tif", noise((40, 40)))
    number = vectorise(path, tmp_path / "map.parquet", rows=8)
    assert pq.read_metadata(tmp_path / "map.parquet").num_row_groups == -(-number // 50)
    assert vectorise(path, tmp_path / "map.gpkg", rows=8) == len(gpd.read_file(tmp_path / "map.gpkg")) == number
    # A reader that asks for a corner gets what meets it.
    corner = (600_000, 4_199_900, 600_050, 4_200_000)
    met = gpd.read_parquet(tmp_path / "map.parquet").cx[corner[0] : corner[2], corner[1] : corner[3]]
    assert 0 < len(met) <= len(gpd.read_parquet(tmp_path / "map.parquet", bbox=corner)) < number


@pytest.mark.parametrize(
    ("crs", "transform"), [("EPSG:32630", UTM), ("EPSG:4326", DEGREES), ("EPSG:6933", from_origin(0, 0, 20, 20))]
)
def test_geoparquet_follows_the_specification(tmp_path: Path, crs: str, transform: Affine) -> None:
    path = write_map(tmp_path / "map.tif", noise((30, 20)), transform, crs)
    vectorise(path, tmp_path / "map.parquet", rows=8, provenance=Provenance("a model", "abc", ("scene.tif",)))
    metadata = pq.read_metadata(tmp_path / "map.parquet").metadata
    geo = check_geoparquet(tmp_path / "map.parquet")
    assert pyproj.CRS.from_json_dict(geo["columns"]["geometry"]["crs"]) == pyproj.CRS(crs)
    assert (metadata[b"PRITHVI_MODEL"], metadata[b"PRITHVI_INPUT"]) == (b"a model", b"scene.tif")
    assert gpd.read_parquet(tmp_path / "map.parquet").crs == crs


def check_geoparquet(path: Path) -> dict[str, Any]:
    """The rules of GeoParquet 1.1, and what the file says by them."""
    geo: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["primary_column"] in geo["columns"]
    table = pq.read_table(path)
    for name, column in geo["columns"].items():
        assert {"encoding", "geometry_types"} <= column.keys()
        assert set(column) <= {"encoding", "geometry_types", "crs", "bbox", "covering"}
        assert column["encoding"] == "WKB"
        assert str(table.schema.field(name).type) == "binary"
        assert len(set(column["geometry_types"])) == len(column["geometry_types"])
        assert column["crs"]["$schema"].startswith("https://proj.org/schemas/")
        pyproj.CRS.from_json_dict(column["crs"])
        shapes = shapely.from_wkb(table[name].to_numpy(zero_copy_only=False))
        assert shapely.is_valid(shapes).all()
        assert {shape.geom_type for shape in shapes} == set(column["geometry_types"])
        if len(shapes):
            assert column["bbox"] == shapely.total_bounds(shapes).tolist()
        boxes = table[column["covering"]["bbox"]["xmin"][0]].combine_chunks()
        held = np.stack([boxes.field(column["covering"]["bbox"][side][1]) for side in ("xmin", "ymin", "xmax", "ymax")])
        assert np.array_equal(held.T, shapely.bounds(shapes).reshape(-1, 4))
    return geo


def test_a_geopackage_says_where_it_comes_from(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", noise((9, 9)))
    vectorise(path, tmp_path / "map.gpkg", provenance=Provenance("a model", command="prithvi map"))
    told = pyogrio.read_info(tmp_path / "map.gpkg")
    assert told["layer_metadata"]["PRITHVI_MODEL"] == told["dataset_metadata"]["PRITHVI_MODEL"] == "a model"
    assert told["layer_name"] == "map"
    assert told["geometry_type"] == "Polygon"


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg"])
def test_a_map_without_data_gives_a_file_without_polygons(tmp_path: Path, suffix: str) -> None:
    path = write_map(tmp_path / "map.tif", np.full((4, 4), 255))
    assert vectorise(path, tmp_path / f"map{suffix}") == 0
    if suffix == ".parquet":
        check_geoparquet(tmp_path / "map.parquet")
        frame = gpd.read_parquet(tmp_path / "map.parquet")
    else:
        frame = gpd.read_file(tmp_path / "map.gpkg")
    assert len(frame) == 0
    assert {"class", "name", "area_m2"} <= set(frame.columns)
    assert len(class_polygons(path)) == 0


def test_small_areas_are_left_out_and_classes_chosen(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", noise((30, 30)))
    everything = class_polygons(path)
    number = vectorise(path, tmp_path / "map.parquet", minimum_area=250, names=["water"])
    frame = gpd.read_parquet(tmp_path / "map.parquet")
    wanted = everything[(everything["name"] == "water") & (everything["area_m2"] >= 250)]
    assert 0 < number == len(frame) == len(wanted)
    assert of_frame(frame) == normal(zip(wanted["class"], wanted.geometry, strict=True))


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg"])
def test_a_first_batch_of_which_nothing_is_left_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("prithvi.products.class_polygons.BATCH", 10)
    values = np.indices((20, 8)).sum(0) % 2
    values[12:] = 2
    path = write_map(tmp_path / "map.tif", values)
    assert vectorise(path, tmp_path / f"map{suffix}", minimum_area=150, rows=4) == 1
    frame = gpd.read_parquet(tmp_path / "map.parquet") if suffix == ".parquet" else gpd.read_file(tmp_path / "map.gpkg")
    assert frame["name"].tolist() == ["crop"]


@pytest.mark.parametrize(("crs", "transform"), [("EPSG:32630", UTM), ("EPSG:4326", from_origin(-3, 38, 9e-5, 9e-5))])
def test_outlines_move_no_further_than_asked(tmp_path: Path, crs: str, transform: Affine) -> None:
    rows, columns = np.mgrid[:80, :80]
    path = write_map(tmp_path / "map.tif", (np.hypot(rows - 40, columns - 37) < 30).astype(int), transform, crs)
    exact = class_polygons(path).to_crs("EPSG:32630").set_index("class").geometry
    vectorise(path, tmp_path / "map.parquet", simplify=12.0, rows=16)
    frame = gpd.read_parquet(tmp_path / "map.parquet").set_index("class")
    simple = frame.to_crs("EPSG:32630").geometry
    assert shapely.get_num_coordinates(simple[1]) < shapely.get_num_coordinates(exact[1]) / 2
    assert 0 < shapely.hausdorff_distance(exact[1].exterior, simple[1].exterior) < 12.1
    assert len(simple[0].interiors) == 1
    assert frame["area_m2"][1] == pytest.approx(simple[1].area, rel=2e-3)  # of what is written
    assert frame["area_m2"][1] != pytest.approx(exact[1].area, rel=1e-6)


def test_classes_without_names_are_called_by_their_number(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", [[3, 7]], names={})
    assert class_polygons(path)["name"].tolist() == ["3", "7"]


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", noise((9, 9)))
    with pytest.raises(ConfigError, match=r"has no class 'watr': did you mean water\?"):
        class_polygons(path, ["watr"])
    with pytest.raises(ConfigError, match=r"neither GeoParquet \(.parquet\) nor a GeoPackage"):
        vectorise(path, tmp_path / "map.shp")
    with pytest.raises(SceneError, match="cannot be read as a map"):
        class_polygons(tmp_path / "none.tif")
    with pytest.raises(SceneError, match="bands of float32; a class map has one of whole numbers"):
        class_polygons(write_map(tmp_path / "float.tif", [[0.5]], dtype="float32"))
    with pytest.raises(SceneError, match="no coordinate reference system"):
        class_polygons(write_map(tmp_path / "nowhere.tif", [[1]], crs=None))
    other = write_confidence(tmp_path / "confidence.tif", noise((9, 9)), from_origin(600_005, 4_200_000, 10, 10))
    with pytest.raises(SceneError, match="does not lie on the grid of"):
        vectorise(path, tmp_path / "map.parquet", confidence=other)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        vectorise(path, tmp_path / "file" / "map.parquet")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files, which Windows has not")
@pytest.mark.parametrize("suffix", [".parquet", ".gpkg"])
def test_a_full_disk_ends_it_with_a_sentence_and_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    """A process that may write no more than 8 KiB a file stands for the disk."""
    path, target = write_map(tmp_path / "map.tif", noise((60, 60))), tmp_path / f"map{suffix}"
    target.write_text("older")
    code = (
        "import resource, sys; from prithvi.mapping import vectorise; from prithvi.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        f"try: vectorise({str(path)!r}, {str(target)!r})\n"
        "except OutputError as error: sys.exit(str(error))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"{target} cannot be written" in run.stderr.splitlines()[-1]
    assert target.read_text() == "older"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["map.tif", target.name])


def test_areas_are_given_out_as_soon_as_they_are_complete(tmp_path: Path) -> None:
    """So that no more is held than those that reach the lower edge of what was read."""
    read: list[int] = []

    class Counting(ClassMap):
        def read(self, window: Any) -> Any:
            read.append(window.row_off + window.height)
            return super().read(window)

    path = write_map(tmp_path / "map.tif", noise((300, 20)))
    with open_classes(path) as classes:
        counting = Counting(classes.path, classes.raster, None, classes.titles, classes.labels)
        late = []
        for areas in areas_of(counting, None, 3):
            lowest = np.zeros(len(areas))
            np.maximum.at(lowest, areas.corners.area, areas.corners.row)
            late += (read[-1] - lowest).tolist()
    assert len(late) > 1000
    assert max(late) <= 3


def test_a_geopackage_in_a_reference_system_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    """Rotated poles of climate models."""
    rotated = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +to_meter=0.0174532925199433"
    frame = gpd.GeoDataFrame({"n": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=rotated)
    with pytest.raises(OutputError, match=r"GeoPackages do not know .*Write GeoParquet \(\.parquet\)"):
        write_vectors(tmp_path / "x.gpkg", [frame])
    assert write_vectors(tmp_path / "x.parquet", [frame]) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]
