"""Chips of a store as samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from prithvi.chips import ChipStore
from prithvi.chips.spec import NO_FMASK, NODATA, UNLABELLED
from prithvi.contract import IGNORE
from prithvi.errors import DatasetError


class StoreDataset(Dataset[dict[str, Any]]):
    """Samples of a chip store, read when asked for; a batch is asked for at once.

    A sample holds `image` (band, T, Y, X) int16 as stored, `valid` (T, Y, X) bool (False without data and where a value
    was filled from its neighbour), `temporal_coords` (T, 2) year and day of the year counted from 0, `location_coords`
    (2) latitude and longitude, both float32 and NaN where unknown, `id`; and for a store with labels `label` (Y, X)
    int16 with `prithvi.contract.IGNORE` where there is none. Numbers stay as small as they are stored: what travels
    between processes costs time, and a device widens them faster.

    Args:
        store: the store or its folder.
        split: one part of it; None takes all.

    Raises:
        DatasetError: no such store or part.

    """

    def __init__(self, store: ChipStore | str | Path, split: str | None = None) -> None:
        self.store = store if isinstance(store, ChipStore) else ChipStore(store)
        samples = self.store.samples
        self.indices = self.store.indices(split) if split is not None else list(range(len(self.store)))
        if not self.indices:
            raise DatasetError(f"{self.store.path} holds no sample.")
        self.names: list[str] = samples["name"].tolist()
        self.times = np.array([[_year_and_day(time) for time in row] for row in samples["times"]], np.float32)
        places = samples.geometry
        self.places = np.stack([places.y.to_numpy(), places.x.to_numpy()], axis=1).astype(np.float32)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several samples; torch's loader calls this with a batch's positions."""
        wanted = [self.indices[index] for index in indices]
        pixels = self.store.read(wanted)
        batch = {"image": torch.from_numpy(pixels["image"]).transpose(1, 2), "valid": torch.from_numpy(_valid(pixels))}
        if "label" in pixels:
            batch["label"] = torch.from_numpy(_NUMBERS[pixels["label"]])
        batch["temporal_coords"] = torch.from_numpy(self.times[wanted])
        batch["location_coords"] = torch.from_numpy(self.places[wanted])
        return [
            {"id": self.names[index], **{name: values[row] for name, values in batch.items()}}
            for row, index in enumerate(wanted)
        ]


_NUMBERS = np.arange(256, dtype=np.int16)
_NUMBERS[UNLABELLED] = IGNORE
"""Stored label to class number."""


def _valid(pixels: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """(sample, time, y, x): where every band has data and none was filled."""
    image = pixels["image"]
    valid: npt.NDArray[np.bool_] = image[:, :, 0] != NODATA
    for band in range(1, image.shape[2]):
        valid &= image[:, :, band] != NODATA
    if "fmask" in pixels:
        valid &= pixels["fmask"] != NO_FMASK
    return valid


def _year_and_day(time: Any) -> tuple[float, float]:
    return (float(time.year), float(time.timetuple().tm_yday - 1)) if time is not None else (np.nan, np.nan)
