"""Baselines, comparisons of methods, and area estimates."""

from prithvi.evaluation.baselines import IndexThreshold, PixelTrees, normalised_difference

__all__ = ["IndexThreshold", "PixelTrees", "normalised_difference"]
