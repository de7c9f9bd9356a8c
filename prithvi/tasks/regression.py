"""Fine-tuning for pixel-wise regression of a quantity, such as biomass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.contract import Quantity
from prithvi.errors import ConfigError, one_of
from prithvi.metrics import RegressionMetrics
from prithvi.modelio.predictor import Predictor
from prithvi.tasks.finetuning import FineTuningTask

_LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}


class RegressionTask(FineTuningTask):
    """Pixel-wise regression. Outputs of the model and losses are in standardised units, metrics in the quantity's unit.

    Args:
        quantity: the predicted quantity, as from `Quantity.to_dict`; `prithvi fit` takes it from the data.
        loss: `mse`, `l1` or `huber`.
        options: the options of `FineTuningTask`.

    Raises:
        ConfigError: incompatible options.

    """

    not_its_own: ClassVar[tuple[str, ...]] = ("classes", "colors", "values")

    def __init__(self, quantity: dict[str, Any] | None = None, loss: str = "mse", **options: Any) -> None:
        if quantity is None:
            raise ConfigError("RegressionTask needs quantity=: name, mean and std of what is predicted.")
        super().__init__(outputs=1, **options)
        self.quantity = Quantity(**quantity)
        self.distance = _LOSSES[one_of(loss, _LOSSES, "there is no loss")]
        self.metrics = nn.ModuleDict({part: RegressionMetrics() for part in ("val_", "test_")})

    @staticmethod
    def target_of(batch: Mapping[str, Any]) -> Tensor:
        """(B, Y, X) targets in the quantity's unit, NaN where there is none or the image has no data at any date."""
        target: Tensor = batch["target"]
        return torch.where(batch["valid"].any(dim=1), target, torch.nan) if "valid" in batch else target

    def loss_of(self, batch: Mapping[str, Any], scores: Tensor) -> Tensor:
        """Mean loss over pixels with a target, in standardised units; 0 (with a gradient) if there are none."""
        target = (self.target_of(batch) - self.quantity.mean) / self.quantity.std
        there = target.isfinite()
        error: Tensor = self.distance(scores[:, 0].float(), torch.where(there, target, 0.0), reduction="none")
        return (error * there).sum() / there.sum().clamp(min=1)

    def predicted(self, scores: Tensor) -> Tensor:
        """(B, Y, X) values in the quantity's unit from (B, 1, Y, X) standardised outputs."""
        return scores[:, 0].float() * self.quantity.std + self.quantity.mean

    def labelled(self, batch: Mapping[str, Any]) -> Tensor:
        """(B, Y, X) bool, True at pixels with a target and data."""
        return self.target_of(batch).isfinite()

    def evaluate(self, batch: Mapping[str, Any], scores: Tensor, part: str) -> None:
        """Adds (B, 1, Y, X) scores to a part's RMSE, MAE and bias in the quantity's unit, and R2."""
        self.metric(part).update(self.predicted(scores), self.target_of(batch))

    def adopt(self, fitted: Predictor) -> None:
        """Replaces the model by a fitted one, as `FineTuningTask.adopt` does, with the statistics of its quantity.

        Raises:
            ConfigError: bands, scale, quantity or unit of the model differ from the task's.

        """
        super().adopt(fitted)
        its, own = fitted.quantity, self.quantity
        assert its is not None  # a model of another task was refused
        if its.unit and own.unit and its.unit != own.unit:
            raise ConfigError(
                f"the model predicts {its}, and the data have {own}: bring the labels to its unit, and say so in the "
                "quantity of data.folder."
            )
        self.quantity = its

    def predicts(self) -> dict[str, Any]:
        """Task and quantity of the fitted `Predictor`."""
        return {"task": "regression", "quantity": self.quantity}
