"""Figures that count each pixel once and leave out those without a label."""

from prithvi.contract import IGNORE
from prithvi.metrics.segmentation import SegmentationMetrics

__all__ = ["IGNORE", "SegmentationMetrics"]
