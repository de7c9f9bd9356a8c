"""Fine-tuning for one class of a whole chip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from prithvi.fitted import FittedModel
from prithvi.tasks.segmentation import SegmentationTask


class ClassificationTask(SegmentationTask):
    """A class for each chip. A chip larger than a window has the mean of its windows' scores.

    Args:
        head: one that answers for the image as a whole.
        options: those of `SegmentationTask` and `FineTuningTask`; `loss` is `ce` or `focal`.

    """

    def __init__(self, head: str = "pooled", **options: Any) -> None:
        super().__init__(head=head, **options)

    @staticmethod
    def label_of(batch: Mapping[str, Any]) -> Tensor:
        """(B,) class numbers, `prithvi.contract.IGNORE` for a chip without one."""
        label: Tensor = batch["label"].long()
        return label

    def report(self, part: str) -> dict[str, Tensor]:
        """F1 and accuracy of each class and their means, and the expected calibration error (ECE)."""
        return {name: value for name, value in super().report(part).items() if "IoU" not in name}

    def fitted(self, **provenance: Any) -> FittedModel:
        """The trained model with everything that using it needs; `prithvi.modelfolder.save` keeps it."""
        return dataclasses.replace(super().fitted(**provenance), task="classification")
