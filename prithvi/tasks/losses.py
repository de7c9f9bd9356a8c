"""Losses of a class at every pixel, means over what is labelled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from prithvi.contract import IGNORE


def cross_entropy(scores: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy."""
    total = F.cross_entropy(scores, label, weights, ignore_index=IGNORE, reduction="sum")
    return total / _counted(label, weights)


def focal(scores: Tensor, label: Tensor, weights: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy of which a pixel counts less the surer it is right (Lin et al. 2017), gamma 2."""
    surprise = F.cross_entropy(scores, label, ignore_index=IGNORE, reduction="none")
    weight = weights[label.clamp(min=0)] * (label != IGNORE)
    return (weight * (1 - torch.exp(-surprise)) ** gamma * surprise).sum() / _counted(label, weights)


def dice(scores: Tensor, label: Tensor, weights: Tensor, smooth: float = 1.0) -> Tensor:
    """1 less the soft Dice overlap over the batch, a weighted mean over classes (Milletari et al. 2016).

    Squares in the denominator and a smoothing of 1, as in the published burn-scar configuration.
    """
    labelled = (label != IGNORE).unsqueeze(1)
    found = scores.softmax(dim=1) * labelled
    true = F.one_hot(label.clamp(min=0), scores.shape[1]).movedim(-1, 1) * labelled
    both = (found * true).sum(dim=(0, 2, 3))
    either = (found**2).sum(dim=(0, 2, 3)) + (true**2).sum(dim=(0, 2, 3))
    overlap = (2 * both + smooth) / (either + smooth)
    some = labelled.any().to(scores.dtype)  # nothing labelled: 0
    return some * (weights * (1 - overlap)).sum() / weights.sum()


def _counted(label: Tensor, weights: Tensor) -> Tensor:
    """Summed weight of the labelled pixels, above 0."""
    weight = weights[label.clamp(min=0)] * (label != IGNORE)
    return weight.sum().clamp(min=torch.finfo(torch.float32).tiny)


SEGMENTATION_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ce": cross_entropy,
    "focal": focal,
    "dice": dice,
}
"""Name to a function of float32 scores (B, classes, Y, X), labels (B, Y, X) with `IGNORE`, and class weights."""
