"""What would spoil maps without a word: another product's ids, an offset, another scale, an unknown product."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

import prithvi
from prithvi.bands import PRODUCTS
from prithvi.chips.recipes import store_of_granules
from prithvi.errors import BandError, DatasetError, SceneError
from prithvi.hls import Granule, load
from tests.chips.test_build import RECIPE
from tests.synthetic_hls import Archive, expected_dn, pixel_centres


@pytest.mark.parametrize("product", ["L30", "S30"])
@pytest.mark.parametrize("band", ["nir_narrow", "swir_1", "swir_2"])
def test_each_products_band_is_found_in_its_own_file(archive: Archive, product: str, band: str) -> None:
    """The archive's bands differ at every place, so a swapped id gives other pixels."""
    item = next(item for item in archive.items if f".{product}." in item.id)
    found = load([item], bands=[band])
    x, y = pixel_centres(found.rio.transform(), 320, 320)
    stored, fmask = found["image"].values[0, 0], found["fmask"].values[0]
    clear = (fmask & 0b1010 == 0) & (fmask != 255) & (stored != -9999)
    day = Granule.parse(item.id).time.date()
    assert clear.sum() > 10_000
    np.testing.assert_array_equal(stored[clear], expected_dn(x, y, day, band)[clear])
    for other in ("nir_narrow", "swir_1", "swir_2"):
        if other != band:
            assert (stored[clear] != expected_dn(x, y, day, other)[clear]).mean() > 0.9
    scene = prithvi.open_scene(archive.root / item.id)
    np.testing.assert_array_equal(scene.sel(band=band).values[0][clear], stored[clear])


def test_ids_that_differ_between_the_products_are_what_they_are() -> None:
    landsat, sentinel = PRODUCTS["hls-l30"], PRODUCTS["hls-s30"]
    assert {name for name in landsat.keys() & sentinel.keys() if landsat[name] != sentinel[name]} == {
        "B05", "B06", "B07", "B10", "B11", "B09",
    }  # fmt: skip
    assert (landsat["B05"], sentinel["B05"]) == ("nir_narrow", "red_edge_1")
    assert (landsat["B06"], sentinel["B06"]) == ("swir_1", "red_edge_2")
    assert (landsat["B07"], sentinel["B07"]) == ("swir_2", "red_edge_3")
    assert (landsat["B11"], sentinel["B11"]) == ("thermal_2", "swir_1")


def test_hls_never_carries_an_offset_and_newer_sentinel_2_has_to_say(archive: Archive, tmp_path: Path) -> None:
    sentinel = next(item for item in archive.items if ".S30." in item.id)
    scene = prithvi.open_scene(archive.root / sentinel.id)  # 2022-03: asks for nothing
    assert scene.attrs["bias"] == 0
    same = tmp_path / "T31UDS_20220316T104021_B04.tif"
    shutil.copy(next((archive.root / sentinel.id).glob("*B04.tif")), same)
    with pytest.raises(SceneError, match="values are 1,000 too high unless that was taken out"):
        prithvi.open_scene(same, sensor="sentinel-2-l2a", bands=["red"])
    said = prithvi.open_scene(same, sensor="sentinel-2-l2a", bands=["red"], offset=-1000)
    assert said.attrs["bias"] == pytest.approx(-0.1)


def test_a_granule_file_with_an_offset_or_another_scale_is_refused(archive: Archive, tmp_path: Path) -> None:
    """Landsat Collection 2 under an HLS name: its numbers would pass any test of their range."""
    root = tmp_path / "granules"
    names = [item.id for item in archive.items if ".T31UDS." in item.id]
    for name in names:
        shutil.copytree(archive.root / name, root / name)
    victim = next(root.glob("HLS.L30*/*B04.tif"))
    for scale, offset in ((2.75e-5, -0.2), (1e-4, -0.1)):
        with rasterio.open(victim) as raster:
            pixels, profile = raster.read(), raster.profile
        profile["driver"] = "GTiff"
        victim.unlink()
        with rasterio.open(victim, "w", **profile) as raster:
            raster.write(pixels)
            raster.scales, raster.offsets = (scale,), (offset,)
        with pytest.raises(DatasetError, match=r"HLS is reflectance x 10,000 without an offset"):
            store_of_granules(root, tmp_path / f"{scale}.zarr", RECIPE)


def test_old_granules_have_their_own_fill(archive: Archive, tmp_path: Path) -> None:
    """HLS 1.5: -1000 is no reflectance of -0.1 there."""
    item = next(item for item in archive.items if ".L30.T31UDS." in item.id)
    granule = Granule.parse(item.id)
    old = dataclasses.replace(granule, version="1.5", time=granule.time.replace(hour=0, minute=0, second=0))
    folder = tmp_path / str(old)
    folder.mkdir()
    for file in (archive.root / item.id).iterdir():
        with rasterio.open(file) as raster:
            pixels, profile = raster.read(), raster.profile
        if "Fmask" not in file.name:
            pixels[pixels == -9999] = -1000
            pixels[0, :3, :3] = -1000
        profile.update(driver="GTiff", nodata=None)
        with rasterio.open(folder / file.name.replace(item.id, str(old)), "w", **profile) as raster:
            raster.write(pixels)
    recipe = dataclasses.replace(RECIPE, frames=1)
    store = store_of_granules(tmp_path, tmp_path / "s.zarr", recipe)
    image = store.read(range(len(store)))["image"]
    assert not np.isin(image, (-1000, -9999)).any()
    assert max(row[0] for row in store.samples["filled"]) >= 9
    assert set(store.samples["granules"].str[0]) == {str(old)}


def test_files_of_an_unknown_product_are_refused(archive: Archive, tmp_path: Path) -> None:
    source = next((archive.root / archive.items[0].id).glob("*B05.tif"))
    with rasterio.open(source) as raster:
        pixels, profile = raster.read(1), raster.profile
    profile.update(driver="GTiff", count=2)
    with rasterio.open(tmp_path / "scene.tif", "w", **profile) as raster:
        for number, name in enumerate(("B04", "B05"), start=1):
            raster.write(pixels, number)
            raster.set_band_description(number, name)
    with pytest.raises(BandError, match="B05 is another band in each product: name the sensor"):
        prithvi.open_scene(tmp_path / "scene.tif")
    with pytest.raises(DatasetError, match="holds no HLS granule: expected names such as"):
        store_of_granules(tmp_path, tmp_path / "s.zarr", RECIPE)
