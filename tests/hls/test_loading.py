"""Lazy reading: the granules' own pixels on the shared grid, both products by date."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

import prithvi
from prithvi.errors import DatasetError
from prithvi.hls import Granule, asset_href, load
from prithvi.hls.access import readable
from tests.http_files import serve_folder
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


def test_two_zones_are_refused_unless_a_grid_is_given(archive: Archive) -> None:
    with pytest.raises(DatasetError, match=r"granules of EPSG:32631 and EPSG:32632 would make one huge raster"):
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
