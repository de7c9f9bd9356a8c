"""Per-class and mean IoU, F1 and accuracy from one confusion matrix over all batches and processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from prithvi.contract import IGNORE
from prithvi.errors import ConfigError


class SegmentationMetrics(MulticlassConfusionMatrix):
    """Accumulates a confusion matrix; `compute` returns all metrics by name.

    A class that occurs in neither predictions nor labels has IoU NaN and is excluded from the means.

    Args:
        classes: class names, in the order of the logits.

    """

    def __init__(self, classes: Sequence[str], **options: Any) -> None:
        if len(classes) < 2:
            raise ConfigError(f"a segmentation has at least two classes; found {list(classes)}.")
        super().__init__(num_classes=len(classes), ignore_index=IGNORE, **options)
        self.classes = list(classes)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """`IoU_<class>`, `F1_<class>`, `accuracy_<class>` (recall), `mIoU`, `mF1`, `mAcc` and `aAcc` (all pixels)."""
        matrix = super().compute().double()
        return figures(matrix, self.classes)


def figures(matrix: Tensor, classes: Sequence[str]) -> dict[str, Tensor]:
    """All metrics of a (K, K) confusion matrix, with true classes in rows and predicted classes in columns."""
    hit = matrix.diagonal()
    true, predicted = matrix.sum(dim=1), matrix.sum(dim=0)
    iou = hit / (true + predicted - hit)  # 0 / 0 is NaN: the class does not occur
    f1 = 2 * hit / (true + predicted)
    recall = hit / true
    result: dict[str, Tensor] = {}
    for index, name in enumerate(classes):
        result |= {f"IoU_{name}": iou[index], f"F1_{name}": f1[index], f"accuracy_{name}": recall[index]}
    return result | {
        "mIoU": torch.nanmean(iou),
        "mF1": torch.nanmean(f1),
        "mAcc": torch.nanmean(recall),
        "aAcc": hit.sum() / matrix.sum(),
    }
