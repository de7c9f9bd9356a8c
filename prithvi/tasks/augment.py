"""Crops, flips and quarter turns that move images, masks and labels together, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prithvi.errors import ConfigError


def flip_and_turn(batch: dict[str, Any]) -> dict[str, Any]:
    """One of the eight symmetries of a square, drawn for the batch, over every entry with rows and columns.

    Nothing of a satellite image has an up; location and date stay what they were.
    """
    turns, flip = int(torch.randint(4, ())), bool(torch.randint(2, ()))
    result = dict(batch)
    for key in ("image", "valid", "label", "target"):
        if key in batch and batch[key].ndim > 1:  # a label of the whole chip stays what it is
            moved = torch.rot90(batch[key], turns, dims=(-2, -1))
            result[key] = moved.flip(-1) if flip else moved
    return result


def views(values: Sequence[Tensor], crop: int, draws: Tensor | None, symmetries: int = 2) -> list[Tensor]:
    """The same crop, flip and turn of several (B, ..., Y, X) tensors, its own for each sample.

    Args:
        values: images and masks of the same samples and size.
        crop: side of the square in pixels.
        draws: (B, 3) uniform numbers from 0 to 1 on the CPU: row, column, symmetry. None takes the middle as it lies.
        symmetries: 1 for none, 2 for a horizontal flip half of the time (as published), 8 for all of a square.

    Raises:
        ConfigError: the images are smaller than the crop.

    """
    height, width = values[0].shape[-2:]
    if crop > min(height, width):
        raise ConfigError(f"chips of {height} x {width} pixels cannot give crops of {crop}: lower model.crop.")
    if draws is None:
        top, left = (height - crop) // 2, (width - crop) // 2
        return [value[..., top : top + crop, left : left + crop] for value in values]
    plans = [
        (int(row * (height - crop + 1)), int(column * (width - crop + 1)), int(symmetry * symmetries))
        for row, column, symmetry in draws.tolist()
    ]
    return [torch.stack([_view(sample, crop, *plan) for sample, plan in zip(v, plans, strict=True)]) for v in values]


def _view(sample: Tensor, crop: int, top: int, left: int, symmetry: int) -> Tensor:
    """One crop in one of the symmetries: the lowest bit flips it, the others count quarter turns."""
    turns, flip = divmod(symmetry, 2)
    cut = sample[..., top : top + crop, left : left + crop]
    if flip:
        cut = cut.flip(-1)
    return torch.rot90(cut, turns, dims=(-2, -1)) if turns else cut
