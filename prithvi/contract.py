"""The contract: what a model expects of its input, saved with its weights and checked against every scene.

It guards against the most common silent failures in this field: bands in the wrong order, reflectance instead of
digital numbers, and the mean and std of another dataset.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prithvi.bands import check_names
from prithvi.errors import BandError, ConfigError, nearest, one_of, states_nonsense

IGNORE = -1
"""Label of pixels that are excluded from losses and metrics."""
LEVELS = ("SR", "TOA")
"""Surface reflectance, and reflectance at the top of the atmosphere."""


@dataclass(frozen=True)
class Category:
    """A class of labels, model outputs and maps."""

    value: int
    """Value of the class in label files and in maps (0 to 254 in maps)."""
    name: str
    color: str
    """Six hexadecimal digits, RRGGBB; empty if none was chosen."""
    label: int | None = None
    """Value in label files, if maps cannot hold it and use another `value`; None if both are the same."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values; `label` is left out if it is None."""
        plain = dataclasses.asdict(self)
        return plain if self.label is not None else {key: plain[key] for key in ("value", "name", "color")}

    def to_stac(self) -> dict[str, Any]:
        """As STAC's classification extension writes it; `name` is an identifier, `description` the class's name."""
        plain = {
            "value": self.value,
            "name": re.sub(r"[^0-9A-Za-z_-]+", "_", self.name),
            "description": self.name,
            "color_hint": self.color,
        }
        return plain if self.color else {key: value for key, value in plain.items() if key != "color_hint"}


@dataclass(frozen=True)
class Quantity:
    """The target of a regression, with the statistics that standardise it."""

    name: str
    mean: float
    std: float
    unit: str = ""

    def __post_init__(self) -> None:
        with states_nonsense(f"the quantity {self.name}", ConfigError):
            object.__setattr__(self, "mean", float(self.mean))
            object.__setattr__(self, "std", float(self.std))
        if not self.std > 0:
            raise ConfigError(f"the std of {self.name} must be above 0; found {self.std}.")

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Contract:
    """Bands, scale and statistics of a model's input."""

    bands: tuple[str, ...]
    """Common band names, in the order of the model's input."""
    mean: tuple[float, ...]
    """Band means, in contract units (reflectance x `scale`)."""
    std: tuple[float, ...]
    """Band standard deviations, in contract units."""
    scale: float = 10_000.0
    """Contract units are reflectance times `scale`: 10,000 for HLS digital numbers, 1 for reflectance."""
    clip: tuple[float, float] | None = None
    """Range, in contract units, that values are clipped to before standardisation; None for no clipping."""
    nodata: float = 0.0
    """Value of nodata pixels after standardisation; 0 is the band mean."""
    resolution: float | None = None
    """Pixel size of the training data in metres; None if unknown or mixed."""
    level: str | None = None
    """`SR` (surface reflectance) or `TOA` (top of atmosphere); None if unknown or mixed."""

    def __post_init__(self) -> None:
        with states_nonsense("the contract", ConfigError):
            self._check()

    def _check(self) -> None:
        object.__setattr__(self, "bands", check_names(self.bands))
        for field in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, field))
            if len(values) != len(self.bands):
                raise ConfigError(f"the contract has {len(self.bands)} bands and {len(values)} values of {field}.")
            object.__setattr__(self, field, values)
        if min(self.std) <= 0:
            raise ConfigError(f"the contract's std must be above 0 in each band; found {self.std}.")
        if self.scale <= 0:
            raise ConfigError(f"the contract's scale must be above 0; found {self.scale}.")
        if self.clip is not None:
            object.__setattr__(self, "clip", (float(self.clip[0]), float(self.clip[1])))
        if self.level not in (None, *LEVELS):
            raise ConfigError(f"the contract's level is {self.level!r}; it is SR, TOA or null.")

    @property
    def has_statistics(self) -> bool:
        """Whether mean and std are known; unknown ones are 0 and 1, which do not occur with reflectance."""
        return any(value != 0.0 for value in self.mean) or any(value != 1.0 for value in self.std)

    def select(self, bands: Sequence[str]) -> Contract:
        """The contract for a selection of its bands, in the given order.

        Raises:
            BandError: the contract does not have a band.

        """
        names = check_names(bands)
        for name in names:
            if name not in self.bands:
                raise BandError(f"no mean and std are known for band {name}: {nearest(name, self.bands)}")
        index = [self.bands.index(name) for name in names]
        return dataclasses.replace(
            self, bands=names, mean=tuple(self.mean[i] for i in index), std=tuple(self.std[i] for i in index)
        )

    def from_reflectance(
        self, values: npt.NDArray[np.floating[Any]], gain: float, bias: float
    ) -> npt.NDArray[np.floating[Any]]:
        """Converts digital numbers to contract units, where reflectance = values x gain + bias; NaN stays NaN."""
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float64)
        factor, shift = gain * self.scale, bias * self.scale
        if abs(factor - 1.0) < 1e-9 and shift == 0.0:
            return values
        converted: npt.NDArray[np.floating[Any]] = values * values.dtype.type(factor) + values.dtype.type(shift)
        return converted

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        plain = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Contract:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: a key is unknown or missing.

        """
        known = {field.name for field in dataclasses.fields(cls)}
        for key in plain:
            one_of(key, known, "the contract has no field")
        missing = {"bands", "mean", "std"} - set(plain)
        if missing:
            raise ConfigError(f"the contract lacks {', '.join(sorted(missing))}.")
        return cls(**plain)


def check_mappable(task: str) -> None:
    """Raises ConfigError where a model of this task gives one answer for a whole chip."""
    if task == "classification":
        raise ConfigError(f"a map needs an answer for every pixel; this model is for {task}.")
