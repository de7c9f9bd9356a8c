"""What a model is measured against."""

from prithvi.evaluation.baselines import IndexThreshold, PixelTrees, normalised_difference

__all__ = ["IndexThreshold", "PixelTrees", "normalised_difference"]
