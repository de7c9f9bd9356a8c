"""Fine-tuning for scene classification: one class per chip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from prithvi.errors import ConfigError
from prithvi.tasks.segmentation import SegmentationTask


class ClassificationTask(SegmentationTask):
    """Scene classification. The logits of a chip larger than the window are the mean over its windows.

    Args:
        head: a head with one output vector per image.
        loss: `ce`, `focal` or `ce+focal`.
        options: the options of `SegmentationTask` and `FineTuningTask`.

    Raises:
        ConfigError: incompatible options.

    """

    takes_baselines: ClassVar[bool] = False

    def __init__(self, head: str = "pooled", loss: str = "ce", **options: Any) -> None:
        if not set(loss.split("+")) <= {"ce", "focal"}:
            raise ConfigError(f"a class of the whole chip has the losses ce and focal; found {loss!r}.")
        super().__init__(head=head, loss=loss, **options)

    @staticmethod
    def label_of(batch: Mapping[str, Any]) -> Tensor:
        """(B,) class numbers, `prithvi.contract.IGNORE` for unlabelled chips."""
        label: Tensor = batch["label"].long()
        return label

    def report(self, part: str) -> dict[str, Tensor]:
        """F1 and accuracy of each class and their means, and the expected calibration error (ECE)."""
        return {name: value for name, value in super().report(part).items() if "IoU" not in name}

    def predicts(self) -> dict[str, Any]:
        """Task, classes and temperature of the fitted `Predictor`."""
        return {**super().predicts(), "task": "classification"}
