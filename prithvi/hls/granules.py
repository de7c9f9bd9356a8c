"""What HLS is: names of granules, read and written, and Fmask, the quality layer: one byte a pixel, a bit a condition.

Source: HLS user guides of versions 1.5 and 2.0. A name is `HLS.<product>.T<tile>.<time>.v<version>`, where version 1.x
writes the time as year and day of year (2019253) and version 2.0 adds the time of day (2022145T105621). Bit 0 of Fmask
is reserved in version 2.0 and cirrus in version 1.x.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from prithvi.bands import PRODUCTS
from prithvi.errors import BandError, ConfigError, SceneError, one_of

NAME = re.compile(
    r"^HLS\.(?P<product>[LS]30)\.T(?P<tile>\d{2}[C-HJ-NP-X][A-HJ-NP-Z]{2})\.(?P<day>\d{7})(?:T(?P<clock>\d{6}))?"
    r"\.v(?P<version>\d+\.\d+)(?:[._](?P<rest>.*))?$"
)
"""The form of a granule's name, with or without the rest of a file's."""
BITS = {"cirrus": 0, "cloud": 1, "adjacent": 2, "shadow": 3, "snow": 4, "water": 5}
"""Condition to bit. `adjacent` lies next to a cloud or a shadow; `cirrus` only means something in version 1.x."""
AEROSOL = ("climatology", "low", "moderate", "high")
"""What the values 0 to 3 of bits 6 and 7 stand for."""
FILL = 255
"""Fmask outside the swath: no condition is known."""
BAD = ("cloud", "shadow")
"""What the published recipe counts as not good; adjacent and snow count as good (facts: its list of 64 values)."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, order=True)
class Granule:
    """One product of one MGRS tile at one time."""

    tile: str
    """Five letters without the T, such as 31UDS."""
    time: dt.datetime
    """UTC; midnight for version 1.x, which says only the day."""
    product: str
    """`L30` (Landsat 8 and 9) or `S30` (Sentinel-2)."""
    version: str = "2.0"

    @classmethod
    def parse(cls, name: str) -> Granule:
        """The granule that a name, a file of it, or a path of either says.

        Raises:
            SceneError: the name has not the form of an HLS granule, or a day that does not exist.

        """
        stem = PurePath(name).name
        match = NAME.match(stem)
        if match is None:
            raise SceneError(
                f"{stem} is no HLS granule name: expected HLS.L30.T31UDS.2022145T105621.v2.0 (or S30; 2022145.v1.5)."
            )
        clock = match["clock"] or "000000"
        if (match["clock"] is None) != match["version"].startswith("1."):
            raise SceneError(f"{stem}: version {match['version']} names its time in another form; check the name.")
        try:
            time = dt.datetime.strptime(match["day"] + clock, "%Y%j%H%M%S").replace(tzinfo=dt.UTC)
            if time.strftime("%Y%j") != match["day"]:  # day 366 of a year with 365
                raise ValueError(match["day"])
        except ValueError as error:
            raise SceneError(f"{stem} names the time {match['day']}T{clock}, which does not exist.") from error
        return cls(match["tile"], time, match["product"], match["version"])

    def __str__(self) -> str:
        """The granule's name."""
        form = "%Y%j" if self.version.startswith("1.") else "%Y%jT%H%M%S"
        return f"HLS.{self.product}.T{self.tile}.{self.time.strftime(form)}.v{self.version}"

    @property
    def sensor(self) -> str:
        """Key of `prithvi.catalog.SENSORS`."""
        return f"hls-{self.product.lower()}"

    @property
    def fill(self) -> int:
        """Value of a band's pixels without data."""
        return -1000 if self.version.startswith("1.") else -9999

    def band_id(self, band: str) -> str:
        """The product's id of a common band: `nir_narrow` is B05 in L30 and B8A in S30.

        Raises:
            BandError: the product has no such band.

        """
        ids = {name: identifier for identifier, name in PRODUCTS[self.sensor].items()}
        if band not in ids:
            raise BandError(f"{self} has no band {band}; {self.product} has {', '.join(ids)}.")
        return ids[band]

    def file_name(self, band: str) -> str:
        """Name of the GeoTIFF of a common band, or of `fmask`."""
        return f"{self}.{'Fmask' if band == 'fmask' else self.band_id(band)}.tif"


def is_granule_name(name: str) -> bool:
    """Whether a name starts as an HLS granule's does, with a time that exists."""
    try:
        Granule.parse(name)
    except SceneError:
        return False
    return True


def flag(fmask: npt.NDArray[np.uint8], condition: str) -> Mask:
    """Where a condition of `BITS` holds, never where there is fill. Same shape, bool.

    Raises:
        ConfigError: there is no such condition.

    """
    found: Mask = (_marked(fmask, [condition]) != 0) & (fmask != FILL)
    return found


def aerosol(fmask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Aerosol level of each pixel, an index into `AEROSOL`; 255 where there is fill. Same shape, uint8."""
    return np.where(fmask == FILL, np.uint8(FILL), fmask >> 6)


def decode(fmask: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """Every condition by name (bool), `aerosol` (uint8) and `fill` (bool), each of the mask's shape."""
    return {**{name: flag(fmask, name) for name in BITS}, "aerosol": aerosol(fmask), "fill": fmask == FILL}


def good(fmask: npt.NDArray[np.uint8], bad: Sequence[str] = BAD) -> Mask:
    """Where there is data and none of the `bad` conditions holds: by default neither cloud nor cloud shadow.

    Same shape, bool.
    """
    clear: Mask = (_marked(fmask, bad) == 0) & (fmask != FILL)
    return clear


def _marked(fmask: npt.NDArray[np.uint8], conditions: Sequence[str]) -> npt.NDArray[np.uint8]:
    """An Fmask with no other bits than those of some conditions."""
    if fmask.dtype != np.uint8:
        raise ConfigError(f"an Fmask is a uint8 layer, and this one is {fmask.dtype}: give the layer as it is stored.")
    for name in conditions:
        one_of(name, BITS, "Fmask has no condition")
    return fmask & np.uint8(sum(1 << BITS[name] for name in set(conditions)))
