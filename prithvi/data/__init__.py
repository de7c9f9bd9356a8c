"""From chips on disk to batches: labelled chips for fine-tuning, an endless mixed stream for pretraining."""

from prithvi.data.chips import Chip, ChipDataset
from prithvi.data.gaps import GapDataModule
from prithvi.data.labelled import ChipDataModule
from prithvi.data.pretraining import PretrainDataModule
from prithvi.data.stores import StoreDataset
from prithvi.data.streaming import ChipStream, Source, StreamLoader

__all__ = [
    "Chip", "ChipDataModule", "ChipDataset", "ChipStream", "GapDataModule", "PretrainDataModule", "Source",
    "StoreDataset", "StreamLoader",
]  # fmt: skip
