"""Lazy reading: the granules' own pixels on the shared grid, both products by date."""

from __future__ import annotations

import dask
import dask.array
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import prithvi
from prithvi.errors import DatasetError, SceneError
from prithvi.hls import Granule, asset_href, load
from prithvi.scenes.paths import readable
from tests.http_files import serve_folder, signed_by
from tests.synthetic_hls import Archive, expected_dn, pixel_centres


def of_tile(archive: Archive, tile: str) -> list:
    return [item for item in archive.items if f".T{tile}." in item.id]


def test_both_products_lie_on_one_grid_by_common_name_and_date(archive: Archive) -> None:
    items = of_tile(archive, "31UDS")
    found = load(items)
    assert isinstance(found["image"].data, dask.array.Array)
    assert found["image"].dtype == np.int16
    assert found["image"].dims == ("time", "band", "y", "x")
    assert list(found["band"].values) == ["blue", "green", "red", "nir_narrow", "swir_1", "swir_2"]
    assert {name[4:7] for name in found["granule"].values} == {"L30", "S30"}
    assert (np.diff(found["time"].values) > np.timedelta64(0)).all()
    for step, name in enumerate(found["granule"].values):
        item = next(item for item in items if item.id == name)
        for band in found["band"].values:
            with rasterio.open(readable(asset_href(item, str(band)))) as raster:
                np.testing.assert_array_equal(found["image"].isel(time=step).sel(band=band).values, raster.read(1))
                assert tuple(found.rio.transform())[:6] == tuple(raster.transform)[:6]
                assert found.rio.crs == raster.crs
        with rasterio.open(readable(asset_href(item, "fmask"))) as raster:
            np.testing.assert_array_equal(found["fmask"].isel(time=step).values, raster.read(1))
        clear = (found["fmask"].isel(time=step).values & 0b1010 == 0) & (
            found["image"].isel(time=step, band=3).values != -9999
        )
        x, y = pixel_centres(found.rio.transform(), 320, 320)
        expected = expected_dn(x, y, Granule.parse(name).time.date(), "nir_narrow")
        np.testing.assert_array_equal(found["image"].isel(time=step, band=3).values[clear], expected[clear])


def test_it_is_a_scene(archive: Archive) -> None:
    found = load(of_tile(archive, "31UDS"), bands=["red", "nir_narrow"])
    scene = prithvi.open_scene(found["image"], sensor="hls-l30")
    assert list(scene["band"].values) == ["red", "nir_narrow"]
    assert scene.attrs["gain"] == 1e-4
    stored = found["image"].values
    np.testing.assert_array_equal(np.isnan(scene.values), stored == -9999)
    assert (stored == -9999).any()


def test_a_box_reads_only_its_part(archive: Archive) -> None:
    items = of_tile(archive, "31UDS")
    whole = load(items[:1])
    left, bottom, right, top = whole.rio.bounds()
    middle = GeoBox.from_bbox(
        (left + 3000, bottom + 3000, right - 3000, top - 3000), crs=whole.rio.crs.to_string(), resolution=30
    )
    part = load(items[:1], bbox=tuple(middle.extent.to_crs("EPSG:4326").boundingbox))
    assert part.sizes["y"] < 160
    same = whole["image"].sel(x=part["x"], y=part["y"])
    np.testing.assert_array_equal(part["image"].values, same.values)
    with pytest.raises(DatasetError, match="lies beside the granules"):
        load(items[:1], bbox=(100, 10, 101, 11))


@pytest.mark.parametrize("turn", [20, 65, 110, 200, 290])
def test_a_box_on_a_turned_grid_is_the_smallest_part_that_holds_it(archive: Archive, turn: float) -> None:
    items = of_tile(archive, "31UDS")[:1]
    own = load(items)
    middle = own.rio.transform() @ Affine.translation(160, 160)
    grid = GeoBox((200, 240), middle @ Affine.rotation(turn) @ Affine.translation(-120, -100), "EPSG:32631")
    left, bottom, right, top = middle.c - 900, middle.f - 600, middle.c + 900, middle.f + 600
    there = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    bbox = there.transform_bounds(left, bottom, right, top)
    part = load(items, bands=["red"], grid=grid, bbox=bbox)
    # The corners of the box in degrees, seen on the grid: the part holds all of them, and hardly more.
    west, south, east, north = bbox
    corners = there.transform([west, east, east, west], [north, north, south, south], direction="INVERSE")
    columns, rows = ~part.rio.transform() @ tuple(map(np.array, corners))
    for along, size in ((columns, part.sizes["x"]), (rows, part.sizes["y"])):
        assert -1e-6 <= along.min() < 3
        assert size - 3 < along.max() <= size + 1e-6
    column, row = np.round(~grid.affine @ part.rio.transform() @ (0, 0)).astype(int)
    whole = load(items, bands=["red"], grid=grid)["image"].values
    np.testing.assert_array_equal(
        part["image"].values, whole[..., row : row + part.sizes["y"], column : column + part.sizes["x"]]
    )


def test_two_zones_are_refused_unless_a_grid_is_given(archive: Archive) -> None:
    with pytest.raises(DatasetError, match=r"granules of EPSG:\d+ \(WGS 84 .*\) and EPSG:.* would make one huge"):
        load(archive.items)
    grid = GeoBox.from_bbox((600_000, 5_300_000, 601_500, 5_301_500), crs="EPSG:32631", resolution=30, tight=True)
    found = load(archive.items[:1] + archive.items[-1:], grid=grid)
    assert found["image"].shape == (2, 6, 50, 50)


def test_granules_are_read_over_http_in_parts(archive: Archive) -> None:
    with serve_folder(archive.root) as server:
        item = archive.items[0].clone()
        for asset in item.assets.values():
            asset.href = asset.href.replace(archive.root.resolve().as_uri(), server.url)
        found = load([item], bands=["red"])
        with rasterio.open(readable(asset_href(archive.items[0], "red"))) as raster:
            np.testing.assert_array_equal(found["image"].values[0, 0], raster.read(1))
        assert any(wanted for _, wanted, _ in server.requests)


def test_chunks_of_files_on_a_server_are_wide_unless_they_are_stated(archive: Archive) -> None:
    grid = GeoBox((600, 4096), Affine(30, 0, 399960, 0, -30, 5700000), "EPSG:32631")
    item = archive.items[0].clone()
    here = load([item], bands=["red"], grid=grid)["image"]
    assert here.data.chunksize == (1, 1, 512, 512)
    with serve_folder(archive.root) as server:
        for asset in item.assets.values():
            asset.href = asset.href.replace(archive.root.resolve().as_uri(), server.url)
        far = load([item], bands=["red"], grid=grid)
        assert far["image"].data.chunksize == (1, 1, 512, 2048)
        assert far["fmask"].data.chunksize == (1, 512, 2048)
        np.testing.assert_array_equal(far["image"].values, here.values)
        stated = load([item], bands=["red"], grid=grid, chunks={"y": 100, "x": 200})
        assert stated["image"].data.chunksize == (1, 1, 100, 200)


def test_an_address_is_signed_when_it_is_read_and_again_when_that_has_ended(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signatures of the Planetary Computer hold for an hour, and a lazy array for days."""
    with serve_folder(archive.root, signature="first") as server:
        signed_by(monkeypatch, server)
        item = archive.items[0].clone()
        for asset in item.assets.values():
            asset.href = asset.href.replace(archive.root.resolve().as_uri(), server.url)
        found = load([item], bands=["red"], chunks={"y": 160, "x": 320})["image"]
        with rasterio.open(readable(asset_href(archive.items[0], "red"))) as raster:
            expected = raster.read(1)
        for signature, rows in (("second", slice(0, 160)), ("third", slice(160, 320))):
            server.signature = signature
            with dask.config.set(scheduler="synchronous"):
                np.testing.assert_array_equal(found[0, 0, rows].values, expected[rows])


def test_a_pixel_takes_the_one_its_middle_lies_in_for_every_chunk_size(archive: Archive) -> None:
    item = of_tile(archive, "31UDS")[0]
    with rasterio.open(readable(asset_href(item, "red"))) as raster:
        stored, at = raster.read(1), raster.transform
    own = GeoBox(stored.shape, at, "EPSG:32631")
    grids = {
        "aligned": GeoBox((90, 100), at @ Affine.translation(20, 30), "EPSG:32631"),
        "half a pixel off": GeoBox((90, 100), at @ Affine.translation(20.5, 30.5), "EPSG:32631"),
        "half a pixel off, the other way": GeoBox((90, 100), at @ Affine.translation(19.5, -0.5), "EPSG:32631"),
        "a third off": GeoBox((90, 100), at @ Affine.translation(20 + 1 / 3, 30.7), "EPSG:32631"),
        "coarser": GeoBox((50, 45), at @ Affine.translation(20, 30) @ Affine.scale(2), "EPSG:32631"),
        "finer": GeoBox((150, 160), at @ Affine.translation(20, 30) @ Affine.scale(1 / 3), "EPSG:32631"),
        "south-up": GeoBox((90, 100), at @ Affine.translation(20, 130) @ Affine.scale(1, -1), "EPSG:32631"),
        "rotated": GeoBox((90, 100), at @ Affine.translation(90, 60) @ Affine.rotation(20), "EPSG:32631"),
        "the next zone": own.to_crs("EPSG:32632", resolution=30)[:, :150],
        "degrees": own.to_crs("EPSG:4326"),
        "beside it": GeoBox((20, 20), at @ Affine.translation(900, 0), "EPSG:32631"),
    }
    for name, grid in grids.items():
        points = grid.affine @ tuple(np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5))
        if str(grid.crs) != "EPSG:32631":
            points = Transformer.from_crs(str(grid.crs), "EPSG:32631", always_xy=True).transform(*points)
        columns, rows = (np.floor(np.round(part, 6)).astype(int) for part in ~at @ points)
        inside = (rows >= 0) & (columns >= 0) & (rows < 320) & (columns < 320)
        expected = np.where(inside, stored[np.clip(rows, 0, 319), np.clip(columns, 0, 319)], -9999)
        for chunk in (512, 70):
            found = load([item], bands=["red"], grid=grid, chunks={"y": chunk, "x": chunk})
            np.testing.assert_array_equal(found["image"].values[0, 0], expected, err_msg=f"{name}, chunks of {chunk}")
            assert tuple(found.rio.transform())[:6] == pytest.approx(tuple(grid.affine)[:6])
        with rasterio.open(readable(asset_href(item, "fmask"))) as raster:
            fmask = raster.read(1)
        np.testing.assert_array_equal(
            found["fmask"].values[0], np.where(inside, fmask[np.clip(rows, 0, 319), np.clip(columns, 0, 319)], 255)
        )


def test_a_band_on_another_grid_than_its_fmask_is_refused(archive: Archive, tmp_path) -> None:  # type: ignore[no-untyped-def]
    item = of_tile(archive, "31UDS")[0].clone()
    with rasterio.open(readable(asset_href(item, "red"))) as raster:
        values, profile = raster.read(), {**raster.profile, "driver": "GTiff"}
    profile["transform"] = profile["transform"] @ Affine.translation(0.5, 0)
    with rasterio.open(tmp_path / "red.tif", "w", **profile) as raster:
        raster.write(values)
    key = Granule.parse(item.id).band_id("red")
    item.assets[key].href = (tmp_path / "red.tif").as_uri()
    with pytest.raises(SceneError, match=r"its granule's Fmask do not lie on one grid: .* up to 0\.5 pixels apart"):
        load([item], bands=["red"])["image"].compute()


def test_granules_whose_zone_is_in_words_load_as_one(shared) -> None:  # type: ignore[no-untyped-def]
    """A true granule of HLS 2.0 names its CRS in words; beside one that states the code both are one zone."""
    from prithvi.hls import read_items

    items = read_items(shared / "proteus_hls_s30_dswx")
    found = load(items, bands=["red"], chunks={"y": 300, "x": 300})
    with rasterio.open(readable(asset_href(items[0], "red"))) as raster:
        np.testing.assert_array_equal(found["image"].values[0, 0], raster.read(1))
    grid = GeoBox((100, 100), Affine(30, 0, 603_000, 0, -30, 3_597_000), "EPSG:32615")
    part = load(items, bands=["red"], grid=grid)
    np.testing.assert_array_equal(part["image"].values[0, 0], found["image"].values[0, 0, 100:200, 100:200])
