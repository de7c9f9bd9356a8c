"""Fine-tuning for semantic segmentation; floods, burn scars and crops are presets of it (configs/)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from prithvi.errors import ConfigError, DatasetError, one_of
from prithvi.metrics import IGNORE, CalibrationMetric, SegmentationMetrics, TemperatureMetric
from prithvi.modelio.loader import labels_of
from prithvi.modelio.predictor import Predictor, class_entries
from prithvi.models.branch_heads import BranchClassifier
from prithvi.tasks.finetuning import FineTuningTask
from prithvi.tasks.losses import SEGMENTATION_LOSSES
from prithvi.tasks.weight_averages import averages_of


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
        self._start_from_labels(self.hparams.get("init"), classes)
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
        self.scaling = TemperatureMetric()
        self.calibrating = False
        """Whether a validation outside a fit fits the temperature, too."""
        # Saved with the weights that it was fitted for, so that a checkpoint's confidences are calibrated, too.
        self.temperature_: Tensor
        self.register_buffer("temperature_", torch.ones(()))

    def _start_from_labels(self, init: str | None, classes: list[str]) -> None:
        """Lets classes of a head with a branch begin as the labels of the same names that `init` learned."""
        head = self.model.head
        learned = labels_of(init) if init is not None and isinstance(head, BranchClassifier) else None
        if learned is not None:
            names, weight, bias = learned
            head.start_from(weight, bias, names, classes)  # type: ignore[operator]

    @property
    def temperature(self) -> float:
        """What scores are divided by before their softmax is read as confidence; 1 until it is fitted.

        Every validation of a fit fits it to the weights of that moment, and checkpoints keep it beside these.
        """
        return round(float(self.temperature_), 4)

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.temperature_.fill_(value)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """See `torch.nn.Module`; a checkpoint of an older version has no temperature, and is not calibrated."""
        return super().load_state_dict({"temperature_": torch.ones(()), **state_dict}, strict, assign)

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

    def _refuse_unknown(self, label: Tensor, batch_idx: int) -> None:
        """Raises a DatasetError for labels that are no class, which torch would tell of as an index out of range."""
        if label.device.type != "cpu" and batch_idx > 0:  # each look waits for the device
            return
        unknown = torch.unique(label[(label != IGNORE) & ((label < 0) | (label >= len(self.classes)))])[:5].tolist()
        if unknown:
            raise DatasetError(
                f"the labels of a batch hold {', '.join(map(str, unknown))}, and the classes are 0 to "
                f"{len(self.classes) - 1}: say -1 where nothing is labelled (label[label == {unknown[-1]}] = -1, in "
                "signed integers)."
            )

    def _evaluate(self, batch: dict[str, Any], batch_idx: int, part: str, loader: int) -> None:
        self._refuse_unknown(self.label_of(batch), batch_idx)
        super()._evaluate(batch, batch_idx, part, loader)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        label, number = self.label_of(batch), len(self.classes)
        self._refuse_unknown(label, batch_idx)
        self.seen.index_fill_(0, torch.where(label == IGNORE, number, label).flatten(), True)
        return super().training_step(batch, batch_idx)

    def on_train_end(self) -> None:
        """Warns of classes without any training pixel, which the model cannot predict."""
        unseen = [name for name, seen in zip(self.classes, self.seen[:-1].tolist(), strict=True) if not seen]
        if unseen:
            warnings.warn(
                f"no pixel of the training chips was {' or '.join(unseen)}, so that the model cannot know it.",
                stacklevel=1,
            )

    def evaluate(self, batch: Mapping[str, Any], scores: Tensor, part: str) -> None:
        """Adds (B, classes, Y, X) logits of a batch to the metrics of a part.

        Validation fits the temperature, so that its confidences are those before it, and those of a test after it.
        """
        label = self.label_of(batch)
        self.metric(part).update(scores.argmax(dim=1), label)
        if part == "val":
            self.scaling.update(scores, label)
        else:
            scores = scores / self.temperature
        self.calibration[f"{part}_"].update(scores, label)  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        fitting = self.trainer.state.fn == "fit" or self.calibrating
        if fitting and not self.trainer.sanity_checking:
            self.temperature = float(self.scaling.compute())
            self._keep_with_averages()
        self.scaling.reset()

    def _keep_with_averages(self) -> None:
        """Gives the temperature to averages of the weights, which validation saw in this task's place."""
        # Lightning's WeightAveraging has put the trained weights back by now, and saves the averages and their buffers.
        for average in averages_of(self):
            assert isinstance(average, SegmentationTask)
            average.temperature = self.temperature

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
        """Fits the temperature as a validation does; for models that were trained elsewhere (`adopt`).

        Args:
            batches: batches of chips that were not trained on.
            pixels: number of labelled pixels of a batch to use, about, evenly spaced.

        Returns:
            The temperature, which `fitted` records; 1 if no pixel is labelled, or none of them is predicted wrongly.

        """
        training, scaling = self.training, TemperatureMetric(pixels).to(self.device)
        self.eval()
        for batch in batches:
            here = {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            scaling.update(self(here), self.label_of(here))
        self.train(training)
        self.temperature = float(scaling.compute())
        return self.temperature

    def predicts(self) -> dict[str, Any]:
        """Classes and temperature of the fitted `Predictor`."""
        return {"classes": self.entries, "temperature": self.temperature}
