"""The data module of pretraining: an endless stream that mixes chip stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, default_collate

from prithvi.chips import ChipStore
from prithvi.chips.spec import UNLABELLED
from prithvi.contract import Contract
from prithvi.data.stores import StoreDataset, contract_of
from prithvi.data.streaming import ChipStream, Source, StreamLoader, cloud_masks, same_form
from prithvi.errors import ConfigError, DatasetError, nearest


class PretrainDataModule(L.LightningDataModule):
    """Chip stores as written by `prithvi data build`.

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
        labels: whether the model learns the stores' labels too (`label_weight` of `prithvi.tasks.PretrainTask`); stores
            that have labels have the same classes.
        seed: seed of the sample order.

    Raises:
        DatasetError, BandError, ConfigError: incompatible stores, or stores without statistics; with `labels`, stores
            of different classes, or none that is labelled.

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
        labels: bool = False,
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
        self.labels = labels
        self.classes = _classes_of(self.stores) if labels else None
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
        size = self.batch_size * ranks
        self.stream = ChipStream(sources, size, self.buffer, self.frames, clouds, self.seed, self.labels)

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
        kept = [self.labels and bool(part.store.spec.classes) for part in watched]
        return [
            DataLoader(part, self.batch_size, collate_fn=None if own else joined)
            for part, own in zip(watched, kept, strict=True)
        ]

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


def _classes_of(stores: Sequence[ChipStore]) -> list[str]:
    """Class names of the stores that have labels."""
    known = {tuple(entry.name for entry in store.spec.classes) for store in stores if store.spec.classes}
    if len(known) != 1:
        found = "; ".join(", ".join(names) for names in sorted(known)) or "none has labels"
        raise DatasetError(f"labels of several stores are learned together if they have the same classes: {found}.")
    return list(known.pop())


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
