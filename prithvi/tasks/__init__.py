"""Lightning modules of all tasks: models, losses and metrics."""

from prithvi.tasks.baseline_fit import Trainer, fit_head
from prithvi.tasks.classification import ClassificationTask
from prithvi.tasks.distil import DistilTask
from prithvi.tasks.gap_fill_task import GapFillTask
from prithvi.tasks.monitoring import LinearProbe, LossCurve, Reconstructions, Throughput
from prithvi.tasks.pretrain import PretrainTask
from prithvi.tasks.regression import RegressionTask
from prithvi.tasks.segmentation import SegmentationTask

__all__ = [
    "ClassificationTask",
    "DistilTask",
    "GapFillTask",
    "LinearProbe",
    "LossCurve",
    "PretrainTask",
    "Reconstructions",
    "RegressionTask",
    "SegmentationTask",
    "Throughput",
    "Trainer",
    "fit_head",
]
