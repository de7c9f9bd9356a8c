"""An L30 and an S30 granule of one place and one day are two steps, in the order of the times in their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

import prithvi as package
from prithvi.bands import PRITHVI_BANDS
from prithvi.chips.date_plan import DateRule
from prithvi.chips.filters import Filters
from prithvi.chips.recipes import Recipe, store_of_granules
from prithvi.errors import BandError, SceneError
from prithvi.hls import Granule, read_items
from prithvi.modelio.predictor import FittedModel
from prithvi.scenes import open_scene
from tests.conftest import Answer

L30, S30 = "HLS.L30.T30SVH.2022145T105621.v2.0", "HLS.S30.T30SVH.2022145T110629.v2.0"
LATER = "HLS.S30.T30SVH.2022150T110629.v2.0"


@pytest.fixture
def granules(write_tif: Callable[..., Path], six_bands: np.ndarray, tmp_path: Path) -> dict[str, np.ndarray]:
    """Granule folders of 64 x 64 pixels; a cloud at another place in each."""
    found = {}
    for number, name in enumerate((L30, S30, LATER)):
        (tmp_path / name).mkdir()
        found[name] = (six_bands[:, 100:164, 330:394] * (1 + number / 10)).astype(np.int16)
        fmask = np.zeros((1, 64, 64), np.uint8)
        fmask[0, 20 * number : 20 * number + 10, :10] = 2
        granule = Granule.parse(name)
        for band, pixels in zip(PRITHVI_BANDS, found[name], strict=True):
            write_tif(pixels[None], f"{name}/{granule.file_name(band)}", names=None, nodata=-9999)
        write_tif(fmask, f"{name}/{granule.file_name('fmask')}", names=None, scale=None)
    return found


def test_folders_lists_and_items_have_two_steps_of_a_day(granules: dict[str, np.ndarray], tmp_path: Path) -> None:
    files = [file for name in (S30, L30) for file in sorted((tmp_path / name).glob("*.tif"))]
    items = [item for item in read_items(tmp_path) if item.id in (L30, S30)]
    for source in (files, [tmp_path / S30, tmp_path / L30], items[::-1]):
        scene = open_scene(source)
        assert [str(time)[:19] for time in scene["time"].values] == ["2022-05-25T10:56:21", "2022-05-25T11:06:29"]
        for step, name in enumerate((L30, S30)):
            np.testing.assert_array_equal(scene.sel(band=list(PRITHVI_BANDS)).values[step], granules[name])
    alone = open_scene([tmp_path / LATER, tmp_path / L30])  # days tell these apart, and stay days
    assert [str(time)[:19] for time in alone["time"].values] == ["2022-05-25T00:00:00", "2022-05-30T00:00:00"]


def test_granules_that_name_no_time_are_refused(write_tif: Callable[..., Path], six_bands: np.ndarray) -> None:
    files = [
        write_tif(six_bands[:1, :64, :64], f"HLS.{product}.T30SVH.2022145.v1.5.B02.tif", names=None)
        for product in ("L30", "S30")
    ]
    with pytest.raises(BandError, match="are both blue of the same date"):
        open_scene(files)


def test_a_model_of_one_date_names_both_granules(
    granules: dict[str, np.ndarray], tmp_path: Path, fitted: FittedModel
) -> None:
    scene = open_scene([tmp_path / L30, tmp_path / S30])
    with pytest.raises(SceneError, match=f"{L30} and {S30} has 2 dates, and the model wants 1"):
        package.map(scene, fitted)


def test_fill_keeps_the_masks_of_two_granules_of_a_day_apart(
    granules: dict[str, np.ndarray], tmp_path: Path, prithvi: Callable[..., Answer]
) -> None:
    folders = [tmp_path / name for name in (LATER, S30, L30)]
    answer = prithvi("fill", "--method", "nearest", *folders, "-o", tmp_path / "out", "--window", 32)
    assert answer.code == 0, answer.err
    labels = {L30: "2022-05-25T105621", S30: "2022-05-25T110629", LATER: "2022-05-30"}
    assert sorted(path.stem for path in (tmp_path / "out").glob("*_filled.tif")) == sorted(
        f"{label}_filled" for label in labels.values()
    )
    for number, name in enumerate((L30, S30, LATER)):
        cloud = np.zeros((64, 64), bool)
        cloud[20 * number : 20 * number + 10, :10] = True
        with rasterio.open(tmp_path / "out" / f"{labels[name]}_filled.tif") as raster:
            np.testing.assert_array_equal(raster.read(1), cloud)
        with rasterio.open(tmp_path / "out" / f"{labels[name]}.tif") as raster:
            np.testing.assert_array_equal(raster.read()[:, ~cloud], granules[name][:, ~cloud])


def test_a_store_holds_both_granules_of_a_day(granules: dict[str, np.ndarray], tmp_path: Path) -> None:
    recipe = Recipe(size=64, frames=1, filters=Filters(0.5, 0.05), dates=DateRule(1, 0, 60, 0.6, 0.2, wanted=0))
    store = store_of_granules(tmp_path, tmp_path / "chips.zarr", recipe)
    names = [row.granules[0] for row in store.samples.itertuples()]
    assert sorted(names) == sorted(granules)
    assert store.samples["name"].is_unique
    for number, name in enumerate(names):
        np.testing.assert_array_equal(store.read([number])["image"][0, 0], granules[name])
