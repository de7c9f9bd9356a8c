"""What a user says of a source, and what is known of the scene that it becomes, beside its pixels and its place."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import xarray as xr

from prithvi.bands import check_names
from prithvi.catalog import Sensor


@dataclass(frozen=True)
class Given:
    """What the user says of a source; None leaves it to the source. See `prithvi.open_scene`."""

    bands: list[str] | dict[str, int] | None = None
    """Names in their order, or numbers in the file, counted from 1, by common name."""
    sensor: Sensor | None = None
    dates: list[dt.date] | None = None
    order: str | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None

    @property
    def product(self) -> str | None:
        """The key of the sensor's band ids in `prithvi.bands.PRODUCTS`."""
        return self.sensor.product if self.sensor else None

    @property
    def names(self) -> list[str]:
        """Common names of the bands, in their order.

        Raises:
            BandError: a name means no band.

        """
        return list(check_names(list(self.bands or ()), self.product))


@dataclass(frozen=True)
class SceneInfo:
    """Facts about a scene's values, each None or empty where it is not known.

    They are kept one by one in `attrs`, and not as an object there: arrays of users state them likewise (`gain`), and
    Zarr and netCDF store them.
    """

    source: str = ""
    """How to call the scene in a message."""
    gain: float | None = None
    """Reflectance = value x gain + bias."""
    bias: float | None = None
    offset: float | None = None
    """What is added to each stored value before it is scaled, where somebody says so."""
    level: str | None = None
    """`TOA` or `SR`."""
    sensor: str | None = None
    """A key of `prithvi.catalog.SENSORS`."""
    dtype: str = ""
    """Type in which the values are stored."""
    missing: Sequence[float] = ()
    """Values that stood for no data."""
    unscaled: Sequence[str] = ()
    """Bands of which nobody states the scale, while others have one."""
    unknown_bands: Sequence[str] = ()
    """Band names in the files that nobody understood."""
    unnamed: bool = False
    """Whether bands without names were taken in the sensor's order."""
    accepted: Sequence[str] = ()
    """Bands that stand in for others by the user's leave (`nir_broad`)."""

    @classmethod
    def of(cls, scene: xr.DataArray) -> SceneInfo:
        """What a scene's `attrs` say."""
        return cls(**{name: scene.attrs[name] for name in cls.__dataclass_fields__ if name in scene.attrs})

    def attrs(self) -> dict[str, Any]:
        """As a scene has them; what is not known is left out, but `missing` may be empty."""
        unknown = asdict(SceneInfo()) | {"missing": None}
        return {name: value for name, value in asdict(self).items() if value != unknown[name]}

    @property
    def called(self) -> str:
        """The scene's name in a message."""
        return str(self.source or "the scene")


def name_of(scene: xr.DataArray) -> str:
    """A scene's name in a message."""
    return SceneInfo.of(scene).called
