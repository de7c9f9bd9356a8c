"""Sliding-window inference in memory: cutting images into overlapping windows and blending the outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from prithvi.windows import WindowPlan, blend_weights, plan, reflected, stride_of


def windows_of(images: Tensor, window: int) -> Iterator[Tensor]:
    """Yields the (..., window, window) windows of (..., Y, X) images, as they lie in a map, row by row.

    Args:
        images: images of any size; those smaller than a window are padded by reflection.
        window: side of a window in pixels.

    """
    height, width = images.shape[-2:]
    layout = _plan(height, width, window)
    for axis, size in ((-2, height), (-1, width)):
        if size < window:  # padded at the lower or right edge
            images = images.index_select(axis, torch.from_numpy(reflected(size, window)).to(images.device))
    for row in layout.rows:
        for column in layout.columns:
            yield images[..., row : row + window, column : column + window]


def blended(scores: Iterable[Tensor], height: int, width: int, window: int) -> Tensor:
    """Blends the outputs of all windows into outputs of the images.

    Args:
        scores: logits or other outputs of each window, in the order of `windows_of`: (B, outputs, window, window), or
            (B, outputs) from a pooling head.
        height: rows of the images.
        width: columns of the images.
        window: side of a window in pixels.

    Returns:
        (B, outputs, Y, X), with overlaps blended by distance from the window's edge; or (B, outputs), the mean.

    """
    # Weighted sum over weight sum. Windows are taken one at a time, so that at most one is in memory beside the total.
    layout = _plan(height, width, window)
    parts = iter(scores)
    first = next(parts)
    if first.ndim == 2:
        return torch.stack([first, *parts]).mean(dim=0)
    if len(layout) == 1:
        return first[..., :height, :width]
    weights = torch.from_numpy(blend_weights(window)).to(first.device)
    total = first.new_zeros(*first.shape[:2], layout.height, layout.width, dtype=torch.float32)
    weight = torch.zeros(total.shape[-2:], device=first.device)
    places = [(row, column) for row in layout.rows for column in layout.columns]
    for number, (row, column) in enumerate(places):
        part = (..., slice(row, row + window), slice(column, column + window))
        total[part] += (first if number == 0 else next(parts)).float() * weights
        weight[part] += weights
    return (total / weight)[..., :height, :width]


def _plan(height: int, width: int, window: int) -> WindowPlan:
    return plan(max(height, window), max(width, window), window, stride_of(window, None, None))
