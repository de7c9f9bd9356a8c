"""Segmentation losses, averaged over labelled pixels.

All take logits (B, classes, Y, X) in float32 (the argument `scores`), labels (B, Y, X) with `IGNORE` where unlabelled,
and class weights (classes,).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from prithvi.contract import IGNORE


def cross_entropy(scores: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy with class weights."""
    total = F.cross_entropy(scores, label, weights, ignore_index=IGNORE, reduction="sum")
    return total / _counted(label, weights)


def focal(scores: Tensor, label: Tensor, weights: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017): cross-entropy scaled by (1 - p)^gamma, which down-weights easy pixels."""
    surprise = F.cross_entropy(scores, label, ignore_index=IGNORE, reduction="none")
    weight = weights[label.clamp(min=0)] * (label != IGNORE)
    return (weight * (1 - torch.exp(-surprise)) ** gamma * surprise).sum() / _counted(label, weights)


def dice(scores: Tensor, label: Tensor, weights: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice coefficient over the batch, a weighted mean over classes (Milletari et al. 2016).

    The denominator has squares and smoothing is 1, as in the published burn-scar configuration.
    """
    found, true = _shares(scores, label)
    both = (found * true).sum(dim=(0, 2, 3))
    either = (found**2).sum(dim=(0, 2, 3)) + (true**2).sum(dim=(0, 2, 3))
    overlap = (2 * both + smooth) / (either + smooth)
    some = (label != IGNORE).any().to(scores.dtype)  # nothing labelled: 0
    return some * (weights * (1 - overlap)).sum() / weights.sum()


def jaccard(scores: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """1 less the soft intersection over union over the batch, a weighted mean over classes; absent ones add 0."""
    found, true = _shares(scores, label)
    both, size = (found * true).sum(dim=(0, 2, 3)), true.sum(dim=(0, 2, 3))
    either = found.sum(dim=(0, 2, 3)) + size - both
    overlap = both / either.clamp(min=torch.finfo(torch.float32).eps)
    return (weights * (size > 0) * (1 - overlap)).sum() / weights.sum()


def lovasz(scores: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """Lovász-softmax over the batch (Berman et al. 2018), a weighted mean over the classes that are present."""
    # The Lovász extension is a dot product of the errors, sorted in decreasing order, with the increments of the
    # Jaccard loss as pixels are added in that order.
    keep = label != IGNORE
    shares, label = scores.softmax(dim=1).movedim(1, -1)[keep], label[keep]
    total, weight = scores.sum() * 0, scores.new_zeros(())
    for number in torch.unique(label).tolist():
        true = (label == number).to(scores.dtype)
        errors, order = (true - shares[:, number]).abs().sort(descending=True)
        true = true[order]
        overlap = 1 - (true.sum() - true.cumsum(0)) / (true.sum() + (1 - true).cumsum(0))
        total = total + weights[number] * (errors * torch.diff(overlap, prepend=overlap.new_zeros(1))).sum()
        weight = weight + weights[number]
    return total / weight.clamp(min=torch.finfo(torch.float32).tiny)


def _shares(scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """(B, classes, Y, X) predicted and true share of each class, 0 where nothing is labelled."""
    labelled = (label != IGNORE).unsqueeze(1)
    true = F.one_hot(label.clamp(min=0), scores.shape[1]).movedim(-1, 1)
    return scores.softmax(dim=1) * labelled, true * labelled


def _counted(label: Tensor, weights: Tensor) -> Tensor:
    """Sum of the class weights of labelled pixels, at least a tiny positive number."""
    weight = weights[label.clamp(min=0)] * (label != IGNORE)
    return weight.sum().clamp(min=torch.finfo(torch.float32).tiny)


SEGMENTATION_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ce": cross_entropy,
    "focal": focal,
    "dice": dice,
    "jaccard": jaccard,
    "lovasz": lovasz,
}
"""Losses by name."""
