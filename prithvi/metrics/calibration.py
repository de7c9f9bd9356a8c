"""Calibration of confidences (Guo et al. 2017, On Calibration of Modern Neural Networks)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from prithvi.contract import IGNORE
from prithvi.errors import DatasetError


class Reliability(NamedTuple):  # torchmetrics can gather a NamedTuple, but not a frozen dataclass
    """The data of a reliability diagram, one entry per bin of confidence from 0 to 1."""

    confidence: Tensor
    """(bins,) mean confidence of the pixels in each bin; NaN if it is empty."""
    accuracy: Tensor
    """(bins,) fraction of these pixels that are predicted correctly."""
    pixels: Tensor
    """(bins,) number of these pixels."""

    @property
    def error(self) -> Tensor:
        """Expected calibration error (ECE): mean of |confidence - accuracy| over pixels."""
        gap = (self.confidence - self.accuracy).abs().nan_to_num()
        return (gap * self.pixels).sum() / self.pixels.sum()


class CalibrationMetric(Metric):
    """Accumulates logits and labels; `compute` returns a `Reliability` over bins of equal width.

    Args:
        bins: number of bins.

    """

    full_state_update = False
    totals: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        self.bins = bins
        self.add_state("totals", torch.zeros(3, bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, label: Tensor) -> None:
        """Adds (B, classes, Y, X) logits `scores` and (B, Y, X) labels, `IGNORE` where unlabelled."""
        confidence, predicted = scores.float().softmax(dim=1).max(dim=1)
        counted = label != IGNORE
        confidence, right = confidence[counted].double(), (predicted == label)[counted].double()
        # Bins are open below and closed above, as in the paper: a confidence on an edge belongs to the lower bin.
        place = ((confidence * self.bins).ceil().long() - 1).clamp(0, self.bins - 1)
        for row, values in enumerate((torch.ones_like(confidence), confidence, right)):
            self.totals[row].index_add_(0, place, values)

    def compute(self) -> Reliability:
        """The reliability diagram of all pixels so far."""
        pixels, confidence, right = self.totals
        return Reliability(confidence / pixels, right / pixels, pixels)


def fit_temperature(scores: Tensor, label: Tensor) -> float:
    """Temperature scaling: the divisor of logits that minimises the cross-entropy. It changes no predicted class.

    Args:
        scores: (N, classes) logits, blended as in mapping, of pixels that were not trained on.
        label: (N,) class numbers; pixels with `IGNORE` do not count.

    Raises:
        DatasetError: there is no labelled pixel.

    """
    counted = label != IGNORE
    scores, label = scores[counted].double(), label[counted]
    if not len(label):
        raise DatasetError("a temperature is fitted on labelled pixels, and there is none.")
    # The logarithm keeps the temperature positive, and the problem has a single variable, so LBFGS converges fast.
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(scores / log_temperature.exp(), label)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    # Without any error, cross-entropy has no minimum (the temperature tends to 0), so the result is bounded.
    return float(log_temperature.detach().exp().clamp(0.05, 20.0))
