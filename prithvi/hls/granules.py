"""Granule names of HLS, read and written, and what each of a granule's files is.

Source: HLS user guides of versions 1.5 and 2.0. A name is `HLS.<product>.T<tile>.<time>.v<version>`, where version 1.x
writes the time as year and day of year (2019253) and version 2.0 adds the time of day (2022145T105621).
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import PurePath

from prithvi.bands import PRODUCTS
from prithvi.errors import BandError, SceneError

_NAME = re.compile(
    r"^HLS\.(?P<product>[LS]30)\.T(?P<tile>\d{2}[C-HJ-NP-X][A-HJ-NP-Z]{2})\.(?P<day>\d{7})(?:T(?P<clock>\d{6}))?"
    r"\.v(?P<version>\d+\.\d+)(?:[._](?P<rest>.*))?$"
)
FILL = {"1.5": -1000, "2.0": -9999}
"""Value of pixels without data, by version; other 1.x versions have that of 1.5."""


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
        match = _NAME.match(stem)
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
        return FILL.get(self.version, FILL["1.5"] if self.version.startswith("1.") else FILL["2.0"])

    def band_id(self, band: str) -> str:
        """The product's id of a common band: `nir_narrow` is B05 in L30 and B8A in S30.

        Raises:
            BandError: the product has no such band.

        """
        table = PRODUCTS[self.sensor]
        for identifier, name in table.items():
            if name == band:
                return identifier
        raise BandError(f"{self} has no band {band}; {self.product} has {', '.join(table.values())}.")

    def file_name(self, band: str) -> str:
        """Name of the GeoTIFF of a common band, or of `fmask`."""
        return f"{self}.{'Fmask' if band == 'fmask' else self.band_id(band)}.tif"


def is_granule_name(name: str) -> bool:
    """Whether a name starts as an HLS granule's does."""
    return _NAME.match(PurePath(name).name) is not None
