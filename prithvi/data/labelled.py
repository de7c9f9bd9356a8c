"""The data module of fine-tuning: labelled chips of a published dataset, a custom folder, or a chip store."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from prithvi.catalog import dataset as dataset_named
from prithvi.catalog.folders import folder_of
from prithvi.contract import Contract, Quantity
from prithvi.data.balance import BalancedSampler
from prithvi.data.features import Features, Frozen
from prithvi.data.order import subset
from prithvi.data.sources import Crops, LayoutSource, StoreSource, has_labels
from prithvi.errors import ConfigError, DatasetError

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
        self.crop = crop
        self.batch_size, self.num_workers = batch_size, num_workers
        self.names = {"train": train_split, "val": val_split, "test": test_split}
        self.fraction, self.subset_seed = fraction, subset_seed
        self.balance = balance
        if balance and not self.source.classes:
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
        return self.source.contract

    @property
    def classes(self) -> list[str] | None:
        """Class names, in the order of the logits; None if the labels are a quantity."""
        return [entry.name for entry in self.source.classes] or None

    @property
    def colors(self) -> list[str] | None:
        """Class colours (RRGGBB); None unless all are known."""
        colors = [entry.color for entry in self.source.classes]
        return colors if colors and all(colors) else None

    @property
    def values(self) -> list[int] | None:
        """Values of the classes in the label files; None if the labels are a quantity."""
        return [entry.value for entry in self.source.classes] or None

    @property
    def quantity(self) -> dict[str, Any] | None:
        """The quantity that the labels measure, as a dictionary; None if the labels are classes."""
        found: Quantity | None = self.source.quantity
        return found.to_dict() if found is not None else None

    @property
    def training_chips(self) -> int:
        """Number of training chips."""
        return len(subset(len(cast("Any", self.source.dataset(self.names["train"]))), self.fraction, self.subset_seed))

    @property
    def described(self) -> str:
        """The training data in a phrase, for the record of a run."""
        return f"{self.source.name}, {self.training_chips:,} chips to train on"

    def setup(self, stage: str) -> None:
        """Reads the split lists of a stage, but no pixels."""
        for part in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            if part != "train":
                self.datasets[part] = self.source.dataset(self.names[part])
                continue
            # Layouts read only the crop's window; stores read whole chips, which `Crops` cuts. `Crops` also adds the
            # index of each sample, by which `balance` counts its classes.
            whole = self.source.dataset(self.names[part], self.crop)
            some = subset(len(cast("Any", whole)), self.fraction, self.subset_seed)
            kept: Samples = whole if len(some) == len(cast("Any", whole)) else torch.utils.data.Subset(whole, some)
            self.datasets[part] = Crops(kept, self.crop)
            if self.balance:
                self.sampler = BalancedSampler(len(some), len(self.source.classes))

    def _frozen(self, part: str) -> Samples:
        """The samples of a part, with cached features of the trainer's frozen encoder if `features` was given."""
        dataset = self.datasets[part]
        if self.features is None or self.trainer is None or self.trainer.testing:
            return dataset
        return self.features.of(dataset, part, cast("Frozen", self.trainer.lightning_module), self.trainer)

    def _check_labels(self, part: str) -> None:
        """Checks that a part has a labelled pixel, usually found in its first chip, before a run spends time on it.

        Raises:
            DatasetError: no pixel with data has a label.

        """
        if self.trainer is None or part in self.checked:
            return
        split = self.names[part]
        whole = self.source.dataset(split)
        number = len(cast("Any", whole))
        some = subset(number, self.fraction, self.subset_seed) if part == "train" else list(range(number))
        if not has_labels(whole, some):
            raise DatasetError(
                f"none of the {len(some):,} chips of the split {split!r} of {self.source.name} has a label on a pixel "
                f"with data, so that there is nothing to {'learn' if part == 'train' else 'measure'}: name another "
                f"split (data.{part}_split), or look at its labels and at what is ignored."
            )
        self.checked.add(part)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        self._check_labels("train")
        dataset = self._frozen("train")
        if self.sampler is not None and self.trainer is not None and self.trainer.world_size > 1:
            raise ConfigError("data.balance counts what one device sees: train on one device, or without it.")
        return self._loader(dataset, self.batch_size, True, self.sampler)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        self._check_labels("val")
        return self._loader(self._frozen("val"), 1)

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        self._check_labels("test")
        return self._loader(self._frozen("test"), 1)

    def _loader(
        self, dataset: Samples, batch_size: int, training: bool = False, sampler: BalancedSampler | None = None
    ) -> DataLoader[dict[str, Any]]:
        if self.num_workers == 0:  # the user's choice: Lightning need not advise more workers
            warnings.filterwarnings("ignore", ".*does not have many workers")
        # In training, an incomplete last batch is dropped unless it is the only one.
        return DataLoader(
            dataset, batch_size=batch_size, shuffle=training and sampler is None, sampler=sampler,
            drop_last=training and len(cast("Any", dataset)) > batch_size, num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0, collate_fn=Features.joined,
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
    if dataset is None and folder is None:
        if splits is not None:
            raise ConfigError("a chip store has its parts in itself: leave data.splits out.")
        if not (root / "zarr.json").is_file():
            raise DatasetError(
                f"{root} is no chip store: say what it holds, by data.dataset (a name of 'prithvi data show') or "
                "data.folder."
            )
        return StoreSource(root)
    layout = dataset_named(dataset) if dataset is not None else folder_of(folder or {}, root)
    return LayoutSource(layout, root, splits)
