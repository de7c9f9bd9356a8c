"""Regression metrics over pixels with a target."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class RegressionMetrics(Metric):
    """Accumulates predictions; `compute` returns all metrics by name, NaN without any pixel."""

    full_state_update = False
    totals: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Number of pixels; sums of error, |error| and error^2; mean of the targets and sum of their squared deviations.
        self.add_state("totals", torch.zeros(6, dtype=torch.float64), dist_reduce_fx=_joined)

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Adds predictions and targets of the same shape and unit; targets of NaN do not count."""
        there = target.isfinite()
        truth = target[there].double()
        error = predicted[there].double() - truth
        if not len(truth):
            return
        mean = truth.mean()
        found = [truth.new_tensor(len(truth)), error.sum(), error.abs().sum(), (error**2).sum(), mean]
        here = torch.stack([*found, ((truth - mean) ** 2).sum()])
        self.totals = _joined(torch.stack([self.totals, here.to(self.totals)]))

    def compute(self) -> dict[str, Tensor]:
        """`RMSE`, `MAE` and `bias` (predicted - true) in the unit of the data, and `R2`."""
        count, error, absolute, squares, _, spread = self.totals
        return {
            "RMSE": (squares / count).sqrt(), "MAE": absolute / count, "bias": error / count,
            "R2": 1 - squares / spread,
        }  # fmt: skip


def _joined(totals: Tensor) -> Tensor:
    """Combines the (parts, 6) totals of several parts (Chan et al. 1979), which avoids cancellation in the variance."""
    count = totals[:, 0].sum()
    sums = totals[:, :4].sum(dim=0)
    mean = (totals[:, 0] * totals[:, 4]).sum() / count.clamp(min=1)
    spread = totals[:, 5].sum() + (totals[:, 0] * (totals[:, 4] - mean) ** 2).sum()
    return torch.cat([sums, mean[None], spread[None]])
