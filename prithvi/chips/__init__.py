"""Scenes to chips: which tiles and dates, what passes the filters, labels and parts, and the store they are kept in."""

from prithvi.chips.date_plan import DateRule, date_sequences
from prithvi.chips.filters import Filters
from prithvi.chips.spec import Chip, Sample, StoreSpec
from prithvi.chips.store import ChipStore
from prithvi.chips.tile_sampling import TileSample, sample_tiles
from prithvi.chips.verify import verify

__all__ = [
    "Chip", "ChipStore", "DateRule", "Filters", "Sample", "StoreSpec", "TileSample", "date_sequences", "sample_tiles",
    "verify",
]  # fmt: skip
