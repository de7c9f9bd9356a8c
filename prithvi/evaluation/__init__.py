"""What a model is measured against."""

from prithvi.evaluation.baselines import IndexThreshold

__all__ = ["IndexThreshold"]
