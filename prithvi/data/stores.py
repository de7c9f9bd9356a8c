"""Chips of a chip store as samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from prithvi.chips import ChipStore
from prithvi.chips.spec import NO_FMASK, NODATA, UNLABELLED
from prithvi.contract import IGNORE, Category, Contract, Quantity
from prithvi.coords import year_and_day
from prithvi.errors import DatasetError
from prithvi.files import sha256
from prithvi.hls import good


class StoreDataset(Dataset[dict[str, Any]]):
    """Samples of a chip store, read on access, a batch at a time.

    A sample holds:

    - `image` (band, T, Y, X) int16 as stored;
    - `valid` (T, Y, X) bool, False at nodata and where values were filled from a neighbouring pixel;
    - `clear` (T, Y, X) bool, valid and neither cloud nor cloud shadow by Fmask (equal to `valid` without Fmask);
    - `label` (Y, X) int16 class numbers, `prithvi.contract.IGNORE` where unlabelled, if the store has labels;
    - `temporal_coords` (T, 2) float32 year and day of year from 0, and `location_coords` (2) float32 latitude and
      longitude in degrees, NaN where unknown;
    - `id`.

    Types stay as small as stored: transfer between processes costs time, and a device converts them faster.

    Args:
        store: the store or its folder.
        split: a split of the store, or one of `prithvi.catalog.datasets.HALVES` of its `val`; None for all samples.

    Raises:
        DatasetError: the store or the split does not exist.

    """

    def __init__(self, store: ChipStore | str | Path, split: str | None = None) -> None:
        self.store = store if isinstance(store, ChipStore) else ChipStore(store)
        samples = self.store.samples
        self.indices = self.store.indices(split) if split is not None else list(range(len(self.store)))
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
        """A text that identifies the samples: the store, its version, and the rows used."""
        file = self.store.path / "zarr.json"
        return repr((str(self.store.path.resolve()), sha256(file), file.stat().st_mtime_ns, self.indices))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several samples from a single read; torch's DataLoader calls this with the indices of a batch."""
        batch = self.batch(indices)
        return [{name: values[row] for name, values in batch.items()} for row in range(len(indices))]

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Several samples of this split, with a batch axis."""
        return self.read([self.indices[index] for index in indices])

    def read(self, rows: Sequence[int]) -> dict[str, Any]:
        """Samples at rows of the whole store, regardless of the split, with a batch axis."""
        # One read for the whole batch, so that samples in the same shard share its chunks.
        pixels = self.store.read(rows)
        valid = _valid(pixels)
        clear = valid & good(pixels["fmask"]) if "fmask" in pixels else valid
        label = {"label": torch.from_numpy(_NUMBERS[pixels["label"]])} if "label" in pixels else {}
        return {
            "id": [self.names[row] for row in rows],
            "image": torch.from_numpy(pixels["image"]).transpose(1, 2),
            "valid": torch.from_numpy(valid),
            "clear": torch.from_numpy(clear),
            **label,
            "temporal_coords": torch.from_numpy(self.times[rows]),
            "location_coords": torch.from_numpy(self.places[rows]),
        }


class StoreSource:
    """Chips of a labelled chip store.

    Args:
        root: folder of the store.

    Raises:
        DatasetError: the store has no labels.

    """

    quantity: Quantity | None = None

    def __init__(self, root: Path) -> None:
        self.name, self.store = root.name, ChipStore(root)
        self.classes: tuple[Category, ...] = self.store.spec.classes
        if not self.classes:
            raise DatasetError(f"{root} has chips without labels: build it with them (prithvi data build --labels).")

    @property
    def contract(self) -> Contract:
        """Bands and statistics of the store."""
        return contract_of([self.store], [1.0])

    def dataset(self, split: str, crop: int | None = None) -> StoreDataset:
        """The chips of a split, whole: `crop` is left to `prithvi.data.labelled.Crops`.

        Raises:
            DatasetError: the store has no such split.

        """
        return StoreDataset(self.store, split)


def contract_of(stores: Sequence[ChipStore], weights: Sequence[float]) -> Contract:
    """Contract of a mixture of stores: their bands, and mean and standard deviation of the mixture.

    Resolution and level are None unless all stores have the same.

    Args:
        stores: at least one store; all with the same bands and gain.
        weights: sampling weight of each store, any scale.

    Raises:
        DatasetError: a store has no mean and standard deviation.

    """
    share = np.asarray(weights) / sum(weights)
    moments, spec = [store.moments for store in stores], stores[0].spec
    # The mixture's second moment is the weighted mean of the stores' second moments: Var = E[x^2] - E[x]^2.
    mean = sum(w * m for w, (m, _) in zip(share, moments, strict=True))
    square = sum(w * (s**2 + m**2) for w, (m, s) in zip(share, moments, strict=True))
    std = np.sqrt(square - mean**2)
    sizes = {
        round(abs(affine[0]), 3)
        for store in stores
        for crs, affine in zip(store.samples["crs"], store.samples["affine"], strict=True)
        if crs.startswith(("EPSG:326", "EPSG:327"))  # UTM, whose units are metres
    }
    levels = {store.spec.level for store in stores}
    scale = round(1 / spec.gain, 6)  # contract units are the stored ones, in which the statistics are
    return Contract(
        spec.bands,
        tuple(np.round(mean, 4)),
        tuple(np.round(std, 4)),
        scale=scale,
        clip=(0.0, scale),
        resolution=sizes.pop() if len(sizes) == 1 else None,
        level=levels.pop() if len(levels) == 1 else None,
    )


def with_frames(batch: dict[str, Any], dates: Tensor) -> dict[str, Any]:
    """Selects dates of each sample of a batch.

    Args:
        batch: images (B, band, T, Y, X), masks (B, T, Y, X) and dates, as `StoreDataset` reads them.
        dates: (B, T) indices of the dates; -1 for padding, which becomes nodata with an unknown date.

    """
    found = dict(batch)
    missing = dates < 0
    index = dates.clamp(min=0)
    # The index has shape (B, 1, T, 1, 1) for images and (B, T, 1, 1) for masks; expand makes no copy.
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
"""Class number of each stored label value, as a lookup table."""


def _valid(pixels: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """(B, T, Y, X) bool, True where every band has data and no value was filled."""
    # Band by band instead of `(image != NODATA).all(axis=2)`, which would need a temporary of the size of the image.
    image = pixels["image"]
    valid: npt.NDArray[np.bool_] = image[:, :, 0] != NODATA
    for band in range(1, image.shape[2]):
        valid &= image[:, :, band] != NODATA
    if "fmask" in pixels:
        valid &= pixels["fmask"] != NO_FMASK
    return valid
