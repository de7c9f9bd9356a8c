"""Sources of labelled chips: files described by a layout, or a chip store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import Dataset

from prithvi.catalog import DatasetLayout
from prithvi.chips import ChipStore
from prithvi.contract import IGNORE, Category, Contract, Quantity
from prithvi.data.chips import Chip, ChipDataset
from prithvi.data.stores import StoreDataset, contract_of
from prithvi.errors import DatasetError


class LayoutSource:
    """Chips in the files of a dataset layout.

    Args:
        layout: file names, and meaning of pixels and labels.
        root: folder of the dataset.
        splits: folder with split lists that replace the official ones of the same file names; None for those.

    """

    def __init__(self, layout: DatasetLayout, root: Path, splits: Path | None = None) -> None:
        self.layout, self.root, self.splits = layout, root, splits
        self.contract: Contract = layout.contract
        self.classes: tuple[Category, ...] = layout.classes
        self.quantity: Quantity | None = layout.quantity
        self.name = layout.name

    def dataset(self, split: str, crop: int | None = None) -> ChipDataset:
        """The chips of a split; checks that their files exist, but reads no pixels.

        Raises:
            DatasetError: the dataset has no labels, or files are missing.

        """
        layout = self.layout
        if layout.label is None and layout.table is None:
            raise DatasetError(f"{layout.name} has images without labels, which is nothing to learn from.")
        files = layout.chips(self.root, split, self.splits)
        chips = [
            Chip(chip.id, chip.image, chip.label if chip.label is not None else cast("int", chip.number),
                 dates=chip.dates)
            for chip in files
        ]  # fmt: skip
        return ChipDataset(chips, layout, crop)


class StoreSource:
    """Chips of a labelled chip store.

    Args:
        root: folder of the store.

    Raises:
        DatasetError: the store has no labels.

    """

    quantity: Quantity | None = None

    def __init__(self, root: Path) -> None:
        self.store = ChipStore(root)
        self.name = root.name
        self.classes: tuple[Category, ...] = self.store.spec.classes
        if not self.classes:
            raise DatasetError(f"{root} has chips without labels: build it with them (prithvi data build --labels).")

    @property
    def contract(self) -> Contract:
        """Bands and statistics of the store."""
        return contract_of([self.store], [1.0])

    def dataset(self, split: str, crop: int | None = None) -> StoreDataset:
        """The chips of a split, whole: `crop` is left to `Crops`.

        Raises:
            DatasetError: the store has no such split.

        """
        return StoreDataset(self.store, split)


class Crops(Dataset[dict[str, Any]]):
    """Samples with their index as `place`, cut to a random square if they are larger.

    Args:
        dataset: the samples.
        crop: side of the square in pixels; None for whole samples.

    """

    def __init__(self, dataset: Dataset[dict[str, Any]], crop: int | None) -> None:
        self.dataset, self.crop = dataset, crop

    def __len__(self) -> int:
        return len(cast("Any", self.dataset))

    @property
    def identity(self) -> str:
        """A text that identifies the samples: the identity of the dataset and, of a subset, its indices."""
        inner: Any = self.dataset
        if isinstance(inner, torch.utils.data.Subset):
            return repr((cast("Any", inner.dataset).identity, list(inner.indices)))
        return str(inner.identity)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = {**self.dataset[index], "place": index}
        height, width = sample["image"].shape[-2:]
        if self.crop is None or (height, width) == (self.crop, self.crop):
            return sample
        if self.crop > min(height, width):
            raise DatasetError(f"chip {sample['id']} has {height} x {width} pixels, fewer than a crop of {self.crop}.")
        top, left = (int(torch.randint(size - self.crop + 1, ())) for size in (height, width))
        for name in ("image", "valid", "clear", "label", "target"):
            if name in sample and sample[name].ndim > 1:
                sample[name] = sample[name][..., top : top + self.crop, left : left + self.crop]
        return sample


def has_labels(dataset: Dataset[dict[str, Any]], indices: Sequence[int]) -> bool:
    """Whether any of these samples has a label at a pixel with data; stops at the first one that has."""
    if isinstance(dataset, StoreDataset):  # the store's table gives labelled shares: only candidates are read
        shares = dataset.store.samples["labelled"].to_numpy()
        indices = [index for index in indices if shares[dataset.indices[index]] > 0]
    return any(_is_labelled(dataset[index]) for index in indices)


def _is_labelled(sample: Mapping[str, Any]) -> bool:
    label = sample["target"].isfinite() if "target" in sample else sample["label"] != IGNORE
    there = sample["valid"].any(dim=0) if label.ndim else True
    return bool((label & there).any())
