"""Scores of an image larger than the model's window: overlapping windows, blended, in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prithvi.windows import blend_weights, plan


def sliding_scores(predict: Callable[[Tensor], Tensor], images: Tensor, window: int, stride: int) -> Tensor:
    """(B, classes, Y, X) scores of (B, band, T, Y, X) images, for validation; maps are made by `prithvi.mapping`.

    Args:
        predict: images of `window` pixels to scores.
        images: standardised images of any size; smaller ones than a window are filled by reflection.
        window: pixels of a window along each side.
        stride: pixels between windows.

    """
    height, width = images.shape[-2:]
    if height < window or width < window:
        images = _reflect(images, max(height, window), max(width, window))
    layout = plan(images.shape[-2], images.shape[-1], window, stride)
    weights = torch.from_numpy(blend_weights(window)).to(images.device)
    total: Tensor | None = None
    weight = torch.zeros(images.shape[-2:], device=images.device)
    for row in layout.rows:
        for column in layout.columns:
            part = (..., slice(row, row + window), slice(column, column + window))
            scores = predict(images[part]).float()
            if total is None:
                total = scores.new_zeros(*scores.shape[:2], *images.shape[-2:])
            total[part] += scores * weights
            weight[part] += weights
    assert total is not None
    return (total / weight)[..., :height, :width]


def _reflect(images: Tensor, height: int, width: int) -> Tensor:
    """Mirrors the image at its lower and right edge, as often as it takes."""
    for axis, size in ((-2, height), (-1, width)):
        own = images.shape[axis]
        period = max(2 * own - 2, 1)
        index = torch.arange(size, device=images.device) % period
        images = images.index_select(axis, torch.where(index < own, index, period - index))
    return images
