"""Calibration of confidences (Guo et al. 2017, On Calibration of Modern Neural Networks)."""

from __future__ import annotations

import math
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


class TemperatureMetric(Metric):
    """Temperature scaling: the divisor of logits at which their cross-entropy is least. It changes no predicted class.

    The cross-entropy is summed up at temperatures from 0.05 to 20, and a parabola through the least three of them gives
    the result. So batches may come one by one and from several devices, and none of them is kept.

    Args:
        pixels: number of labelled pixels of a batch to use, about, evenly spaced.

    """

    full_state_update = False
    losses: Tensor
    pixels: Tensor
    wrong: Tensor

    def __init__(self, pixels: int = 4096) -> None:
        super().__init__()
        self.most = pixels
        for name, size in (("losses", len(_LOG_TEMPERATURES)), ("pixels", 1), ("wrong", 1)):
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, label: Tensor) -> None:
        """Adds (B, classes, ...) logits of pixels that were not trained on and (B, ...) labels, `IGNORE` where none."""
        counted = label != IGNORE
        step = max(1, int(counted.sum()) // self.most)
        scores, label = scores.movedim(1, -1)[counted][::step].double(), label[counted][::step]
        for number, log_temperature in enumerate(_LOG_TEMPERATURES):
            scaled = scores / math.exp(log_temperature)
            self.losses[number] += torch.nn.functional.cross_entropy(scaled, label, reduction="sum")
        self.pixels += len(label)
        self.wrong += (scores.argmax(dim=1) != label).sum()

    def compute(self) -> Tensor:
        """The temperature; 1 where no pixel is labelled, or none of them is predicted wrongly.

        Without a mistake the cross-entropy has no minimum: it falls until every confidence is 1, which such pixels do
        not show.
        """
        if not self.wrong:
            return torch.ones((), dtype=torch.float64)
        best = int(self.losses.argmin())
        position = _LOG_TEMPERATURES[best]
        if 0 < best < len(_LOG_TEMPERATURES) - 1:
            before, least, after = self.losses[best - 1 : best + 2].tolist()
            position += 0.5 * (before - after) / (before - 2 * least + after) * _STEP
        return torch.tensor(math.exp(position), dtype=torch.float64)


_STEP = 2 * math.log(20) / 60
_LOG_TEMPERATURES = tuple(_STEP * number for number in range(-30, 31))


def fit_temperature(scores: Tensor, label: Tensor) -> float:
    """The temperature of some pixels, see `TemperatureMetric`.

    Args:
        scores: (N, classes) logits, blended as in mapping, of pixels that were not trained on.
        label: (N,) class numbers; pixels with `IGNORE` do not count.

    Raises:
        DatasetError: there is no labelled pixel.

    """
    metric = TemperatureMetric(pixels=len(label) or 1)
    metric.update(scores, label)
    if not metric.pixels:
        raise DatasetError("a temperature is fitted on labelled pixels, and there is none.")
    return float(metric.compute())
