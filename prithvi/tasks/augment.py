"""Flips and quarter turns that move images, masks and labels together, on the device."""

from __future__ import annotations

from typing import Any

import torch


def flip_and_turn(batch: dict[str, Any]) -> dict[str, Any]:
    """One of the eight symmetries of a square, drawn for the batch, over every entry with rows and columns.

    Nothing of a satellite image has an up; location and date stay what they were.
    """
    turns, flip = int(torch.randint(4, ())), bool(torch.randint(2, ()))
    result = dict(batch)
    for key in ("image", "valid", "label"):
        moved = torch.rot90(batch[key], turns, dims=(-2, -1))
        result[key] = moved.flip(-1) if flip else moved
    return result
