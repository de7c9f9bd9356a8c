"""Metrics over all labelled pixels, each counted once."""

from prithvi.contract import IGNORE
from prithvi.metrics.calibration import CalibrationMetric, Reliability, TemperatureMetric, fit_temperature
from prithvi.metrics.gap_metrics import GapMetrics, ssim_map
from prithvi.metrics.regression_metrics import RegressionMetrics
from prithvi.metrics.segmentation_metrics import SegmentationMetrics

__all__ = [
    "IGNORE", "CalibrationMetric", "GapMetrics", "RegressionMetrics", "Reliability", "SegmentationMetrics",
    "TemperatureMetric", "fit_temperature", "ssim_map",
]  # fmt: skip
