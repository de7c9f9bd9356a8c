"""The data module of fine-tuning: labelled chips of a published dataset, a custom folder, or a chip store."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, default_collate

from prithvi.catalog import dataset as dataset_named
from prithvi.catalog.folders import folder_of
from prithvi.contract import IGNORE, Contract
from prithvi.data.chips import ChipDataset, LayoutSource
from prithvi.data.features import NOT_KEPT, Features, Frozen
from prithvi.data.order import subset
from prithvi.data.stores import StoreDataset, StoreSource
from prithvi.errors import ConfigError, DatasetError, counted

Samples = Dataset[dict[str, Any]]


class ChipDataModule(L.LightningDataModule):
    """Random crops of training chips, and whole chips for validation and test.

    Args:
        root: folder that contains the dataset's folders (for Sen1Floods11: S2Hand and LabelHand), or a chip store.
        dataset: name in the data catalog; null for a custom folder or a store.
        folder: contents of a custom folder: the arguments of `prithvi.catalog.folder_layout`, with classes as a table
            of `value`, `name` and, optionally, `color`.
        splits: folder with split lists that replace the official ones of the same file names.
        crop: side of the random training crop in pixels; null to train on whole chips.
        batch_size: samples per training batch; validation and test take whole chips, one at a time.
        num_workers: reader processes.
        train_split: split to train on.
        val_split: split that the best checkpoint is chosen by.
        test_split: split that `prithvi test` reports.
        fraction: fraction of the training chips to use; smaller subsets are contained in larger ones.
        subset_seed: seed of that subset.
        balance: after an epoch that shows each chip once, sample chips such that the classes are balanced.
        features: folder to cache the features of a frozen encoder in (with model.finetune: frozen,
            model.augment: false, crop: null).
        features_gb: upper limit of that cache in gigabytes; further chips are encoded each time.

    Raises:
        DatasetError: at the start of a run, if lists or files are missing; the message names all missing files.
        ConfigError: incompatible options.

    """

    def __init__(
        self,
        root: str,
        dataset: str | None = None,
        folder: dict[str, Any] | None = None,
        splits: str | None = None,
        crop: int | None = 224,
        batch_size: int = 4,
        num_workers: int = 2,
        train_split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
        fraction: float = 1.0,
        subset_seed: int = 0,
        balance: bool = False,
        features: str | None = None,
        features_gb: float = 10.0,
    ) -> None:
        super().__init__()
        if not 0 < fraction <= 1:
            raise ConfigError(f"data.fraction is {fraction}: a share above 0, and at most 1.")
        self.source = _source(Path(root), dataset, folder, Path(splits) if splits is not None else None)
        self.about = self.source.layout if isinstance(self.source, LayoutSource) else self.source
        self.crop = crop
        self.batch_size, self.num_workers = batch_size, num_workers
        self.names = {"train": train_split, "val": val_split, "test": test_split}
        self.fraction, self.subset_seed = fraction, subset_seed
        self.balance = balance
        if balance and not self.about.classes:
            raise ConfigError("data.balance draws classes alike; these labels are a quantity.")
        if features is not None and crop is not None:
            raise ConfigError("features are kept of whole chips, which random crops are not: data.crop: null.")
        self.features = Features(Path(features), round(features_gb * 1e9)) if features is not None else None
        self.datasets: dict[str, Samples] = {}
        self.sampler: BalancedSampler | None = None
        self.checked: set[str] = set()

    @property
    def contract(self) -> Contract:
        """Bands and statistics of the published recipe, of the custom folder, or of the store."""
        return self.about.contract

    @property
    def classes(self) -> list[str] | None:
        """Class names, in the order of the logits; None if the labels are a quantity."""
        return [entry.name for entry in self.about.classes] or None

    @property
    def colors(self) -> list[str] | None:
        """Class colours (RRGGBB); None unless all are known."""
        colors = [entry.color for entry in self.about.classes]
        return colors if colors and all(colors) else None

    @property
    def values(self) -> list[int] | None:
        """Values of the classes in the label files; None if the labels are a quantity."""
        return [entry.value for entry in self.about.classes] or None

    @property
    def quantity(self) -> dict[str, Any] | None:
        """The quantity that the labels measure, as a dictionary; None if the labels are classes."""
        return self.about.quantity.to_dict() if self.about.quantity is not None else None

    @property
    def training_chips(self) -> int:
        """Number of training chips."""
        return len(self.training_samples())

    def training_samples(self) -> Subset[dict[str, Any]]:
        """The training chips as they are: whole, in their order, each once."""
        whole = self.source.dataset(self.names["train"])
        return Subset(whole, list(subset(len(whole), self.fraction, self.subset_seed)))

    @property
    def described(self) -> str:
        """The training data in a phrase, for the record of a run."""
        return f"{self.about.name}, {counted(self.training_chips, 'chip')} to train on"

    def setup(self, stage: str) -> None:
        """Reads the split lists of a stage, but no pixels."""
        for part in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            if part != "train":
                self.datasets[part] = self.source.dataset(self.names[part])
                continue
            # Layouts read only the crop's window; stores read whole chips, which `Crops` cuts. `Crops` also adds the
            # index of each sample, by which `balance` counts its classes.
            whole = self.source.dataset(self.names[part], self.crop)
            some = subset(len(whole), self.fraction, self.subset_seed)
            self.datasets[part] = Crops(whole if len(some) == len(whole) else Subset(whole, some), self.crop)
            if self.balance:
                self.sampler = BalancedSampler(len(some), len(self.about.classes))

    def _check_labels(self, part: str) -> None:
        """Checks that a part has a labelled pixel, usually found in its first chip, before a run spends time on it.

        Raises:
            DatasetError: no pixel with data has a label.

        """
        if self.trainer is None or part in self.checked:
            return
        split = self.names[part]
        whole = self.source.dataset(split)
        some = subset(len(whole), self.fraction if part == "train" else 1.0, self.subset_seed)
        if not has_labels(whole, some):
            raise DatasetError(
                f"of {counted(len(some), 'chip')} of the split {split!r} of {self.about.name} none has a label "
                f"on a pixel with data, so that there is nothing to {'learn' if part == 'train' else 'measure'}: "
                f"name another split (data.{part}_split), or look at its labels and at what is ignored."
            )
        self.checked.add(part)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        if self.sampler is not None and self.trainer is not None and self.trainer.world_size > 1:
            raise ConfigError("data.balance counts what one device sees: train on one device, or without it.")
        return self._loader("train", self.batch_size)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._loader("val", 1)

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._loader("test", 1)

    def _loader(self, part: str, batch_size: int) -> DataLoader[dict[str, Any]]:
        """Batches of a part, with cached features of the trainer's frozen encoder if `features` was given."""
        self._check_labels(part)
        dataset, training = self.datasets[part], part == "train"
        if self.features is not None and self.trainer is not None and not self.trainer.testing:
            dataset = self.features.of(dataset, part, cast("Frozen", self.trainer.lightning_module), self.trainer)
        sampler = self.sampler if training else None
        if self.num_workers == 0:  # the user's choice: Lightning need not advise more workers
            warnings.filterwarnings("ignore", ".*does not have many workers")
        # In training, an incomplete last batch is dropped unless it is the only one.
        return DataLoader(
            dataset, batch_size=batch_size, shuffle=training and sampler is None, sampler=sampler,
            drop_last=training and len(cast("Any", dataset)) > batch_size, num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0, collate_fn=collate,
        )  # fmt: skip

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Counts the classes of training batches for `balance`."""
        training = self.trainer is None or self.trainer.training
        if self.sampler is not None and training and "place" in batch:
            self.sampler.see(batch["place"], batch["label"])
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The class counts of `balance`, for resuming."""
        return {} if self.sampler is None else {"counts": self.sampler.counts, "views": self.sampler.views}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.sampler is not None and "counts" in state_dict:
            self.sampler.counts, self.sampler.views = state_dict["counts"], state_dict["views"]


def _source(
    root: Path, dataset: str | None, folder: dict[str, Any] | None, splits: Path | None
) -> LayoutSource | StoreSource:
    if dataset is not None and folder is not None:
        raise ConfigError(f"data.dataset ({dataset}) and data.folder were given: one of them says what the files are.")
    if dataset is not None:
        return LayoutSource(dataset_named(dataset), root, splits)
    if folder is not None:
        return LayoutSource(folder_of(folder, root), root, splits)
    if splits is not None:
        raise ConfigError("a chip store has its parts in itself: leave data.splits out.")
    if not (root / "zarr.json").is_file():
        raise DatasetError(f"{root} is no chip store: say what it holds, by data.dataset (a name) or data.folder.")
    return StoreSource(root)


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Collates samples; if only some have features, `cached` (B) is True for them, and images are of the rest."""
    # Labels and ids are common to both kinds and stay in the samples' order; features and images are stacked for
    # their own kind only, and `FineTuningTask.forward` puts them back into that order.
    cached = [sample for sample in samples if "features" in sample]
    others = [sample for sample in samples if "features" not in sample]
    if not cached or not others:
        batch: dict[str, Any] = default_collate(samples)
        return batch
    batch = {name: default_collate([sample[name] for sample in others]) for name in NOT_KEPT if name in others[0]}
    both = set(cached[0]) & set(others[0])
    batch |= {name: default_collate([sample[name] for sample in samples]) for name in both}
    batch |= {name: default_collate([sample[name] for sample in cached]) for name in ("features", "size")}
    return batch | {"cached": torch.tensor(["features" in sample for sample in samples])}


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
        if isinstance(inner, Subset):
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


def has_labels(dataset: ChipDataset | StoreDataset, indices: Sequence[int]) -> bool:
    """Whether any of these samples has a label at a pixel with data; stops at the first one that has."""
    if isinstance(dataset, StoreDataset):  # the store's table gives labelled shares: only candidates are read
        shares = dataset.store.samples["labelled"].to_numpy()
        indices = [index for index in indices if shares[dataset.indices[index]] > 0]
    for sample in (dataset[index] for index in indices):
        label = sample["target"].isfinite() if "target" in sample else sample["label"] != IGNORE
        if (label & (sample["valid"].any(dim=0) if label.ndim else True)).any():
            return True
    return False


class BalancedSampler(Sampler[int]):
    """Indices of a dataset: first each one once, in random order; later drawn by the class counts from `see`.

    A draw picks a class uniformly, then a chip in proportion to its mean number of pixels of that class, so that over
    many draws every class is the reason for an equal share of the chips. A chip without any label seen so far is drawn
    at a tenth of the uniform rate.

    Args:
        size: number of chips in the dataset.
        classes: number of classes.

    """

    def __init__(self, size: int, classes: int) -> None:
        self.counts = torch.zeros(size, classes, dtype=torch.float64)
        self.views = torch.zeros(size, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.views)

    def see(self, places: Tensor, labels: Tensor) -> None:
        """Counts the classes in (B, ...) labels (`IGNORE` where unlabelled) of the chips at (B,) indices `places`."""
        for place, label in zip(places.tolist(), labels, strict=True):
            known = label[label != IGNORE].long().flatten()
            self.counts[place] += torch.bincount(known, minlength=self.counts.shape[1]).double()
            self.views[place] += 1

    def weights(self) -> Tensor:
        """(size,) probabilities of the chips; uniform until a label was counted."""
        # Counts are divided by views because random crops show a different part of a chip each time. For each class the
        # chips' probabilities add up to 1; their mean over the classes found is the balanced probability.
        shown = self.counts / self.views.clamp(min=1).unsqueeze(1)
        of_class = shown.sum(dim=0)
        found = of_class > 0
        chances = torch.full((len(self),), 1 / len(self), dtype=torch.float64)
        if found.any():
            balanced = (shown[:, found] / of_class[found]).mean(dim=1)
            chances = torch.where(balanced > 0, balanced, 0.1 * chances)
        return chances / chances.sum()

    def __iter__(self) -> Iterator[int]:
        # Chips without a view come first, so that a resumed first epoch continues with the remaining ones.
        unseen = torch.nonzero(self.views == 0).flatten()
        yield from unseen[torch.randperm(len(unseen))].tolist()
        if len(unseen) < len(self):
            yield from torch.multinomial(self.weights(), len(self) - len(unseen), replacement=True).tolist()
