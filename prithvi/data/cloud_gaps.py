"""The data module of gap filling: clear series out of chip stores, and the shapes of clouds from elsewhere."""

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
from prithvi.data.stores import StoreDataset, has_part, with_frames
from prithvi.errors import ConfigError, DatasetError


class GapDataModule(PretrainDataModule):
    """Series as an endless stream for training, and each chip once, under always the same clouds, to measure.

    The public cloud-gap dataset comes in by `prithvi data build cloud_gaps --root DIR -o gaps.zarr`; its masks are
    `masks: [DIR/train/cloud_masks]`.

    Args:
        stores: folders of chip stores.
        masks: folders of GeoTIFF cloud masks of the chips' size (1 cloud, 0 clear), as the public dataset has them.
        clouds: chip stores whose Fmasks give shapes, beside or instead of `masks`.
        frames: dates of a series; of chips with more dates some are taken, in order.
        weights: how often each store is drawn, any scale; null for as many times as it has samples.
        split: part that is trained on; a store without parts is taken whole.
        val_split: part that the best checkpoint is chosen by.
        test_split: part that `prithvi test` reports.
        batch_size: samples a device and step.
        num_workers: processes that read, a device.
        accept: `level` to mix surface and top-of-atmosphere reflectance.
        fraction: share of each store's training chips that is used; a smaller share is part of every larger one.
        subset_seed: of which chips those are.
        seed: of the order, and of which clouds lie where.

    Raises:
        DatasetError, BandError, ConfigError: stores or masks that do not fit together, or neither masks nor clouds.

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
            raise DatasetError(
                "gap filling needs the shapes of clouds: folders of masks (data.masks) or chip stores (data.clouds)."
            )
        for store in self.stores:
            if store.spec.frames < frames:
                raise DatasetError(f"{store.path} holds chips of {store.spec.frames} dates; a series has {frames}.")

    @property
    def training_chips(self) -> int:
        """How many chips are trained on."""
        return sum(len(self._part(store)) for store in self.stores)

    def _part(self, store: ChipStore) -> list[int]:
        whole = super()._part(store)
        return [whole[place] for place in subset(len(whole), self.fraction, self.subset_seed)]

    def cloud_shapes(self) -> list[npt.NDArray[np.bool_]]:
        """Those of the stores' Fmasks and of the folders, each (N, Y, X)."""
        return [*super().cloud_shapes(), *(read_masks(folder, self.size) for folder in self.masks)]

    def val_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        return self._measured(self.val_split)

    def test_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        return self._measured(self.test_split)

    def _measured(self, split: str) -> list[DataLoader[dict[str, Any]]]:
        stores = [store for store in self.stores if has_part(store, split)]
        if not stores:
            raise DatasetError(
                f"no store has a part {split!r}: they have "
                f"{', '.join(sorted({part for store in self.stores for part in store.attributes['samples']}))}."
            )
        shapes = np.concatenate(self.cloud_shapes())
        datasets = [Covered(store, split, shapes, self.length, self.seed) for store in stores]
        return [DataLoader(dataset, self.batch_size, collate_fn=joined) for dataset in datasets]


class Covered(StoreDataset):
    """Samples of a store with `clouds` (T, Y, X), for each sample always the same ones.

    Args:
        store: the store.
        split: the part of it.
        shapes: (N, Y, X) cloud masks.
        frames: dates of a sample, its first ones that hold any pixel.
        seed: of the draw.

    """

    def __init__(self, store: ChipStore, split: str, shapes: npt.NDArray[np.bool_], frames: int, seed: int = 0) -> None:
        super().__init__(store, split)
        self.shapes, self.frames, self.seed = shapes, frames, seed

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        batch = super().batch(indices)
        batch.pop("label", None)
        dates = []
        for observed in batch["valid"].flatten(2).any(dim=2):
            found = torch.nonzero(observed).flatten()[: self.frames]
            dates.append(torch.nn.functional.pad(found, (0, self.frames - len(found)), value=-1))
        batch = with_frames(batch, torch.stack(dates))
        # A generator of each sample's own, so that its clouds are the same whatever else is in the batch.
        drawn = [
            self.shapes[np.random.default_rng([self.seed, index]).integers(len(self.shapes), size=self.frames)]
            for index in indices
        ]
        return {**batch, "clouds": torch.from_numpy(np.stack(drawn))}


def read_masks(folder: Path, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(N, Y, X) of all GeoTIFF cloud masks in a folder: True where one is not 0.

    Raises:
        DatasetError: no such folder or no mask in it; one that cannot be read, has another size or other values.

    """
    paths = sorted(folder.glob("*.tif"))
    if not paths:
        raise DatasetError(f"{folder} holds no cloud mask (*.tif).")
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
