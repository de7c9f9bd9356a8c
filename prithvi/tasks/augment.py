"""Crops, flips and quarter turns applied alike to images, masks and labels, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prithvi.errors import ConfigError


def flip_and_turn(batch: dict[str, Any]) -> dict[str, Any]:
    """Applies one random symmetry of the square (of eight) to all images, masks and labels of a batch.

    Satellite images have no preferred orientation; location and date are unchanged.
    """
    turns, flip = int(torch.randint(4, ())), bool(torch.randint(2, ()))
    result = dict(batch)
    for key in ("image", "valid", "label", "target"):
        if key in batch and batch[key].ndim > 1:  # labels of whole chips (B,) do not change
            moved = torch.rot90(batch[key], turns, dims=(-2, -1))
            result[key] = moved.flip(-1) if flip else moved
    return result


def views(values: Sequence[Tensor], crop: int, draws: Tensor | None, symmetries: int = 2) -> list[Tensor]:
    """Crops, flips and turns several (B, ..., Y, X) tensors alike, with a different draw for each sample.

    Args:
        values: images and masks of the same samples and size.
        crop: side of the square crop in pixels.
        draws: (B, 3) uniform numbers from 0 to 1 on the CPU for row, column and symmetry; None for the centre crop
            without flip or turn.
        symmetries: 1 for none, 2 for a horizontal flip with probability 1/2 (as published), 8 for all symmetries of
            the square.

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
    """A crop in one of eight symmetries: the lowest bit is the flip, the other two the number of quarter turns."""
    turns, flip = divmod(symmetry, 2)
    cut = sample[..., top : top + crop, left : left + crop]
    if flip:
        cut = cut.flip(-1)
    return torch.rot90(cut, turns, dims=(-2, -1)) if turns else cut
