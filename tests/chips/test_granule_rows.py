"""Granules' files: the same chips however their numbers are stored, and no more of them is asked for than is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pystac
import pytest
import rasterio
import shapely
from rasterio.env import get_gdal_config

from prithvi.chips.date_plan import DateRule, choose_dates
from prithvi.chips.filters import Filters
from prithvi.chips.recipes import Recipe
from prithvi.chips.spec import Chip, StoreSpec
from prithvi.chips.tile_units import tile_units
from prithvi.hls.items import granule_items
from tests.http_files import Served, serve_folder
from tests.synthetic_hls import Archive, make_archive

RECIPE = Recipe(size=64, frames=2, filters=Filters(0.3, 0.2), dates=DateRule(2, 10, 60, 1.0, 1.0, wanted=0))
SPEC = StoreSpec(64, 64, 2)
ONE_DATE = replace(RECIPE, frames=1, dates=DateRule(1, 1, 90, 1.0, 1.0, wanted=0))
Change = Callable[[npt.NDArray[Any], dict[str, Any], str], npt.NDArray[Any]]


def chips_of(items: list[pystac.Item], recipe: Recipe = RECIPE) -> list[Chip]:
    return [
        chip
        for unit in tile_units(choose_dates(items, recipe.dates), recipe, 0, None, None)
        for chip in unit.chips(SPEC)
    ]


def stored_otherwise(archive: Archive, root: Path, change: Change) -> list[pystac.Item]:
    """The granules of one tile with other numbers in their bands."""
    for file in archive.root.glob("HLS.*.T31UDS.*/*.tif"):
        with rasterio.open(file) as raster:
            values, profile, tags, scales = raster.read(1), raster.profile, raster.tags(), raster.scales
        if "Fmask" not in file.name:
            values = change(values, profile, file.name)
        target = root / file.relative_to(archive.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(target, "w", **{**profile, "driver": "GTiff", "dtype": values.dtype}) as raster:
            raster.write(values, 1)
            raster.update_tags(**tags)
            raster.scales = scales
    return granule_items(root)


def spoilt(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """With numbers at and beyond both ends of reflectance in some bands, and fill that nobody declares in all."""
    for place, value in enumerate((-2000, -2001, 20_000, 20_001, -9998, 32_767)):
        if name.endswith(("B02.tif", "B11.tif")):
            values[70 + place, 10:40] = value
    values[100:110, 70:100] = 0
    if name.endswith("B04.tif"):
        values[100:105, 70:100] = -9999
    return values


def as_published(values: npt.NDArray[Any], profile: dict[str, Any], name: str) -> npt.NDArray[Any]:
    return spoilt(values, name)


def as_floats(values: npt.NDArray[Any], profile: dict[str, Any], name: str) -> npt.NDArray[Any]:
    profile["nodata"] = np.nan
    values = spoilt(values, name)
    return np.where(values == -9999, np.nan, values).astype(np.float32)


def as_long_integers(values: npt.NDArray[Any], profile: dict[str, Any], name: str) -> npt.NDArray[Any]:
    return spoilt(values, name).astype(np.int32)


def some_as_floats(values: npt.NDArray[Any], profile: dict[str, Any], name: str) -> npt.NDArray[Any]:
    return as_floats(values, profile, name) if name.endswith("B03.tif") else spoilt(values, name)


def with_other_fill(values: npt.NDArray[Any], profile: dict[str, Any], name: str) -> npt.NDArray[Any]:
    profile["nodata"] = -1000
    values = spoilt(values, name)
    return np.where(values == -9999, np.int16(-1000), values)


@pytest.mark.parametrize("change", [as_floats, as_long_integers, some_as_floats, with_other_fill])
def test_chips_do_not_depend_on_the_type_that_numbers_are_stored_in(
    change: Change, archive: Archive, tmp_path: Path
) -> None:
    """Published HLS is read without a detour; the detour through floats gives the same."""
    published = chips_of(stored_otherwise(archive, tmp_path / "published", as_published))
    other = chips_of(stored_otherwise(archive, tmp_path / "other", change))
    assert len(published) > 10
    for chip, same in zip(published, other, strict=True):
        np.testing.assert_array_equal(chip.image, same.image)
        np.testing.assert_array_equal(chip.fmask, same.fmask)  # type: ignore[arg-type]
        assert chip.sample == same.sample


def test_numbers_at_the_ends_of_reflectance_stay_and_those_beyond_are_filled(archive: Archive, tmp_path: Path) -> None:
    chips = chips_of(stored_otherwise(archive, tmp_path, as_published))
    chip = next(chip for chip in chips if chip.sample.affine[2] == min(one.sample.affine[2] for one in chips)
                and chip.sample.affine[5] == sorted({one.sample.affine[5] for one in chips})[-2])  # fmt: skip
    # Of the second row of chips (from row 64 on) the first: -2000 and 20,000 are reflectances of -0.2 and 2.0.
    assert (chip.image[:, 0, 70 - 64, 10:40] == -2000).all()
    assert (chip.image[:, 0, 72 - 64, 10:40] == 20_000).all()
    for row in (71, 73, 74, 75):
        assert np.isin(chip.image[:, 0, row - 64, 10:40], (-2001, 20_001, -9998, 32_767, -9999)).sum() == 0
        assert (chip.fmask[:, row - 64, 10:40] == 255).all()  # type: ignore[index]


def test_blocks_are_remembered_from_piece_to_piece_and_no_longer(archive: Archive) -> None:
    """Each block is sent once though two pieces share it; the caller's cache is as it was."""
    before = int(get_gdal_config("GDAL_CACHEMAX"))
    items = [item for item in archive.items if ".T31UDS." in item.id]
    with serve_folder(archive.root) as served:
        unit = tile_units(choose_dates(on_server(items, archive, served), RECIPE.dates), RECIPE, 0, None, None)[0]
        served.sent = 0
        found = list(unit.chips(SPEC))
        assert int(get_gdal_config("GDAL_CACHEMAX")) == before
    files = [file for item in items for file in (archive.root / item.id).glob("*.tif")]
    assert served.sent < 1.3 * sum(file.stat().st_size for file in files)
    for chip, other in zip(found, chips_of(items), strict=True):
        np.testing.assert_array_equal(chip.image, other.image)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make_archive(tmp_path_factory.mktemp("wide"), ["31UDS"], dates=1, size=1300, cloud=0, swath=False)


def around(archive: Archive, path: Path, *parts: tuple[int, int, int, int]) -> str:
    """A vector file of boxes, each by its first and last row and column."""
    with rasterio.open(next(archive.root.rglob("*.B02.tif"))) as raster:
        at, crs = raster.transform, raster.crs
    corners = [(*(at @ (left, bottom)), *(at @ (right, top))) for top, bottom, left, right in parts]
    gpd.GeoDataFrame(geometry=[shapely.box(*corner) for corner in corners], crs=crs).to_file(path)
    return str(path)


def on_server(items: list[pystac.Item], archive: Archive, served: Served) -> list[pystac.Item]:
    items = [item.clone() for item in items]
    for item in items:
        for asset in item.assets.values():
            asset.href = asset.href.replace(archive.root.resolve().as_uri(), served.url)
    return items


def one_date_chips(items: list[pystac.Item], recipe: Recipe) -> dict[str, Chip]:
    unit = tile_units(choose_dates(items, recipe.dates), recipe, 0, None, None)[0]
    return {chip.sample.name: chip for chip in unit.chips(StoreSpec(64, 64, 1))}


@pytest.mark.parametrize(
    ("parts", "blocks"),
    [
        # Of 6 x 6 blocks of 256 x 256 pixels: one; two far apart in the same rows; two near one another in others.
        (((10, 50, 330, 370),), 1),
        (((10, 50, 10, 50), (10, 50, 1220, 1250)), 2),
        (((10, 50, 10, 50), (600, 630, 270, 300)), 2),
    ],
)
def test_an_area_asks_a_server_for_the_blocks_under_it(
    parts: tuple[tuple[int, int, int, int], ...], blocks: int, wide: Archive, tmp_path: Path
) -> None:
    within = replace(ONE_DATE, area=around(wide, tmp_path / "area.gpkg", *parts))
    everywhere = one_date_chips(wide.items, ONE_DATE)
    with serve_folder(wide.root) as served:
        found = one_date_chips(on_server(wide.items, wide, served), within)
    assert len(found) == len(parts)
    for name, chip in found.items():
        np.testing.assert_array_equal(chip.image, everywhere[name].image)
        assert chip.sample == everywhere[name].sample
    # Headers, and of the smallest and the largest block so many at the most of each file.
    files = list(wide.root.glob("HLS*/*.tif"))
    largest = 0.0
    for file in files:
        with rasterio.open(file) as raster:
            sizes = [
                int(raster.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1))
                for row in range(6)
                for column in range(6)
            ]
        largest += max(sizes) * blocks
    assert served.sent < len(files) * 2 * 32_768 + largest + len(files) * blocks * 2 * 16_384
    assert served.sent < 0.5 * sum(file.stat().st_size for file in files)
