"""Chips of the published layout: the right pixels, the right labels, and no guess about either."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from prithvi.catalog import data_catalog, dataset, folder_layout
from prithvi.data import Chip, ChipDataModule, ChipDataset
from prithvi.errors import BandError, DatasetError
from prithvi.metrics import IGNORE
from tests.conftest import SPAIN, SPAIN_LABEL

LAYOUT = dataset("sen1floods11")


def test_a_chip_is_six_bands_of_the_file_and_its_label(six_bands: np.ndarray) -> None:
    sample = ChipDataset([Chip("Spain_7370579", SPAIN, SPAIN_LABEL)], LAYOUT)[0]
    assert sample["image"].dtype == torch.int16  # integers travel, floats are made on the device
    np.testing.assert_array_equal(sample["image"][:, 0], six_bands)
    with rasterio.open(SPAIN_LABEL) as raster:
        label = raster.read(1)
    np.testing.assert_array_equal(sample["label"], label)  # -1, 0, 1 are IGNORE, land, water
    assert (sample["label"] == IGNORE).sum() == 99
    assert sample["valid"].all()
    np.testing.assert_allclose(sample["location_coords"], [38.106, -0.759], atol=1e-3)
    assert torch.isnan(sample["temporal_coords"]).all()


def test_parts_and_crops_stay_inside_their_columns(six_bands: np.ndarray) -> None:
    chip = Chip("part", SPAIN, SPAIN_LABEL, columns=(352, 512))
    whole = ChipDataset([chip], LAYOUT)[0]["image"]
    np.testing.assert_array_equal(whole[:, 0], six_bands[:, :, 352:])
    crops = ChipDataset([chip], LAYOUT, crop=160, samples=4)
    torch.manual_seed(0)
    rows = set()
    for sample in (crops[i] for i in range(len(crops))):
        match = [r for r in range(353) if np.array_equal(six_bands[:, r : r + 160, 352:], sample["image"][:, 0])]
        assert len(match) == 1
        rows.add(match[0])
    assert len(rows) > 1
    with pytest.raises(DatasetError, match="512 x 160 pixels, fewer than a crop of 200"):
        ChipDataset([chip], LAYOUT, crop=200)[0]


def test_kept_chips_are_read_once_and_give_the_crops_that_their_files_give(tmp_path: Path) -> None:
    image, label = (Path(shutil.copy(file, tmp_path)) for file in (SPAIN, SPAIN_LABEL))
    parts = [Chip("left", image, label, columns=(0, 224)), Chip("below", image, label, rows=(200, 400))]
    found = []
    for keep in (False, True):
        torch.manual_seed(0)
        crops = ChipDataset(parts, LAYOUT, crop=64, samples=6, keep=keep)
        found.append([crops[index] for index in range(6)])
    for read, kept in zip(*found, strict=True):
        assert read.keys() == kept.keys()
        assert read.pop("id") == kept.pop("id")
        for name, values in read.items():
            assert values.dtype == kept[name].dtype
            np.testing.assert_array_equal(values, kept[name])
    image.unlink()
    label.unlink()
    assert crops[0]["image"].shape == (6, 1, 64, 64)


def test_labels_that_say_nothing_never_become_a_class() -> None:
    stored = np.array([[-1, 0, 1, 1, 0]], np.int16)
    np.testing.assert_array_equal(LAYOUT.class_numbers(stored, None, "x"), [[IGNORE, 0, 1, 1, 0]])
    np.testing.assert_array_equal(LAYOUT.class_numbers(stored, -1, "x"), [[IGNORE, 0, 1, 1, 0]])
    floats = np.array([[np.nan, 0, 1, -1]], np.float32)
    np.testing.assert_array_equal(LAYOUT.class_numbers(floats, np.nan, "x"), [[IGNORE, 0, 1, IGNORE]])
    with pytest.raises(DatasetError, match=r"label\.tif holds the label 7; sen1floods11 has 0 \(land\), 1 \(water\)"):
        LAYOUT.class_numbers(np.array([[7, 0]], np.int16), None, "label.tif")


def test_pixels_without_data_are_not_valid(write_tif: Callable[..., Path], six_bands: np.ndarray) -> None:
    stack = np.ones((13, 64, 64), np.int16)
    stack[:, 10, 20] = 0
    stack[12, 30, 40] = 0
    names = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
    image = write_tif(stack, "image.tif", names=names)
    label = write_tif(np.zeros((1, 64, 64), np.int16), "label.tif", names=None)
    valid = ChipDataset([Chip("c", image, label)], LAYOUT)[0]["valid"][0]
    assert not valid[10, 20]
    assert not valid[30, 40]
    assert valid.sum() == 64 * 64 - 2


def test_a_label_on_another_grid_is_refused(write_tif: Callable[..., Path]) -> None:
    image = write_tif(np.ones((13, 64, 64), np.int16), "image.tif", names=None)
    label = write_tif(np.zeros((1, 32, 32), np.int16), "label.tif", names=None)
    with pytest.raises(DatasetError, match=r"chip c: .* do not lie on one grid: they have 64 x 64 and 32 x 32 pixels"):
        ChipDataset([Chip("c", image, label)], LAYOUT)[0]


def test_official_splits_have_their_published_sizes_and_do_not_overlap() -> None:
    ids = {split: LAYOUT.chip_ids(split) for split in LAYOUT.splits}
    assert {split: len(names) for split, names in ids.items()} == {"train": 252, "val": 89, "test": 90, "bolivia": 15}
    everything = [name for names in ids.values() for name in names]
    assert len(set(everything)) == len(everything)
    assert "Spain_7370579" in ids["test"]
    assert all(name.startswith("Bolivia") for name in ids["bolivia"])


def test_split_lists_of_the_archive_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "test_split.txt").write_text(
        "Ghana_1_S1Hand.tif,Ghana_1_LabelHand.tif\nGhana_10_S1Hand.tif,Ghana_10_LabelHand.tif\n"
    )
    assert LAYOUT.chip_ids("test", tmp_path) == ["Ghana_1", "Ghana_10"]
    (tmp_path / "test_split.txt").write_text("\n")
    with pytest.raises(DatasetError, match="list of the test split is empty"):
        LAYOUT.chip_ids("test", tmp_path)
    with pytest.raises(DatasetError, match="no split 'tets': did you mean test"):
        LAYOUT.chip_ids("tets")


def test_every_missing_file_is_counted_before_any_is_read(tmp_path: Path) -> None:
    data = ChipDataModule(str(tmp_path), dataset="sen1floods11")
    with pytest.raises(DatasetError, match=r"180 of the 180 files of the test split .*Ghana_313799_S2Hand"):
        data.setup("test")


def test_the_data_module_serves_the_layout(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}_split.txt").write_text("Spain_7370579\n")
    root = data_catalog() / "sen1floods11" / "samples"
    data = ChipDataModule(str(root), dataset="sen1floods11", splits=str(tmp_path), crop=64, batch_size=2, num_workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (1, 6, 1, 64, 64)
    assert batch["label"].shape == (1, 64, 64)
    assert next(iter(data.val_dataloader()))["image"].shape == (1, 6, 1, 512, 512)
    assert data.classes == ["land", "water"]


def test_the_shipped_files_are_what_the_catalog_says() -> None:
    import hashlib
    import json

    item = json.loads((data_catalog() / "sen1floods11" / "Spain_7370579.json").read_text())
    for asset in item["assets"].values():
        digest = hashlib.sha256((data_catalog() / "sen1floods11" / asset["href"]).read_bytes()).hexdigest()
        assert asset["file:checksum"] == "1220" + digest


def test_the_datasets_bands_settle_what_a_name_leaves_open(
    write_tif: Callable[..., Path], six_bands: np.ndarray
) -> None:
    names = ("Blue", "Green", "Red", "NIR", "SWIR1", "SWIR2")
    path = write_tif(six_bands[:, :64, :64], "image.tif", names=names)

    def read(*bands: str) -> np.ndarray:
        layout = folder_layout("{id}.tif", bands=bands, sensor="sentinel-2-l1c", scale=10_000, offset=0)
        pixels: np.ndarray = ChipDataset([Chip("image", path, 0)], layout)[0]["image"][:, 0].numpy()
        return pixels

    six = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
    np.testing.assert_array_equal(read(*six), six_bands[:, :64, :64])
    np.testing.assert_array_equal(read(*six[:3], "nir_broad", *six[4:]), six_bands[:, :64, :64])
    with pytest.raises(BandError, match="lacks nir_broad, nir_narrow"):  # both: nothing is settled
        read(*six[:3], "nir_broad", "nir_narrow", *six[4:])
    two = write_tif(six_bands[[0, 1, 2, 3, 3, 4, 5], :64, :64], "two.tif", names=(*names[:4], "NIR", *names[4:]))
    layout = folder_layout("{id}.tif", bands=six, sensor="sentinel-2-l1c", scale=10_000, offset=0)
    with pytest.raises(BandError, match="lacks nir_narrow"):  # which of the two?
        ChipDataset([Chip("two", two, 0)], layout)[0]
