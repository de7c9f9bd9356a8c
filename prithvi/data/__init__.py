"""Labelled chips on disk to batches."""

from prithvi.data.chips import Chip, ChipDataset
from prithvi.data.segmentation import SegmentationDataModule
from prithvi.data.stores import StoreDataset

__all__ = ["Chip", "ChipDataset", "SegmentationDataModule", "StoreDataset"]
