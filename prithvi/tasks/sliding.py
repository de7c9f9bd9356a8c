"""Images larger than the model's window, in memory: cut into overlapping windows, and their scores blended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from prithvi.windows import WindowPlan, blend_weights, plan


def windows_of(images: Tensor, window: int, stride: int | None = None) -> Iterator[Tensor]:
    """The (..., window, window) windows of (..., Y, X) images, row after row of them.

    Args:
        images: of any size; smaller ones than a window are filled by reflection.
        window: pixels of a window along each side.
        stride: pixels between windows; half a window by default.

    """
    height, width = images.shape[-2:]
    layout = _plan(height, width, window, stride)
    if height < window or width < window:
        images = _reflect(images, layout.height, layout.width)
    for row in layout.rows:
        for column in layout.columns:
            yield images[..., row : row + window, column : column + window]


def blended(scores: Iterable[Tensor], height: int, width: int, window: int, stride: int | None = None) -> Tensor:
    """Scores of all windows as scores of the images.

    Args:
        scores: (B, outputs, window, window) of each window, or (B, outputs) where a head answers for the whole of it,
            in the order of `windows_of`.
        height: rows of the images.
        width: columns of the images.
        window: pixels of a window along each side.
        stride: pixels between windows; half a window by default.

    Returns:
        (B, outputs, Y, X), overlaps blended; or (B, outputs), the mean of the windows.

    """
    layout = _plan(height, width, window, stride)
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


def _plan(height: int, width: int, window: int, stride: int | None) -> WindowPlan:
    return plan(max(height, window), max(width, window), window, max(1, window // 2) if stride is None else stride)


def _reflect(images: Tensor, height: int, width: int) -> Tensor:
    """Mirrors the image at its lower and right edge, as often as it takes."""
    for axis, size in ((-2, height), (-1, width)):
        own = images.shape[axis]
        period = max(2 * own - 2, 1)
        index = torch.arange(size, device=images.device) % period
        images = images.index_select(axis, torch.where(index < own, index, period - index))
    return images
