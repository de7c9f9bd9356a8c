"""What docs/terratorch.md says of pixels without data: TerraTorch's own data modules, and its model, on GeoTIFFs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.windows import Window

import prithvi
from tests.conftest import SIX, SPAIN, small_task
from tests.terratorch.conftest import BANDS, their_warnings

with their_warnings():
    from terratorch import datamodules
    from terratorch.models import EncoderDecoderFactory

SIDE, HOLE = 64, (slice(8, 24), slice(30, 50))


def write(path: Path, pixels: np.ndarray, nodata: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=SIDE, width=SIDE, count=len(pixels), dtype=pixels.dtype, nodata=nodata,
        crs="EPSG:32630", transform=rasterio.Affine(10, 0, 600_000, 0, -10, 4_200_000),
    ) as raster:  # fmt: skip
        raster.write(pixels)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """(13, 64, 64) int16 of the sample, -9999 in the hole."""
    with rasterio.open(SPAIN) as raster:
        found: np.ndarray = raster.read(window=Window(200, 200, SIDE, SIDE)).astype(np.int16)
    found[:, *HOLE] = -9999
    return found


def sen1floods11(root: Path, pixels: np.ndarray, **options: Any) -> Any:
    hand = root / "v1.1/data/flood_events/HandLabeled"
    write(hand / "S2Hand/Spain_1_S2Hand.tif", pixels, -9999)
    write(hand / "LabelHand/Spain_1_LabelHand.tif", np.zeros((1, SIDE, SIDE), np.int16))
    lists = root / "v1.1/splits/flood_handlabeled"
    lists.mkdir(parents=True)
    for split in ("train", "valid"):
        (lists / f"flood_{split}_data.txt").write_text("Spain_1\n")
    return datamodules.Sen1Floods11NonGeoDataModule(str(root), bands=BANDS, **options)


def fire_scars(root: Path, pixels: np.ndarray, **options: Any) -> Any:
    for split in ("training", "validation"):
        write(root / split / "a_merged.tif", pixels[np.array(SIX) - 1] / np.float32(1e4), np.float32(-0.9999))
        write(root / split / "a.mask.tif", np.zeros((1, SIDE, SIDE), np.int16))
    return datamodules.FireScarsNonGeoDataModule(str(root), **options)


def crops(root: Path, pixels: np.ndarray, **options: Any) -> Any:
    for split in ("training", "validation"):
        write(root / f"{split}_chips" / "a_merged.tif", np.tile(pixels[np.array(SIX) - 1], (3, 1, 1)), -9999)
        write(root / f"{split}_chips" / "a.mask.tif", np.ones((1, SIDE, SIDE), np.int16))
        (root / f"{split}_data.txt").write_text("a\n")
    return datamodules.MultiTemporalCropClassificationDataModule(str(root), **options)


def generic(root: Path, pixels: np.ndarray, **options: Any) -> Any:
    write(root / "a_image.tif", pixels[np.array(SIX) - 1], -9999)
    write(root / "a_label.tif", np.zeros((1, SIDE, SIDE), np.int16))
    places = {f"{part}_{kind}": root for part in ("train", "val", "test") for kind in ("data_root", "label_data_root")}
    return datamodules.GenericNonGeoSegmentationDataModule(
        batch_size=1, num_workers=0, num_classes=2, **places, img_grep="*_image.tif", label_grep="*_label.tif",
        means=[1000.0] * 6, stds=[500.0] * 6, dataset_bands=BANDS, output_bands=BANDS, **options,
    )  # fmt: skip


def regression(root: Path, pixels: np.ndarray, **options: Any) -> Any:
    write(root / "a_image.tif", pixels[np.array(SIX) - 1], -9999)
    write(root / "a_label.tif", np.zeros((1, SIDE, SIDE), np.float32))
    places = {f"{part}_{kind}": root for part in ("train", "val", "test") for kind in ("data_root", "label_data_root")}
    return datamodules.GenericNonGeoPixelwiseRegressionDataModule(
        1, 0, **places, img_grep="*_image.tif", label_grep="*_label.tif", means=[1000.0] * 6, stds=[500.0] * 6,
        dataset_bands=BANDS, output_bands=BANDS, **options,
    )  # fmt: skip


def classification(root: Path, pixels: np.ndarray, **options: Any) -> Any:
    for name in ("one", "two"):
        write(root / name / "a.tif", pixels[np.array(SIX) - 1], -9999)
    return datamodules.GenericNonGeoClassificationDataModule(
        1, 0, root, root, root, [1000.0] * 6, [500.0] * 6, 2, dataset_bands=BANDS, output_bands=BANDS, **options
    )


def given(data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The first image as its dataset gives it, and standardised as its module does it."""
    with their_warnings():
        data.setup("validate")
        image = data.val_dataset[0]["image"]
        standardised = data.aug({"image": image[None].clone()})["image"][0]
    return image, standardised


@pytest.mark.parametrize("module", [sen1floods11, fire_scars, crops])
def test_these_modules_set_what_a_file_calls_nodata_to_zero_before_they_standardise(
    module: Callable[..., Any], pixels: np.ndarray, tmp_path: Path
) -> None:
    image, standardised = given(module(tmp_path, pixels))
    assert (image[..., *HOLE] == 0).all()
    assert (image != 0).float().mean() > 0.8
    assert torch.isfinite(standardised).all()
    assert (standardised[..., *HOLE] < -0.5).all()  # a zero far below the mean, and not the mean


@pytest.mark.parametrize("module", [generic, regression])
def test_generic_modules_leave_it_nan_unless_told(
    module: Callable[..., Any], pixels: np.ndarray, tmp_path: Path
) -> None:
    hole = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    hole[HOLE] = True
    for image in given(module(tmp_path, pixels)):
        assert torch.equal(image.isnan(), hole.expand_as(image))
    told, standardised = given(module(tmp_path, pixels, no_data_replace=1000.0))
    assert (told[..., *HOLE] == 1000).all()
    assert (standardised[..., *HOLE] == 0).all()


@pytest.mark.parametrize("options", [{}, {"no_data_replace": 1000.0}])
def test_the_generic_one_for_classification_takes_nodata_for_a_value_whatever_it_is_told(
    options: dict[str, Any], pixels: np.ndarray, tmp_path: Path
) -> None:
    image, _ = given(classification(tmp_path, pixels, **options))
    assert (image[..., *HOLE] == -9999).all()


def test_a_nan_spreads_over_the_whole_window_there_and_not_here(pixels: np.ndarray, tmp_path: Path) -> None:
    """Of a NaN in every score TerraTorch makes the first class, and a map of ours has a hole where the pixels have."""
    _, standardised = given(generic(tmp_path / "theirs", pixels))
    with their_warnings(), torch.no_grad():
        model = EncoderDecoderFactory().build_model(
            "segmentation", "prithvi_eo_v2_tiny_tl", "FCNDecoder", backbone_pretrained=False, backbone_bands=BANDS,
            decoder_channels=8, num_classes=2, necks=[{"name": "SelectIndices", "indices": [-1]},
                                                      {"name": "ReshapeTokensToImage"}],
        ).eval()  # fmt: skip
        scores = model(standardised[None]).output[0]
    assert scores.isnan().all()
    assert (scores.argmax(dim=0) == 0).all()

    scene = prithvi.open_scene(
        tmp_path / "theirs" / "a_image.tif", bands=range(1, 7), scale=10_000, offset=0, dates=["2019-09-18"]
    )
    classes = prithvi.map(scene, small_task().fitted(seed=0)).compute()["class"].values
    missing = np.zeros((SIDE, SIDE), bool)
    missing[HOLE] = True
    np.testing.assert_array_equal(classes == 255, missing)
