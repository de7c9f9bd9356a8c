"""Pixels, labels and days of each dataset's files as tensors: one reader, and the layout says the rest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from prithvi.catalog import LabelClass, dataset, folder_layout
from prithvi.data import Chip, ChipDataModule, ChipDataset
from prithvi.errors import BandError, DatasetError
from prithvi.metrics import IGNORE

SIX = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
Write = Callable[..., Path]


def stacked(six_bands: np.ndarray, order: str) -> tuple[np.ndarray, np.ndarray]:
    """(time, band, y, x) of three dates, and the file of 18 bands that holds it."""
    image = np.stack([six_bands[:, :32, column : column + 32] for column in (0, 100, 200)])
    return image, (image if order == "time-major" else image.swapaxes(0, 1)).reshape(18, 32, 32)


def test_burn_scars_become_digital_numbers_with_their_day(
    tmp_path: Path, write_tif: Write, six_bands: np.ndarray
) -> None:
    (tmp_path / "validation").mkdir()
    stem = "validation/subsetted_512x512_HLS.S30.T10SEH.2018190.v1.4"
    pixels = (six_bands[:, :64, :64] / 10_000).astype(np.float32)
    pixels[4, 7, 9] = -9999
    write_tif(pixels, f"{stem}_merged.tif", names=None, scale=None)
    mask = np.zeros((1, 64, 64), np.int16)
    mask[0, :2], mask[0, 5] = 1, -1
    write_tif(mask, f"{stem}.mask.tif", names=None, scale=None)
    data = ChipDataModule(str(tmp_path), dataset="hls_burn_scars", test_split="val", num_workers=0)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert (~batch["valid"]).nonzero().tolist() == [[0, 0, 7, 9]]
    there = batch["valid"][0, 0]
    expected = torch.from_numpy(six_bands[:, :64, :64].astype(np.float32))
    torch.testing.assert_close(batch["image"][0, :, 0][:, there], expected[:, there])
    assert batch["label"][0, :, 0].tolist() == [1, 1, 0, 0, 0, IGNORE, *[0] * 58]
    assert batch["temporal_coords"].tolist() == [[[2018, 189]]]


@pytest.mark.parametrize("order", ["time-major", "band-major"])
def test_dates_and_bands_of_a_stack_are_never_swapped(write_tif: Write, six_bands: np.ndarray, order: str) -> None:
    """The order that TerraTorch read the other way round for a year (terratorch issue 1080)."""
    image, file = stacked(six_bands, order)
    classes = [LabelClass(4, "vine", "882255"), LabelClass(9, "olive", "44AA99")]
    layout = folder_layout(
        "{id}.tif", "{id}_lab.tif", bands=SIX, sensor="hls-s30", frames=3, order=order, classes=classes, ignore=[0]
    )
    label = np.repeat(np.array([0, 4, 9, 9], np.uint8), 8)[None, :, None] + np.zeros((1, 32, 32), np.uint8)
    chip = Chip("a", write_tif(file, "a.tif", names=None), write_tif(label, "a_lab.tif", names=None))
    sample = ChipDataset([chip], layout)[0]
    assert sample["image"].dtype == torch.int16
    np.testing.assert_array_equal(sample["image"].transpose(0, 1), image)
    assert sample["valid"].shape == (3, 32, 32)
    assert sample["label"][::8, 0].tolist() == [IGNORE, 0, 1, 1]
    assert sample["temporal_coords"].shape == (3, 2)
    assert torch.isnan(sample["temporal_coords"]).all()


def test_crops_carry_their_three_days_and_a_hole_counts_on_its_date_alone(
    write_tif: Write, six_bands: np.ndarray
) -> None:
    layout, (image, file) = dataset("multi_temporal_crops"), stacked(six_bands, "time-major")
    file[9, 3, 4] = -9999  # near infrared of the second date
    days = (dt.date(2022, 3, 1), dt.date(2022, 6, 13), dt.date(2022, 12, 31))
    label = write_tif(np.full((1, 32, 32), 13, np.uint8), "chip.mask.tif", names=None)
    chip = Chip("chip", write_tif(file, "chip_merged.tif", names=None), label, dates=days)
    sample = ChipDataset([chip], layout)[0]
    file[9, 3, 4] = 0
    np.testing.assert_array_equal(sample["image"].transpose(0, 1), file.reshape(image.shape))
    assert sample["temporal_coords"].tolist() == [[2022, 59], [2022, 163], [2022, 364]]
    assert (~sample["valid"]).nonzero().tolist() == [[1, 3, 4]]
    assert (sample["label"] == 12).all()


def test_landsat_numbers_become_reflectance_with_their_offset(write_tif: Write) -> None:
    layout = folder_layout(
        "{id}.tif", "{id}_lab.tif", bands=SIX, sensor="landsat-8-c2-l2", classes=[LabelClass(1, "a", "0")]
    )
    stored = np.full((6, 16, 16), 10_000, np.uint16)
    stored[0, 0, 0] = 0
    label = write_tif(np.ones((1, 16, 16), np.uint8), "l_lab.tif", names=None)
    sample = ChipDataset([Chip("l", write_tif(stored, "l.tif", names=None, scale=None), label)], layout)[0]
    torch.testing.assert_close(sample["image"][1:], torch.full((5, 1, 16, 16), 750.0))  # 10,000 x 0.0000275 - 0.2
    assert (~sample["valid"]).nonzero().tolist() == [[0, 0, 0]]


def test_names_in_a_file_of_one_date_go_before_the_order_of_its_kind(write_tif: Write, six_bands: np.ndarray) -> None:
    pixels = six_bands[:, :16, :16]
    label = write_tif(np.zeros((1, 16, 16), np.int16), "label.tif", names=None)
    layout = dataset("multi_temporal_crops")
    one = folder_layout("{id}.tif", "{id}_l.tif", bands=SIX, sensor="hls-s30", classes=[LabelClass(0, "a", "0")])
    backwards = write_tif(pixels[::-1], "backwards.tif", names=SIX[::-1])
    np.testing.assert_array_equal(ChipDataset([Chip("b", backwards, label)], one)[0]["image"][:, 0], pixels)
    silent = write_tif(pixels, "silent.tif", names=("one", "two", "three", "four", "five", "six"))
    np.testing.assert_array_equal(ChipDataset([Chip("s", silent, label)], one)[0]["image"][:, 0], pixels)
    other = write_tif(pixels, "other.tif", names=("blue", "green", "red", "nir_broad", "swir_1", "swir_2"))
    with pytest.raises(BandError, match=r"other\.tif lacks nir_narrow; it has blue, green, red, nir_broad"):
        ChipDataset([Chip("o", other, label)], one)[0]
    with pytest.raises(BandError, match=r"silent\.tif has 6 bands; .* multi_temporal_crops has 3 dates of blue, green"):
        ChipDataset([Chip("s", silent, label)], layout)[0]
    with pytest.raises(BandError, match=r"five\.tif has 5 bands; .* folder has one date of blue, green"):
        ChipDataset([Chip("f", write_tif(pixels[:5], "five.tif", names=None), label)], one)[0]


def test_a_dataset_without_labels_is_not_segmented(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cloud_gaps has images without labels"):
        ChipDataModule(str(tmp_path), dataset="cloud_gaps").setup("fit")
