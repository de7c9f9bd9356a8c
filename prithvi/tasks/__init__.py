"""Lightning modules: what is trained, with which loss, and what is measured."""

from prithvi.tasks.segmentation import SegmentationTask

__all__ = ["SegmentationTask"]
