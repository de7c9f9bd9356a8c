"""Items from folders, catalogs and files are the same items, and go to files and back without loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pystac.validation
import pytest
import rasterio
from pyproj import Transformer
from shapely.geometry import shape

from prithvi.errors import BandError, DatasetError
from prithvi.hls import (
    asset_href,
    granule_items,
    load,
    read_items,
    search,
    table,
    write_items,
)
from prithvi.scenes.paths import readable
from tests.conftest import needs_search
from tests.synthetic_hls import Archive, tile_footprints, tile_grid


def test_a_folder_its_catalog_and_its_collection_hold_the_same_granules(archive: Archive, tmp_path: Path) -> None:
    folder = read_items(archive.root)
    assert len(folder) == 8
    assert [item.id for item in folder] == sorted((item.id for item in archive.items), key=lambda name: name[8:])
    for source in (archive.catalog, archive.root / "items.json"):
        found = read_items(source)
        assert [item.id for item in found] == [item.id for item in folder]
        for one, other in zip(found, folder, strict=True):
            assert one.datetime == other.datetime
            assert one.properties["eo:cloud_cover"] == other.properties["eo:cloud_cover"]
            for band in ("blue", "nir_narrow", "swir_2", "fmask"):
                assert Path(readable(asset_href(one, band))).samefile(readable(asset_href(other, band)))


def test_place_and_size_are_those_of_the_file(archive: Archive) -> None:
    for item in granule_items(archive.root):
        pystac.validation.validate_dict(item.to_dict(), extensions=[])
        with rasterio.open(readable(asset_href(item, "red"))) as raster:
            assert item.properties["proj:code"] == f"EPSG:{raster.crs.to_epsg()}"
            assert tuple(item.properties["proj:transform"][:6]) == tuple(raster.transform)[:6]
            assert item.properties["proj:shape"] == list(raster.shape)
            assert item.properties["eo:cloud_cover"] == float(raster.tags()["cloud_coverage"])


def test_files_that_lie_twice_below_a_folder_are_taken_once_if_they_are_the_same(
    archive: Archive, tmp_path: Path
) -> None:
    file = Path(readable(asset_href(granule_items(archive.root)[0], "red")))
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        shutil.copy(file, tmp_path / name)
    assert len(granule_items(tmp_path)) == 1
    with rasterio.open(file) as raster:
        cropped = {**raster.profile, "height": 16, "width": 16}
        with rasterio.open(tmp_path / "c" / file.name, "w", **cropped) as crop:
            crop.write(raster.read(window=((0, 16), (0, 16))))
    with pytest.raises(DatasetError, match=rf"a/{file.name} and .*c/{file.name} have one name and differ"):
        read_items(tmp_path)
    assert len(read_items(tmp_path / "c")) == 1  # the remedies
    (tmp_path / "c").rename(tmp_path.with_name(f"{tmp_path.name}_crops"))
    assert len(read_items(tmp_path)) == 1


@pytest.mark.parametrize("name", [pytest.param("items.parquet", marks=needs_search), "items.json"])
def test_items_go_to_a_file_and_back_without_loss(archive: Archive, tmp_path: Path, name: str) -> None:
    items = read_items(archive.root)
    for number, item in enumerate(items):
        item.properties["prithvi:sequences"] = [f"{number}/0", "7/1"]
        item.properties["prithvi:split"] = "train" if number % 2 else "val"
    del items[0].properties["eo:cloud_cover"]
    write_items(items, tmp_path / name)
    back = read_items(tmp_path / name)
    for one, other in zip(items, back, strict=True):
        assert (one.id, one.datetime, one.bbox, one.collection_id) == (
            other.id,
            other.datetime,
            other.bbox,
            other.collection_id,
        )
        for key in ("eo:cloud_cover", "prithvi:sequences", "prithvi:split", "prithvi:missing", "proj:transform"):
            assert one.properties.get(key) == other.properties.get(key), key
        assert {key: asset.href for key, asset in one.assets.items()} == {
            key: asset.href for key, asset in other.assets.items()
        }
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@needs_search
def test_geoparquet_opens_in_geopandas(archive: Archive, tmp_path: Path) -> None:
    import geopandas as gpd

    write_items(read_items(archive.root), tmp_path / "items.parquet")
    frame = gpd.read_parquet(tmp_path / "items.parquet")
    assert len(frame) == 8
    assert frame.crs.to_epsg() == 4326


def test_a_table_has_a_row_a_granule(archive: Archive) -> None:
    frame = table(archive.items)
    assert frame["tile"].tolist() == ["31UDS"] * 4 + ["32ULC"] * 4
    assert frame["time"].is_monotonic_increasing is False
    assert frame.groupby("tile")["time"].apply(lambda times: times.is_monotonic_increasing).all()
    assert frame["cloud"].between(0, 100).all()
    items = [item.clone() for item in archive.items]
    items[2].properties["eo:cloud_cover"] = None  # as catalogs write what they do not know
    clouds = table(items).set_index("id")["cloud"]
    assert clouds[clouds.isna()].index.tolist() == [items[2].id]
    assert clouds[items[3].id] == items[3].properties["eo:cloud_cover"]


def test_the_file_of_another_product_under_a_bands_name_is_refused(archive: Archive) -> None:
    sentinel = next(item for item in archive.items if ".S30." in item.id).clone()
    landsat = next(item for item in archive.items if ".L30." in item.id)
    with pytest.raises(BandError, match=r"has no file of coastal \(B01\); it has B02, B03"):
        asset_href(sentinel, "coastal")
    mixed = sentinel.clone()
    mixed.assets["B11"] = landsat.assets["B06"].clone()
    with pytest.raises(BandError, match="is S30, and its B11 is a file of another product"):
        asset_href(mixed, "swir_1")
    renamed = landsat.clone()
    renamed.assets = {"B8A": landsat.assets["B05"].clone(), "B11": landsat.assets["B06"].clone()}
    with pytest.raises(BandError, match=r"has no file of nir_narrow \(B05\).*B8A.* are no bands of L30|B8A is no band"):
        asset_href(renamed, "nir_narrow")


def test_a_granule_that_cannot_be_read_is_left_out_and_named(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "granules"
    shutil.copytree(archive.root, root, ignore=shutil.ignore_patterns("catalog", "truth", "items.json"))
    victim = next(root.glob("HLS.L30.T31UDS*/*Fmask.tif"))
    victim.write_bytes(b"not a tiff")
    with pytest.warns(UserWarning, match=f"granule {victim.parent.name} is left out"):
        assert len(read_items(root)) == 7


def test_a_granule_of_a_day_that_does_not_exist_is_left_out_and_named(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "granules"
    shutil.copytree(archive.root, root, ignore=shutil.ignore_patterns("catalog", "truth", "items.json", "*T32ULC*"))
    name = "HLS.L30.T31UDS.2022366T105621.v2.0"
    for band in ("B02", "Fmask"):
        (root / f"{name}.{band}.tif").write_bytes(b"")
    with pytest.warns(UserWarning, match=rf"^granule {name} is left out: {name} names the time 2022366T105621") as told:
        found = read_items(root)
    assert len(told) == 1
    assert len(found) == 4
    plain = json.loads((archive.root / "items.json").read_text())
    plain["features"][0]["id"] = name
    (tmp_path / "items.json").write_text(json.dumps(plain))
    with pytest.warns(UserWarning, match="1 of 8 items are no HLS granules and are left out"):
        assert len(read_items(tmp_path / "items.json")) == 7


@needs_search
def test_what_holds_no_granule_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no file or folder"):
        read_items(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="holds no HLS granule"):
        read_items(tmp_path)
    (tmp_path / "x.json").write_text(json.dumps({"type": "Topology"}))
    with pytest.raises(DatasetError, match="is no STAC item, collection or catalog"):
        read_items(tmp_path / "x.json")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="is no GeoParquet file of STAC items"):
        read_items(tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match=r"items are written as \.parquet or \.json"):
        write_items([], tmp_path / "x.csv")
    (tmp_path / "y.json").write_text("not json")
    with pytest.raises(DatasetError, match="cannot be read as STAC"):
        read_items(tmp_path / "y.json")


@pytest.fixture
def fiji(tmp_path: Path) -> Path:
    """A granule of T01KAB, which the date line crosses, on pixels of 915 m."""
    grid = tile_grid("01KAB", 915)
    folder = tmp_path / "HLS.L30.T01KAB.2022145T105621.v2.0"
    folder.mkdir()
    for band in ("B02", "Fmask"):
        with rasterio.open(
            folder / f"{folder.name}.{band}.tif", "w", driver="GTiff", height=120, width=120, count=1,
            dtype="uint8" if band == "Fmask" else "int16", crs="EPSG:32701", transform=grid.affine,
            nodata=255 if band == "Fmask" else -9999,
        ) as raster:  # fmt: skip
            raster.write(np.full((1, 120, 120), 1, raster.dtypes[0]))
    return tmp_path


@needs_search
def test_a_granule_across_the_date_line_is_cut_there_and_found_from_both_sides(
    fiji: Path, tmp_path: Path, prithvi: Callable[..., Any]
) -> None:
    (item,) = granule_items(fiji)
    pystac.validation.validate_dict(item.to_dict(), extensions=[])
    west, _, east, _ = item.bbox
    assert 179 < west < 180
    assert -180 < east < -179
    outline = shape(item.geometry)
    assert outline.geom_type == "MultiPolygon"
    assert outline.symmetric_difference(tile_footprints(["01KAB"]).geometry[0]).area < 1e-3
    for name in ("items.parquet", "items.json"):
        write_items([item], tmp_path / name)
        (back,) = read_items(tmp_path / name)
        assert back.bbox == item.bbox
        assert shape(back.geometry).equals(outline)
    for box in ((179.5, -16.9, 179.6, -16.8), (-179.9, -16.9, -179.8, -16.8), (179.9, -16.9, -179.9, -16.8)):
        assert [found.id for found in search(str(fiji), bbox=box)] == [item.id]
    answer = prithvi("data", "search", "--api", fiji, "--bbox", 179.9, -16.9, -179.9, -16.8, "--json")
    assert json.loads(answer.out) == [item.id]
    for box in ((178, -16.9, 179, -16.8), (-179, -16.9, -178, -16.8), (-179, -16.9, 179, -16.8)):
        with pytest.raises(DatasetError, match="0 in the place"):
            search(str(fiji), bbox=box)


def test_a_box_across_the_date_line_reads_its_part(fiji: Path) -> None:
    items = granule_items(fiji)
    columns = np.arange(120) * 915 + 457.5 + tile_grid("01KAB").affine.c
    found = load(items, bands=["blue"], bbox=(179.9, -16.9, -179.9, -16.8))
    to_degrees = Transformer.from_crs(32701, 4326, always_xy=True)
    longitude = to_degrees.transform(found["x"].values, np.full(found.sizes["x"], found["y"].values.mean()))[0]
    assert longitude[0] == pytest.approx(179.9, abs=0.03)
    assert longitude[-1] == pytest.approx(-179.9, abs=0.03)
    assert found.sizes["x"] < 30 < len(columns)
    assert (found["image"].values == 1).all()
