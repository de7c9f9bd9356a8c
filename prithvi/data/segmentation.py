"""The data module of any dataset in the catalog that has images, labels and split lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from prithvi.catalog import DatasetLayout
from prithvi.catalog import dataset as dataset_named
from prithvi.contract import Contract
from prithvi.data.chips import Chip, ChipDataset
from prithvi.errors import DatasetError


class SegmentationDataModule(L.LightningDataModule):
    """Training crops and whole validation and test chips of a labelled dataset.

    Args:
        root: folder in which the dataset's own folders lie (for Sen1Floods11: S2Hand and LabelHand).
        dataset: name in the data catalog.
        splits: folder with split lists to use instead of the official ones, of the same file names.
        crop: side of a random training crop in pixels.
        batch_size: samples a training batch; validation and test take whole chips, one at a time.
        num_workers: processes that read.
        train_split: split that is trained on.
        val_split: split that the best checkpoint is chosen by.
        test_split: split that `prithvi test` reports.

    Raises:
        DatasetError: at the start of a run, when lists or files are missing; all missing files are counted.

    """

    def __init__(
        self,
        root: str,
        dataset: str = "sen1floods11",
        splits: str | None = None,
        crop: int = 224,
        batch_size: int = 4,
        num_workers: int = 2,
        train_split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.layout: DatasetLayout = dataset_named(dataset)
        self.splits = Path(splits) if splits is not None else None
        self.crop = crop
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.names = {"train": train_split, "val": val_split, "test": test_split}
        self.datasets: dict[str, ChipDataset] = {}

    @property
    def contract(self) -> Contract:
        """Bands and statistics of the dataset's published recipe."""
        return self.layout.contract

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the scores."""
        return [entry.name for entry in self.layout.classes]

    @property
    def colors(self) -> list[str]:
        """Class colours (RRGGBB)."""
        return [entry.color for entry in self.layout.classes]

    def chips(self, split: str) -> list[Chip]:
        """The chips of a split, every file of which is there.

        Raises:
            DatasetError: the dataset has no labels; or a file is missing: the message counts them and names the first.

        """
        if self.layout.label is None:
            raise DatasetError(f"{self.layout.name} has images without labels, which is nothing to segment by.")
        files = self.layout.chips(self.root, split, self.splits)
        return [Chip(chip.id, chip.image, chip.label, dates=chip.dates) for chip in files if chip.label is not None]

    def setup(self, stage: str) -> None:
        """Opens the lists the stage needs. No pixel is read."""
        for part in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            crop = self.crop if part == "train" else None
            self.datasets[part] = ChipDataset(self.chips(self.names[part]), self.layout, crop)

    def _loader(self, part: str) -> DataLoader[dict[str, Any]]:
        training = part == "train"
        return DataLoader(
            self.datasets[part],
            batch_size=self.batch_size if training else 1,
            shuffle=training,
            drop_last=training and len(self.datasets[part]) > self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._loader("test")
