"""A fine-tuned model with everything that using it needs."""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from prithvi.contract import Category, Contract, Quantity
from prithvi.errors import ConfigError
from prithvi.models import Segmenter, Standardise
from prithvi.models.heads import is_concurrent

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
    folder: str = ""
    """Where it was opened from."""

    def mappable(self) -> Mappable:
        """The same as mapping sees it.

        Raises:
            ConfigError: it gives one answer for a whole chip.

        """
        if self.task == "classification":
            raise ConfigError(f"a map needs an answer for every pixel; this model is for {self.task}.")
        config = self.model.config
        return Mappable(
            Scorer(self.model, self.contract).eval(), self.contract, self.window, config.num_frames,
            max(config.patch_size[1:]), self.classes, self.quantity, self.temperature, self.coordinates,
            config.architecture, self.sha256, self.folder, is_concurrent(self.head),
        )  # fmt: skip


class Scorer(nn.Module):
    """A model with its standardisation in front: pixels as they are in, scores out.

    Args:
        model: takes standardised images, and dates and places where it was trained with them.
        contract: units and statistics of the pixels.

    """

    def __init__(self, model: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.standardise, self.model = Standardise(contract), model

    def forward(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """(B, band, T, Y, X) in the contract's units, NaN where there is no data, to (B, outputs, Y, X) scores."""
        images = self.standardise(images)
        if temporal_coords is None and location_coords is None:
            scores: Tensor = self.model(images)
        else:
            scores = self.model(images, temporal_coords, location_coords)
        return scores


@dataclass
class Mappable:
    """A module and the facts that a map needs beside it, whatever the module is made of."""

    module: nn.Module
    """Takes (B, band, T, Y, X) float32 in the contract's units, NaN where there is no data, and with `coordinates`
    (B, T, 2) year and day of year from 0 and (B, 2) latitude and longitude (either may be None); gives
    (B, classes, Y, X) scores before the softmax, or (B, 1, Y, X) standardised values of `quantity`."""
    contract: Contract
    window: int
    """Side of the square it is run on, in pixels."""
    frames: int = 1
    """Dates that it takes."""
    patch: int = 1
    """The smallest side of a scene."""
    classes: tuple[ClassEntry, ...] = ()
    quantity: Quantity | None = None
    temperature: float = 1.0
    coordinates: bool = False
    name: str = ""
    """What it is called in the files it makes."""
    sha256: str = ""
    """Of its weights."""
    folder: str = ""
    """Where its own record lies, if anywhere."""
    concurrent: bool = False
    """Whether the module may be called from several threads at once."""

    def __post_init__(self) -> None:
        if bool(self.classes) == (self.quantity is not None):
            raise ConfigError("a model to map with has either classes or a quantity.")
        check_classes(self.classes)

    def facts(self) -> dict[str, Any]:
        """All but what this process made of it, as plain JSON values."""
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("module", "folder", "concurrent")
        }
        plain["contract"] = self.contract.to_dict()
        plain["classes"] = [entry.to_dict() for entry in self.classes]
        plain["quantity"] = self.quantity.to_dict() if self.quantity is not None else None
        return plain

    @classmethod
    def from_facts(cls, module: nn.Module, facts: Mapping[str, Any], folder: str = "") -> Mappable:
        """The opposite of `facts`.

        Raises:
            ConfigError: a field is missing, unknown or of another kind.

        """
        try:
            plain = dict(facts)
            plain["contract"] = Contract.from_dict(plain["contract"])
            plain["classes"] = tuple(ClassEntry(**entry) for entry in plain["classes"])
            plain["quantity"] = Quantity(**plain["quantity"]) if plain["quantity"] else None
            return cls(module, folder=folder, **plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"the model's record is not complete: {type(error).__name__} {error}.") from error


def distinct_color(index: int) -> int:
    """A colour (0xRRGGBB) for a class that has none, apart from those of the numbers beside it."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1.0, 0.6, 0.85)
    return int(red * 255) << 16 | int(green * 255) << 8 | int(blue * 255)
