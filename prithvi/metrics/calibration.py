"""Whether a model is right as often as it says it is (Guo et al. 2017, On Calibration of Modern Neural Networks)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from prithvi.contract import IGNORE
from prithvi.errors import DatasetError


class Reliability(NamedTuple):  # which torchmetrics can gather; a frozen dataclass it cannot
    """What a reliability diagram shows; one row a bin, from confidence 0 to 1."""

    confidence: Tensor
    """(bins,) mean confidence of the pixels in a bin; NaN in an empty one."""
    accuracy: Tensor
    """(bins,) share of them that is right."""
    pixels: Tensor
    """(bins,) how many they are."""

    @property
    def error(self) -> Tensor:
        """Expected calibration error: mean distance of confidence and accuracy, by pixels."""
        gap = (self.confidence - self.accuracy).abs().nan_to_num()
        return (gap * self.pixels).sum() / self.pixels.sum()


class CalibrationMetric(Metric):
    """Collects scores; `compute` gives a `Reliability` over bins of equal width.

    Args:
        bins: how many.

    """

    full_state_update = False
    totals: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        self.bins = bins
        self.add_state("totals", torch.zeros(3, bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, label: Tensor) -> None:
        """Adds (B, classes, Y, X) scores before the softmax and (B, Y, X) labels with `IGNORE`."""
        confidence, predicted = scores.float().softmax(dim=1).max(dim=1)
        counted = label != IGNORE
        confidence, right = confidence[counted].double(), (predicted == label)[counted].double()
        # A confidence on an edge belongs to the bin below, as in the paper.
        place = ((confidence * self.bins).ceil().long() - 1).clamp(0, self.bins - 1)
        for row, values in enumerate((torch.ones_like(confidence), confidence, right)):
            self.totals[row].index_add_(0, place, values)

    def compute(self) -> Reliability:
        """The diagram's rows so far."""
        pixels, confidence, right = self.totals
        return Reliability(confidence / pixels, right / pixels, pixels)


def fit_temperature(scores: Tensor, label: Tensor) -> float:
    """The number that scores are divided by, so that their softmax is as often right as it says.

    The one of the smallest cross-entropy; it changes no class.

    Args:
        scores: (N, classes) scores before the softmax, blended as mapping blends them, of pixels that training did not
            see.
        label: (N,) class numbers; those with `IGNORE` do not count.

    Raises:
        DatasetError: no labelled pixel.

    """
    counted = label != IGNORE
    scores, label = scores[counted].double(), label[counted]
    if not len(label):
        raise DatasetError("a temperature is fitted on labelled pixels, and there is none.")
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(scores / log_temperature.exp(), label)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    # Scores without one mistake have no smallest cross-entropy: the temperature stays within what is sensible.
    return float(log_temperature.detach().exp().clamp(0.05, 20.0))
