"""Fine-tuning for semantic segmentation; floods, burn scars and crops are presets of it (configs/)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from prithvi.errors import ConfigError, one_of
from prithvi.metrics import IGNORE, CalibrationMetric, SegmentationMetrics, fit_temperature
from prithvi.modelio.predictor import Predictor, class_entries
from prithvi.tasks.finetuning import FineTuningTask
from prithvi.tasks.losses import SEGMENTATION_LOSSES


class SegmentationTask(FineTuningTask):
    """Semantic segmentation.

    Args:
        classes: class names in the order of the logits; `prithvi fit` takes them from the data, as well as `colors`
            and `values`.
        colors: class colours (RRGGBB), for maps.
        values: value of each class in label files and maps; default 0, 1, 2, ...
        loss: `ce` (cross-entropy), `focal`, `dice`, `jaccard` or `lovasz`, or several joined by +, such as ce+dice.
        class_weights: weight of each class in the loss.
        options: the options of `FineTuningTask`.

    Raises:
        ConfigError: incompatible options.

    """

    takes_baselines: ClassVar[bool] = True

    def __init__(
        self,
        classes: list[str] | None = None,
        colors: list[str] | None = None,
        values: list[int] | None = None,
        loss: str = "ce",
        class_weights: list[float] | None = None,
        **options: Any,
    ) -> None:
        if not classes or options.get("contract") is None:
            raise ConfigError(
                f"{type(self).__name__} needs contract= and classes=: what the input looks like, and what to find."
            )
        for what, given in (("class weights", class_weights), ("colours", colors)):
            if given is not None and len(given) != len(classes):
                raise ConfigError(f"{len(given)} {what} for {len(classes)} classes ({', '.join(classes)}).")
        for name in loss.split("+"):
            one_of(name, SEGMENTATION_LOSSES, "there is no loss")
        super().__init__(outputs=len(classes), **options)
        self.losses = loss.split("+")
        self.entries = class_entries(classes, colors or (), values)
        self.classes = list(classes)
        weights = torch.tensor(class_weights if class_weights is not None else [1.0] * len(classes))
        self.class_weights: Tensor
        self.register_buffer("class_weights", weights, persistent=False)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(len(classes) + 1, dtype=torch.bool), persistent=False)
        self.metrics = nn.ModuleDict({part: SegmentationMetrics(self.classes) for part in ("val_", "test_")})
        self.calibration = nn.ModuleDict({part: CalibrationMetric() for part in ("val_", "test_")})
        self.temperature = 1.0

    def loss(self, scores: Tensor, label: Tensor) -> Tensor:
        """Sum of the chosen losses, each a mean over labelled pixels; 0 (with a gradient) if none is labelled.

        Args:
            scores: (B, classes, Y, X) logits.
            label: (B, Y, X) class numbers, `IGNORE` where unlabelled.

        """
        scores = scores.float()
        parts = [SEGMENTATION_LOSSES[name](scores, label, self.class_weights) for name in self.losses]
        return torch.stack(parts).sum()

    @staticmethod
    def label_of(batch: Mapping[str, Any]) -> Tensor:
        """(B, Y, X) labels, `IGNORE` where unlabelled or the image has no data at any date."""
        label: Tensor = batch["label"].long()
        return torch.where(batch["valid"].any(dim=1), label, IGNORE) if "valid" in batch else label

    def loss_of(self, batch: Mapping[str, Any], scores: Tensor) -> Tensor:
        """The loss of a batch, from (B, classes, Y, X) logits `scores`."""
        return self.loss(scores, self.label_of(batch))

    def labelled(self, batch: Mapping[str, Any]) -> Tensor:
        """(B, Y, X) bool, True at pixels with a class and data."""
        return self.label_of(batch) != IGNORE

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        label, number = self.label_of(batch), len(self.classes)
        self.seen.index_fill_(0, torch.where(label == IGNORE, number, label).flatten(), True)
        return super().training_step(batch, batch_idx)

    def on_train_end(self) -> None:
        """Warns of classes without any training pixel, which the model cannot predict."""
        unseen = [name for name, seen in zip(self.classes, self.seen.tolist(), strict=False) if not seen]
        if unseen:
            warnings.warn(
                f"no pixel of the training chips was {' or '.join(unseen)}, so that the model cannot know it.",
                stacklevel=1,
            )

    def evaluate(self, batch: Mapping[str, Any], scores: Tensor, part: str) -> None:
        """Adds (B, classes, Y, X) logits of a batch to the metrics of a part."""
        label = self.label_of(batch)
        self.metric(part).update(scores.argmax(dim=1), label)
        self.calibration[f"{part}_"].update(scores, label)  # type: ignore[operator]

    def report(self, part: str) -> dict[str, Tensor]:
        """IoU, F1 and accuracy of each class and their means, and the expected calibration error (ECE)."""
        calibration = self.calibration[f"{part}_"]
        assert isinstance(calibration, CalibrationMetric)
        self.reliability = calibration.compute()
        calibration.reset()
        return {**super().report(part), "ECE": self.reliability.error}

    def adopt(self, fitted: Predictor) -> None:
        """Replaces the model by a fitted one, as `FineTuningTask.adopt` does, with its temperature."""
        super().adopt(fitted)
        self.temperature = fitted.temperature

    @torch.no_grad()
    def calibrate(self, batches: Iterable[dict[str, Any]], pixels: int = 4096) -> float:
        """Fits the temperature of the confidences on logits of whole images, blended as in mapping.

        Args:
            batches: batches of chips that were not trained on.
            pixels: approximate number of labelled pixels per batch to use, evenly spaced.

        Returns:
            The temperature, which `fitted` records; 1 if no pixel is labelled.

        """
        # Logits go to the CPU, a few thousand pixels a batch, so that memory is bounded however many batches there are.
        training, found = self.training, []
        self.eval()
        for batch in batches:
            here = {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            scores, label = self(here).float().movedim(1, -1), self.label_of(here)
            counted = label != IGNORE
            step = max(1, int(counted.sum()) // pixels)
            found.append((scores[counted][::step].cpu(), label[counted][::step].cpu()))
        self.train(training)
        scores, label = (torch.cat(parts) for parts in zip(*found, strict=True))
        self.temperature = fit_temperature(scores, label) if len(label) else 1.0
        return self.temperature

    def predicts(self) -> dict[str, Any]:
        """Classes and temperature of the fitted `Predictor`."""
        return {"classes": self.entries, "temperature": self.temperature}
