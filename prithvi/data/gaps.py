"""The data module of gap filling: clear time series from chip stores, under cloud shapes of other places or dates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from rasterio.errors import RasterioError
from torch.utils.data import DataLoader

from prithvi.chips import ChipStore
from prithvi.data.order import subset
from prithvi.data.pretraining import PretrainDataModule, joined
from prithvi.data.stores import StoreDataset, with_frames
from prithvi.errors import ConfigError, DatasetError, counted


class GapDataModule(PretrainDataModule):
    """An endless stream of time series for training; each chip once, always under the same clouds, for evaluation.

    `prithvi data build cloud_gaps --root DIR -o gaps.zarr` imports the public cloud-gap dataset; its cloud masks are
    `masks: [DIR/train/cloud_masks]`.

    Args:
        stores: folders of chip stores.
        masks: folders of GeoTIFF cloud masks of the chips' size (1 cloud, 0 clear), as in the public dataset.
        clouds: chip stores whose Fmasks provide cloud shapes, in addition to `masks` or instead.
        frames: dates per time series; of chips with more dates a subset is used, in order.
        weights: sampling weight of each store, any scale; null for its number of samples.
        split: split to train on; a store without splits is used as a whole.
        val_split: split that the best checkpoint is chosen by.
        test_split: split that `prithvi test` reports.
        batch_size: samples per device and step.
        num_workers: reader processes per device.
        accept: `level` to mix surface and top-of-atmosphere reflectance.
        fraction: fraction of each store's training chips to use; smaller subsets are contained in larger ones.
        subset_seed: seed of that subset.
        seed: seed of the sample order, and of the clouds laid over each sample.

    Raises:
        DatasetError, BandError, ConfigError: incompatible stores or masks, or neither masks nor clouds.

    """

    def __init__(
        self,
        stores: list[str],
        masks: list[str] | None = None,
        clouds: list[str] | None = None,
        frames: int = 3,
        weights: list[float] | None = None,
        split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
        batch_size: int = 16,
        num_workers: int = 2,
        accept: list[str] | None = None,
        fraction: float = 1.0,
        subset_seed: int = 0,
        seed: int = 0,
    ) -> None:
        if not 0 < fraction <= 1:
            raise ConfigError(f"data.fraction is {fraction}: a share above 0, and at most 1.")
        super().__init__(
            stores, weights, split, val_split, batch_size, num_workers, frames=[frames], clouds=clouds, accept=accept,
            seed=seed,
        )  # fmt: skip
        self.test_split, self.length = test_split, frames
        self.fraction, self.subset_seed = fraction, subset_seed
        self.masks = [Path(folder) for folder in masks or []]
        if not self.masks and not self.clouds:
            raise DatasetError("gap filling needs the shapes of clouds: folders of masks (data.masks) or data.clouds.")
        for store in self.stores:
            if store.spec.frames < frames:
                raise DatasetError(
                    f"{store.path} holds chips of {counted(store.spec.frames, 'date')}; a series has {frames}."
                )

    @property
    def training_chips(self) -> int:
        """Number of training chips."""
        return sum(len(self._part(store)) for store in self.stores)

    def _part(self, store: ChipStore) -> list[int]:
        whole = super()._part(store)
        return [whole[place] for place in subset(len(whole), self.fraction, self.subset_seed)]

    def cloud_shapes(self) -> list[npt.NDArray[np.bool_]]:
        """(N, Y, X) cloud masks from the Fmask of each store in `clouds` and from each folder in `masks`."""
        return [*super().cloud_shapes(), *(read_masks(folder, self.size) for folder in self.masks)]

    def val_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        return self._measured(self.val_split)

    def test_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        return self._measured(self.test_split)

    def _measured(self, split: str) -> list[DataLoader[dict[str, Any]]]:
        stores = [store for store in self.stores if split in store.parts]
        if not stores:
            parts = sorted({part for store in self.stores for part in store.attributes["samples"]})
            raise DatasetError(f"no store has a part {split!r}: they have {', '.join(parts)}.")
        # Evaluation draws from the same cloud shapes as training, but over chips that training never sees.
        shapes = np.concatenate(self.cloud_shapes())
        datasets = [Covered(store, split, shapes, self.length, self.seed) for store in stores]
        return [DataLoader(dataset, self.batch_size, collate_fn=joined) for dataset in datasets]


class Covered(StoreDataset):
    """Samples of a store with reproducible `clouds` (T, Y, X) for evaluation.

    Args:
        store: the store.
        split: the split of the store.
        shapes: (N, Y, X) bool cloud masks to draw from.
        frames: dates per sample: its first dates that have any data.
        seed: seed of the draw.

    """

    def __init__(self, store: ChipStore, split: str, shapes: npt.NDArray[np.bool_], frames: int, seed: int = 0) -> None:
        super().__init__(store, split)
        self.shapes, self.frames, self.seed = shapes, frames, seed

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        batch = super().batch(indices)
        batch.pop("label", None)
        # All samples of a batch need the same number of dates: the first ones with data, padded with -1 (nodata).
        dates = []
        for observed in batch["valid"].flatten(2).any(dim=2):
            found = torch.nonzero(observed).flatten()[: self.frames]
            dates.append(torch.nn.functional.pad(found, (0, self.frames - len(found)), value=-1))
        batch = with_frames(batch, torch.stack(dates))
        # One generator per sample, so that its clouds do not depend on the rest of the batch.
        draws = [np.random.default_rng([self.seed, index]) for index in indices]
        clouds = [self.shapes[draw.integers(len(self.shapes), size=self.frames)] for draw in draws]
        return {**batch, "clouds": torch.from_numpy(np.stack(clouds))}


def read_masks(folder: Path, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(N, Y, X) bool cloud masks, True at cloud, from all GeoTIFF files of a folder.

    Raises:
        DatasetError: there is no mask in the folder, or a mask cannot be read, is not of `size` (rows, columns), or
            has values other than 0 and 1.

    """
    paths = sorted(folder.glob("*.tif"))
    if not paths:
        raise DatasetError(f"{folder} holds no cloud mask (*.tif).")
    # Any value besides 0 and 1 is refused: in an Fmask or a QA band, "not 0" would not mean cloud.
    found = np.zeros((len(paths), *size), dtype=bool)
    for number, path in enumerate(paths):
        try:
            with rasterio.open(path) as raster:
                values = raster.read(1)
        except RasterioError as error:
            raise DatasetError(f"the cloud mask {path} cannot be read ({error}).") from error
        if values.shape != size:
            raise DatasetError(f"the cloud mask {path} has {values.shape} pixels; the chips have {size}.")
        strange = set(np.unique(values).tolist()) - {0, 1}
        if strange:
            raise DatasetError(f"the cloud mask {path} holds {sorted(strange)[:5]}; 1 is cloud and 0 clear.")
        found[number] = values == 1
    return found
