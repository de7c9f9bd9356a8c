"""What a model expects of its input, kept with its weights and checked against every scene.

Most of this field's silent failures are about these eight fields: bands in another order, reflectance where digital
numbers were trained on, someone else's mean and std.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prithvi.bands import check_names
from prithvi.errors import BandError, ConfigError, nearest

IGNORE = -1
"""Label of a pixel that counts neither for the loss nor for any figure."""


@dataclass(frozen=True)
class Category:
    """One class of labels, of a model's outputs and of a map."""

    value: int
    """What label files hold for it, and the number that maps have for it, which is 0 to 254 there."""
    name: str
    color: str
    """Six hexadecimal digits, RRGGBB; empty where none was chosen."""
    label: int | None = None
    """The value in label files, where a map cannot hold that and has another one; None where it is `value`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `label` only where there is one."""
        plain = dataclasses.asdict(self)
        return plain if self.label is not None else {key: plain[key] for key in ("value", "name", "color")}


@dataclass(frozen=True)
class Quantity:
    """What a regression predicts, and the statistics that it is standardised by."""

    name: str
    mean: float
    std: float
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ConfigError(f"the std of {self.name} must be above 0; found {self.std}.")

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Contract:
    """Bands, scale and statistics of a model's input."""

    bands: tuple[str, ...]
    """Common names, in the model's order."""
    mean: tuple[float, ...]
    """Band means, in contract units (reflectance x `scale`)."""
    std: tuple[float, ...]
    """Band standard deviations, in contract units."""
    scale: float = 10_000.0
    """Contract units are reflectance times this: 10,000 for HLS digital numbers, 1 for reflectance."""
    clip: tuple[float, float] | None = None
    """Values are clipped to this range (contract units) before they are standardised; None leaves them."""
    nodata: float = 0.0
    """What a pixel without data becomes after standardising; 0 is the band mean."""
    resolution: float | None = None
    """Ground size of a training pixel in metres."""
    level: str | None = None
    """`SR` (surface reflectance) or `TOA` (top of atmosphere)."""

    def __post_init__(self) -> None:
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
        if self.level not in (None, "SR", "TOA"):
            raise ConfigError(f"the contract's level is {self.level!r}; it is SR, TOA or null.")

    @property
    def has_statistics(self) -> bool:
        """Whether mean and std are known; where they are not, they are 0 and 1, which no reflectance has."""
        return any(value != 0.0 for value in self.mean) or any(value != 1.0 for value in self.std)

    def select(self, bands: Sequence[str]) -> Contract:
        """The same contract for fewer or reordered bands.

        Raises:
            BandError: a band that this contract has no statistics of.

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
        """Digital numbers to contract units, where reflectance = values x gain + bias. NaN stays NaN."""
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float64)
        factor, shift = gain * self.scale, bias * self.scale
        if abs(factor - 1.0) < 1e-9 and shift == 0.0:
            return values
        converted: npt.NDArray[np.floating[Any]] = values * values.dtype.type(factor) + values.dtype.type(shift)
        return converted

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Contract:
        """The opposite of `to_dict`.

        Raises:
            ConfigError: a key is unknown or missing.

        """
        known = {field.name for field in dataclasses.fields(cls)}
        for key in plain:
            if key not in known:
                raise ConfigError(f"the contract has no field {key!r}: {nearest(key, known)}")
        missing = {"bands", "mean", "std"} - set(plain)
        if missing:
            raise ConfigError(f"the contract lacks {', '.join(sorted(missing))}.")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()
        }
        return cls(**values)
