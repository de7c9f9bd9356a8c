"""A fine-tuned model with everything that using it needs."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field
from typing import Any

from prithvi.contract import Contract, Quantity
from prithvi.models import Segmenter


@dataclass(frozen=True)
class ClassEntry:
    """One class of a map."""

    value: int
    """Its number in the map."""
    name: str
    color: str
    """Six hexadecimal digits, RRGGBB."""


@dataclass
class FittedModel:
    """A fine-tuned model and what is needed to use it."""

    model: Segmenter
    contract: Contract
    classes: tuple[ClassEntry, ...]
    """In the order of its outputs; empty where it predicts a quantity."""
    head: str
    head_options: dict[str, Any]
    window: int
    """Side of the square the model was trained on, in pixels."""
    coordinates: bool
    """Whether it was trained with dates and places."""
    temperature: float = 1.0
    """What scores are divided by before their softmax is read as confidence."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was made: data, steps, seed, versions, figures."""
    sha256: str = ""
    """Of the weights file, once saved."""
    task: str = "segmentation"
    """`segmentation` (a class a pixel), `regression` (a quantity a pixel) or `classification` (a class a chip)."""
    quantity: Quantity | None = None
    """What a regression predicts."""


def distinct_color(index: int) -> int:
    """A colour (0xRRGGBB) for a class that has none, apart from those of the numbers beside it."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1.0, 0.6, 0.85)
    return int(red * 255) << 16 | int(green * 255) << 8 | int(blue * 255)
