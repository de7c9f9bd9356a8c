"""Chips of a store as samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from prithvi.catalog.datasets import HALVES, in_half
from prithvi.chips import ChipStore
from prithvi.chips.spec import NO_FMASK, NODATA, UNLABELLED
from prithvi.contract import IGNORE, Contract
from prithvi.coords import year_and_day
from prithvi.errors import DatasetError
from prithvi.files import sha256
from prithvi.hls import good


class StoreDataset(Dataset[dict[str, Any]]):
    """Samples of a chip store, read on access, a batch at a time.

    A sample holds `image` (band, T, Y, X) int16 as stored, `valid` (T, Y, X) bool (False without data and where a value
    was filled from its neighbour), `clear` (T, Y, X) bool (valid, and neither cloud nor shadow by Fmask, where the
    store has one), `temporal_coords` (T, 2) year and day of the year counted from 0, `location_coords` (2) latitude and
    longitude, both float32 and NaN where unknown, `id`; and for a store with labels `label` (Y, X) int16 with
    `prithvi.contract.IGNORE` where there is none. Numbers stay as small as they are stored: what travels between
    processes costs time, and a device widens them faster.

    Args:
        store: the store or its folder.
        split: one part of it, or one of `prithvi.catalog.datasets.HALVES` of its `val`; None takes all.

    Raises:
        DatasetError: no such store or part.

    """

    def __init__(self, store: ChipStore | str | Path, split: str | None = None) -> None:
        self.store = store if isinstance(store, ChipStore) else ChipStore(store)
        samples = self.store.samples
        self.indices = part_of(self.store, split)
        if not self.indices:
            raise DatasetError(f"{self.store.path} holds no sample.")
        self.names: list[str] = samples["name"].tolist()
        self.times = np.stack([year_and_day(row) for row in samples["times"]])
        places = samples.geometry
        self.places = np.stack([places.y.to_numpy(), places.x.to_numpy()], axis=1).astype(np.float32)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def identity(self) -> str:
        """Names what the samples are made of: the store, its state, and which of its rows."""
        file = self.store.path / "zarr.json"
        return repr((str(self.store.path.resolve()), sha256(file), file.stat().st_mtime_ns, self.indices))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several samples; torch's loader calls this with a batch's positions."""
        batch = self.batch(indices)
        return [{name: values[row] for name, values in batch.items()} for row in range(len(indices))]

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Several samples of this part with a batch axis."""
        return self.read([self.indices[index] for index in indices])

    def read(self, rows: Sequence[int]) -> dict[str, Any]:
        """One batch of the samples at these rows of the store, whatever its part: as a sample, with a batch axis."""
        pixels = self.store.read(rows)
        valid = _valid(pixels)
        clear = valid & good(pixels["fmask"]) if "fmask" in pixels else valid
        batch: dict[str, Any] = {
            "id": [self.names[row] for row in rows],
            "image": torch.from_numpy(pixels["image"]).transpose(1, 2),
            "valid": torch.from_numpy(valid),
            "clear": torch.from_numpy(clear),
        }
        if "label" in pixels:
            batch["label"] = torch.from_numpy(_NUMBERS[pixels["label"]])
        batch["temporal_coords"] = torch.from_numpy(self.times[rows])
        batch["location_coords"] = torch.from_numpy(self.places[rows])
        return batch


def contract_of(stores: Sequence[ChipStore], weights: Sequence[float]) -> Contract:
    """Bands of stores of one form, and the mean and standard deviation of a pixel drawn from them.

    Resolution and level are those that all stores agree on, else None.

    Args:
        stores: at least one.
        weights: how often each is drawn, any scale.

    Raises:
        DatasetError: a store says no mean and standard deviation.

    """
    share = np.asarray(weights) / sum(weights)
    moments, spec = [store.moments for store in stores], stores[0].spec
    # The square of a mixture is the mixture of the squares, and the variance is what it exceeds that of the mean by.
    mean = sum(w * m for w, (m, _) in zip(share, moments, strict=True))
    square = sum(w * (s**2 + m**2) for w, (m, s) in zip(share, moments, strict=True))
    std = np.sqrt(square - mean**2)
    scale = spec.gain * 10_000.0
    sizes = {
        round(abs(affine[0]), 3)
        for store in stores
        for crs, affine in zip(store.samples["crs"], store.samples["affine"], strict=True)
        if crs.startswith(("EPSG:326", "EPSG:327"))  # UTM, whose units are metres
    }
    levels = {store.spec.level for store in stores}
    return Contract(
        spec.bands,
        tuple(np.round(mean * scale, 4)),
        tuple(np.round(std * scale, 4)),
        clip=(0.0, 10_000.0),
        resolution=sizes.pop() if len(sizes) == 1 else None,
        level=levels.pop() if len(levels) == 1 else None,
    )


def has_part(store: ChipStore, split: str) -> bool:
    """Whether a store has a part; the halves of `val` exist where `val` does and `test` does not."""
    parts = store.attributes["samples"]
    return split in parts or (split in HALVES and "val" in parts and "test" not in parts)


def part_of(store: ChipStore, split: str | None) -> list[int]:
    """The rows of a part; of a half of `val` by a checksum of the chips' names, as for files.

    Raises:
        DatasetError: the store has no such part.

    """
    if split is None:
        return list(range(len(store)))
    if split in store.attributes["samples"] or not has_part(store, split):
        return store.indices(split)
    names = store.samples["name"].tolist()
    return [row for row in store.indices("val") if in_half(names[row], split)]


def with_frames(batch: dict[str, Any], dates: Tensor) -> dict[str, Any]:
    """A batch with other dates: for each sample the ones that `dates` (B, T) names, -1 for one that is missing.

    A missing date has nodata everywhere and no date.
    """
    found = dict(batch)
    missing = dates < 0
    index = dates.clamp(min=0)
    # The index is (B, 1, T, 1, 1) for images and (B, T, 1, 1) for masks, expanded to full size without a copy.
    for name, fill, axis in (("image", NODATA, 2), ("valid", False, 1), ("clear", False, 1)):
        values = batch[name]
        shape = [dates.shape[0], *[1] * (values.ndim - 1)]
        sizes = [*values.shape]
        shape[axis] = sizes[axis] = dates.shape[1]
        taken = torch.take_along_dim(values, index.view(shape).expand(sizes), dim=axis)
        found[name] = taken.masked_fill_(missing.view(shape), fill) if missing.any() else taken
    times = torch.take_along_dim(batch["temporal_coords"], index.unsqueeze(-1).expand(-1, -1, 2), dim=1)
    found["temporal_coords"] = times.masked_fill(missing.unsqueeze(-1), torch.nan)
    return found


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
