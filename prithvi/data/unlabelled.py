"""The data modules without labels: pretraining on an endless stream that mixes chip stores, and gap filling.

Gap filling takes clear time series from chip stores, and cloud shapes from other places or dates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import rasterio
import torch
from rasterio.errors import RasterioError
from torch.utils.data import DataLoader, default_collate

from prithvi.chips import ChipStore
from prithvi.chips.spec import UNLABELLED
from prithvi.contract import Contract
from prithvi.data.order import subset
from prithvi.data.stores import StoreDataset, contract_of, with_frames
from prithvi.data.streaming import ChipStream, Source, StreamLoader, cloud_masks, same_form
from prithvi.errors import ConfigError, DatasetError, nearest


class PretrainDataModule(L.LightningDataModule):
    """Chip stores as written by `prithvi data build`; labels are not used.

    Args:
        stores: folders of the stores.
        weights: sampling weight of each store, any scale; null for its number of samples. All samples of a batch are
            from stores with the same number of dates.
        split: split to train on; a store without splits is used as a whole.
        val_split: split whose loss is logged; stores without it are skipped.
        batch_size: samples per device and step.
        num_workers: reader processes per device.
        buffer: samples that are shuffled together, from shards in random order.
        frames: numbers of dates, one of which is drawn for each batch; of samples with more dates a subset is used,
            in order. null for all dates of a store.
        balance: `tile`, `label` (the rarest class of a chip; reads all labels once) or any other column of a store's
            samples, whose values are then sampled equally often within the store; null for none.
        clouds: stores whose Fmasks provide the shapes of `cloud` masks.
        accept: `level` to mix surface and top-of-atmosphere reflectance; recorded with the run.
        probe: a small labelled store with the splits `train` and `val`, for `prithvi.tasks.LinearProbe`.
        seed: seed of the sample order.

    Raises:
        DatasetError, BandError, ConfigError: incompatible stores, or stores without statistics.

    """

    def __init__(
        self,
        stores: list[str],
        weights: list[float] | None = None,
        split: str = "train",
        val_split: str = "val",
        batch_size: int = 16,
        num_workers: int = 2,
        buffer: int = 4096,
        frames: list[int] | None = None,
        balance: str | None = None,
        clouds: list[str] | None = None,
        accept: list[str] | None = None,
        probe: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not stores:
            raise DatasetError("no chip store was given: data.stores is a list of folders.")
        if weights is not None and len(weights) != len(stores):
            raise ConfigError(f"data.weights has {len(weights)} values for {len(stores)} stores.")
        self.stores = [ChipStore(path) for path in stores]
        self.clouds = [ChipStore(path) for path in clouds or []]
        self.probe = ChipStore(probe) if probe is not None else None
        for store in (*self.stores[1:], *self.clouds):
            same_form(self.stores[0], store)
        self.weights = weights
        self.split, self.val_split = split, val_split
        self.batch_size, self.num_workers, self.buffer = batch_size, num_workers, buffer
        self.frames, self.balance, self.seed = frames, balance, seed
        levels = {store.spec.level for store in self.stores}
        if len(levels) > 1 and "level" not in (accept or []):
            named = "; ".join(f"{store.path.name} {store.spec.level}" for store in self.stores)
            raise ConfigError(f"the stores are of different levels ({named}): mixing them takes data.accept: [level].")

    @property
    def contract(self) -> Contract:
        """Bands of the stores, and their statistics combined by weight.

        Raises:
            DatasetError: a store has no mean and standard deviation.

        """
        return contract_of(self.stores, self._weights())

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the chips."""
        return self.stores[0].spec.height, self.stores[0].spec.width

    @property
    def described(self) -> list[dict[str, Any]]:
        """The stores by name, size and content, for the record of a run."""
        return [
            {"store": store.path.name, "samples": len(store), "frames": store.spec.frames, "level": store.spec.level}
            for store in self.stores
        ]

    def setup(self, stage: str) -> None:
        """Reads the sample lists (and the labels with `balance: label`), but no images."""
        trainer = self.trainer
        ranks = trainer.world_size if trainer is not None else 1
        masks = self.cloud_shapes()
        pairs = zip(self.stores, self._weights(), strict=True)
        sources = [source for store, weight in pairs for source in self._sources(store, weight)]
        clouds = np.concatenate(masks) if masks else None
        self.stream = ChipStream(sources, self.batch_size * ranks, self.buffer, self.frames, clouds, self.seed)

    def cloud_shapes(self) -> list[npt.NDArray[np.bool_]]:
        """(N, Y, X) bool cloud masks of each store in `clouds`."""
        return [cloud_masks(store) for store in self.clouds]

    def train_dataloader(self) -> StreamLoader:
        trainer = self.trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        pin = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return StreamLoader(self.stream, rank, ranks, self.num_workers, pin)

    def val_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        watched = [StoreDataset(store, self.val_split) for store in self.stores if self.val_split in store.parts]
        return [DataLoader(dataset, self.batch_size, collate_fn=joined) for dataset in watched]

    def probe_dataloader(self, part: str) -> DataLoader[dict[str, Any]]:
        """Labelled chips of a split of the `probe` store.

        Raises:
            ConfigError: `probe` was not given.

        """
        if self.probe is None:
            raise ConfigError("LinearProbe needs a labelled store: data.probe.")
        return DataLoader(StoreDataset(self.probe, part), self.batch_size)

    def _weights(self) -> list[float]:
        return self.weights or [float(len(self._part(store))) for store in self.stores]

    def _part(self, store: ChipStore) -> list[int]:
        parts = [part for part in store.attributes["samples"] if part]
        return store.indices(self.split) if parts else list(range(len(store)))

    def _sources(self, store: ChipStore, weight: float) -> list[Source]:
        # Balancing needs no sampler of its own: each value becomes a source, and the sources of a store share its
        # weight equally.
        indices = self._part(store)
        if self.balance is None:
            return [Source(store, indices, weight, f"{store.path.name} ({self.split})")]
        if self.balance == "label":
            values = _rarest_classes(store)
        elif self.balance in store.samples:
            values = store.samples[self.balance].astype(str).to_numpy()
        else:
            columns = ["label", *store.samples.columns]
            raise ConfigError(f"{store.path} has no column {self.balance!r}: {nearest(self.balance, columns)}")
        groups: dict[str, list[int]] = {}
        for index in indices:
            groups.setdefault(str(values[index]), []).append(index)
        return [
            Source(store, some, weight / len(groups), f"{store.path.name} ({self.split}, {self.balance} {value})")
            for value, some in sorted(groups.items())
        ]


def _rarest_classes(store: ChipStore) -> list[str]:
    """For each chip, the class in it that is rarest in the whole store; `none` for a chip without labels."""
    if not store.spec.classes:
        raise ConfigError(f"{store.path} has no labels to balance by: name a column such as tile.")
    labels = (store.array("label").read([index]) for index in range(len(store)))
    counts = np.stack([np.bincount(label.ravel(), minlength=256)[:UNLABELLED] for label in labels])
    # Counts are over the whole store. Classes are sorted by them, so that the first class in this order that occurs in
    # a chip is its rarest.
    by_rarity = np.argsort(counts.sum(axis=0), kind="stable")
    return [next((str(value) for value in by_rarity if row[value]), "none") for row in counts]


def joined(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Collates samples without their labels."""
    kept = [{name: value for name, value in sample.items() if name != "label"} for sample in samples]
    batch: dict[str, Any] = default_collate(kept)
    return batch


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
                raise DatasetError(f"{store.path} holds chips of {store.spec.frames} dates; a series has {frames}.")

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
