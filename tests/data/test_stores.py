"""Samples of a store are what was put into it, in the model's axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from prithvi.chips import ChipStore
from prithvi.contract import IGNORE
from prithvi.data import StoreDataset
from tests.chips.conftest import CLASSES, sample_chips


def test_a_batch_has_the_stores_pixels_dates_places_and_labels(six_bands: np.ndarray, tmp_path: Path) -> None:
    from prithvi.chips import StoreSpec

    chips = sample_chips(six_bands, 11)
    ChipStore.create(tmp_path / "c.zarr", StoreSpec(32, 32, 2, classes=CLASSES, shard=4), chips)
    dataset = StoreDataset(tmp_path / "c.zarr", "train")
    expected = [chip for chip in chips if chip.sample.split == "train"]
    for workers in (0, 2):
        batch = next(iter(DataLoader(dataset, batch_size=7, num_workers=workers)))
        assert batch["id"] == [chip.sample.name for chip in expected]
        assert batch["image"].shape == (7, 6, 2, 32, 32)
        assert batch["image"].dtype == torch.int16
        for row, chip in enumerate(expected):
            np.testing.assert_array_equal(batch["image"][row].transpose(0, 1), chip.image)
            known = (chip.image != -9999).all(axis=1) & (chip.fmask != 255)
            np.testing.assert_array_equal(batch["valid"][row], known)
            np.testing.assert_array_equal(batch["label"][row] == IGNORE, chip.label == 255)
            np.testing.assert_array_equal(batch["label"][row][batch["label"][row] >= 0], chip.label[chip.label != 255])
        assert batch["temporal_coords"][0, 0].tolist() == [2022, 120]  # 1 May, counted from 0
        assert batch["temporal_coords"][:, 1].isnan().all()
        np.testing.assert_allclose(batch["location_coords"][0], [37.9, -1.8], rtol=1e-6)
