"""Linear probe of a frozen encoder on a labelled dataset: ridge regression on patch features, in closed form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from prithvi.contract import IGNORE
from prithvi.metrics import SegmentationMetrics
from prithvi.models import PrithviEncoder, Standardise


@torch.no_grad()
def linear_probe(
    encoder: PrithviEncoder,
    standardise: Standardise,
    train: Iterable[dict[str, Any]],
    test: Iterable[dict[str, Any]],
    classes: list[str],
    penalty: float = 1e-2,
) -> dict[str, float]:
    """Fits a linear classifier of patches and evaluates it per pixel.

    Each patch is a sample: its feature is its token, averaged over dates, and its target the fraction of each class
    among its labelled pixels. All classes have equal weight. A pixel is predicted to be of its patch's class.

    Args:
        encoder: the encoder, which is not changed.
        standardise: standardisation of its input.
        train: training batches with `image`, `valid` and `label` (B, Y, X).
        test: test batches.
        classes: class names, in the order of the labels.
        penalty: ridge penalty, relative to the mean diagonal of the Gram matrix of the standardised features.

    Returns:
        All metrics of `SegmentationMetrics`, such as `mIoU` and `mAcc` (means over classes).

    """
    # Gram matrix and cross products are summed over batches in double precision, and one linear solve gives the
    # weights. The constant feature appended to x is the intercept.
    training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    gram = cross = torch.zeros((), dtype=torch.float64, device=device)
    pairs = [(_features(encoder, standardise, batch, device), batch["label"].to(device)) for batch in train]
    spread, mean = torch.std_mean(torch.cat([features.flatten(0, 2) for features, _ in pairs]), dim=0)
    scale = spread + 1e-6
    shares = [_shares(label, len(classes), features.shape[1:3]) for features, label in pairs]
    sizes = torch.stack([share.flatten(0, 2).sum(dim=0) for share in shares]).sum(dim=0).clamp(min=1)
    for (features, _), share in zip(pairs, shares, strict=True):
        x = torch.nn.functional.pad((features - mean).div(scale).flatten(0, 2), (0, 1), value=1.0).double()
        y = share.flatten(0, 2).double()
        # Weighting each patch by 1 / (number of pixels of its class) gives all classes the same total weight.
        weight = (y / sizes).sum(dim=1, keepdim=True)
        target = y / y.sum(dim=1, keepdim=True).clamp(min=1e-9)
        gram, cross = gram + x.T @ (x * weight), cross + x.T @ (target * weight)
    ridge = penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=device)
    solved = torch.linalg.solve(gram + ridge, cross).float()
    metrics = SegmentationMetrics(classes).to(device)
    for batch in test:
        features, label = _features(encoder, standardise, batch, device), batch["label"].to(device)
        x = torch.nn.functional.pad((features - mean) / scale, (0, 1), value=1.0)
        found = (x @ solved).argmax(dim=-1)
        steps = label.shape[1] // found.shape[1], label.shape[2] // found.shape[2]
        metrics.update(found.repeat_interleave(steps[0], 1).repeat_interleave(steps[1], 2), label.long())
    encoder.train(training)
    return {name: float(value) for name, value in metrics.compute().items()}


def _features(encoder: PrithviEncoder, standardise: Standardise, batch: dict[str, Any], device: torch.device) -> Tensor:
    """(B, h, w, D) tokens of the last block, averaged over dates."""
    images = standardise(batch["image"].to(device), batch["valid"].to(device))
    t, h, w = encoder.grid_of(images)
    tokens = encoder(images).tokens[:, 1:]
    found: Tensor = tokens.view(len(images), t, h, w, -1).mean(dim=1)
    return found


def _shares(label: Tensor, classes: int, grid: Any) -> Tensor:
    """(B, h, w, classes) number of pixels of each class in each patch."""
    one_hot = torch.stack([(label == value) & (label != IGNORE) for value in range(classes)], dim=-1).float()
    batch, height, width, _ = one_hot.shape
    h, w = grid
    return one_hot.view(batch, h, height // h, w, width // w, classes).sum(dim=(2, 4))
