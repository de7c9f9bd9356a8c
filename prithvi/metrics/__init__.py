"""Figures that count each pixel once and leave out those without a label."""

from prithvi.metrics.segmentation import IGNORE, SegmentationMetrics

__all__ = ["IGNORE", "SegmentationMetrics"]
