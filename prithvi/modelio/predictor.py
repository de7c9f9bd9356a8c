"""A model and everything that using it needs: one class for fine-tunes, exported programs and modules of your own."""

from __future__ import annotations

import colorsys
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from prithvi.contract import Category, Contract, Quantity, check_mappable
from prithvi.errors import ConfigError, ModelError
from prithvi.models import Segmenter, Standardise
from prithvi.models.heads import has_trait

LARGEST = 254
"""The largest class number that a map holds: its pixels are uint8, and 255 is no data."""


ClassEntry = Category
"""The older name."""


def class_entries(
    names: Sequence[str], colors: Sequence[str] = (), values: Sequence[int] | None = None
) -> tuple[ClassEntry, ...]:
    """Classes in the order of a model's outputs, each with the number that maps have for it.

    That number is the value the labels have. If any of these is not from 0 to 254, a map cannot hold it, and all
    classes are numbered 0, 1, 2, ... in their order; each then keeps its label's value as `label`.

    Args:
        names: of the classes.
        colors: RRGGBB; default colours that can be told apart.
        values: the labels' values; default 0, 1, 2, ...

    Raises:
        ConfigError: another number of values than of names, or a value that stands for two classes.

    """
    values = list(range(len(names))) if values is None else list(values)
    if len(values) != len(names) or len(set(values)) < len(values):
        raise ConfigError(f"{len(names)} classes ({', '.join(names)}) need as many different values; found {values}.")
    colors = colors or [f"{distinct_color(number):06X}" for number in range(len(names))]
    whole = all(0 <= value <= LARGEST for value in values)
    return tuple(
        ClassEntry(value if whole else number, name, color, None if whole else value)
        for number, (name, color, value) in enumerate(zip(names, colors, values, strict=True))
    )


def check_classes(classes: Sequence[ClassEntry]) -> None:
    """Raises ConfigError unless the class numbers are different whole numbers from 0 to 254."""
    values = [entry.value for entry in classes]
    right = all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST for value in values)
    if not right or len(set(values)) < len(values):
        raise ConfigError(
            f"class values must be different whole numbers from 0 to {LARGEST}, which the pixels of a map can hold; "
            f"found {', '.join(map(str, values))}."
        )


class Scorer(nn.Module):
    """A fine-tuned model behind its standardisation: raw pixels in, logits out.

    Args:
        model: takes standardised images, and dates and places where it was trained with them.
        contract: units and statistics of the pixels.

    """

    def __init__(self, model: Segmenter, contract: Contract) -> None:
        super().__init__()
        self.standardise, self.model = Standardise(contract), model

    def forward(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """(B, band, T, Y, X) in the contract's units, NaN where there is no data, to (B, outputs, Y, X) logits."""
        logits: Tensor = self.model(self.standardise(images), temporal_coords, location_coords)
        return logits


@dataclass
class Predictor:
    """A module and the facts that using it needs, whatever the module is made of."""

    module: nn.Module
    """Takes (B, band, T, Y, X) float32 in the contract's units, NaN where there is no data, and with `coordinates`
    (B, T, 2) year and day of year from 0 and (B, 2) latitude and longitude (either may be None); gives
    (B, classes, Y, X) logits, or (B, 1, Y, X) standardised values of `quantity`."""
    contract: Contract
    window: int
    """Side of the square that it was trained on and is run on, in pixels."""
    frames: int = 1
    """Number of dates that it takes."""
    patch: int = 1
    """The smallest side of a scene, in pixels."""
    classes: tuple[ClassEntry, ...] = ()
    """In the order of its outputs; empty where it predicts a quantity."""
    quantity: Quantity | None = None
    """What a regression predicts."""
    temperature: float = 1.0
    """Logits are divided by this before their softmax is read as confidence."""
    coordinates: bool = False
    """Whether it was trained with dates and places."""
    name: str = ""
    """What it is called in the files it makes."""
    sha256: str = ""
    """Of its weights file, once there is one."""
    folder: str = ""
    """The model folder that it was opened from, if any."""
    concurrent: bool = False
    """Whether the module may be called from several threads at once."""
    task: str = "segmentation"
    """`segmentation` (a class a pixel), `regression` (a quantity a pixel) or `classification` (a class a chip)."""
    head: str = ""
    """Name of a fine-tuned model's head, and below its options."""
    head_options: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was made: data, steps, seed, versions, metrics."""

    def __post_init__(self) -> None:
        if bool(self.classes) == (self.quantity is not None):
            raise ConfigError("a model has either classes or a quantity.")
        check_classes(self.classes)

    @classmethod
    def fine_tuned(cls, model: Segmenter, contract: Contract, **facts: Any) -> Predictor:
        """A fine-tuned model, which says itself how many dates it takes, its patch and its name.

        Args:
            model: takes standardised images.
            contract: units and statistics of the pixels.
            facts: the other fields; `window` and `head` at least.

        """
        config = model.config
        return cls(
            module=Scorer(model, contract), contract=contract, frames=config.num_frames,
            patch=max(config.patch_size[1:]), name=config.architecture if model.encoder is not None else facts["head"],
            concurrent=has_trait(facts["head"], "concurrent"), **facts,
        )  # fmt: skip

    @property
    def model(self) -> Segmenter:
        """The fine-tuned model alone, which takes standardised images.

        Raises:
            ModelError: it is an exported program or a module of another kind, whose parts are not known.

        """
        if not isinstance(self.module, Scorer):
            raise ModelError(f"{self.name} is not a fine-tuned model that can be taken apart: take its model folder.")
        return self.module.model

    def mappable(self) -> Predictor:
        """Itself in evaluation mode, if it gives an answer for every pixel.

        Raises:
            ConfigError: it gives one answer for a whole chip.

        """
        check_mappable(self.task)
        self.module.eval()
        return self

    def facts(self) -> dict[str, Any]:
        """What a program's record and the key of a resumed map keep, as plain JSON values."""
        plain = {name: getattr(self, name) for name in _FACTS}
        plain["contract"] = self.contract.to_dict()
        plain["classes"] = [entry.to_dict() for entry in self.classes]
        plain["quantity"] = self.quantity.to_dict() if self.quantity is not None else None
        return plain

    @classmethod
    def from_facts(cls, module: nn.Module, facts: Any) -> Predictor:
        """The opposite of `facts`.

        Raises:
            ConfigError: a field is missing, unknown or of another kind.

        """
        if not isinstance(facts, Mapping) or set(facts) != set(_FACTS):
            raise ConfigError(f"the model's record is not complete: it needs {', '.join(_FACTS)} and nothing else.")
        for name, fits in _FACTS.items():
            if not fits(facts[name]):
                raise ConfigError(f"{name} is {str(facts[name])[:80]!r}, an invalid value.")
        plain = dict(facts)
        plain["contract"] = Contract.from_dict(plain["contract"])
        plain["classes"] = tuple(ClassEntry(**entry) for entry in plain["classes"])
        plain["quantity"] = Quantity(**plain["quantity"]) if plain["quantity"] else None
        return cls(module, **plain)


FittedModel = Predictor
Mappable = Predictor
"""Both are names of 0.1."""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_class(entry: Any) -> bool:
    """Whether this is what `ClassEntry.to_dict` writes; `check_classes` looks at the numbers."""
    return (
        isinstance(entry, Mapping)
        and set(entry) - {"label"} == {"value", "name", "color"}
        and isinstance(entry.get("label", 0), int)
        and isinstance(entry["name"], str)
        and re.fullmatch("[0-9A-Fa-f]{6}", str(entry["color"])) is not None
    )


_FACTS: dict[str, Callable[[Any], bool]] = {
    "contract": lambda value: isinstance(value, Mapping),
    "window": _is_count,
    "frames": _is_count,
    "patch": _is_count,
    "classes": lambda value: isinstance(value, list) and all(map(_is_class, value)),
    "quantity": lambda value: value is None or isinstance(value, Mapping),
    "temperature": lambda value: type(value) in (int, float) and 0 < value < math.inf,
    "coordinates": lambda value: isinstance(value, bool),
    "name": lambda value: isinstance(value, str),
    "sha256": lambda value: isinstance(value, str),
}
"""What a program's record keeps, in its order, and whether a value is of the kind that a record has."""


def distinct_color(index: int) -> int:
    """A colour (0xRRGGBB) for a class that has none, apart from those of the numbers beside it."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1.0, 0.6, 0.85)
    return int(red * 255) << 16 | int(green * 255) << 8 | int(blue * 255)
