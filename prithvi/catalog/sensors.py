"""Sensors and products: what a file of each holds, so that a user names one word instead of five options.

Sources: HLS v2.0 user guide; Sentinel-2 product specification (band order as in the published stacks of this field);
Landsat Collection 2 science product guide (reflectance = DN x 0.0000275 - 0.2); ESPA surface reflectance (x 0.0001).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from prithvi.errors import one_of

_S2_ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


@dataclass(frozen=True)
class Sensor:
    """One product of one sensor."""

    name: str
    product: str
    """Key of `prithvi.bands.PRODUCTS`."""
    stack: tuple[str, ...]
    """Band ids of a stacked file with all of them, in order."""
    gain: float
    """Reflectance = DN x gain + bias."""
    bias: float
    nodata: float
    level: str
    """`SR` or `TOA`."""
    resolution: float
    """Ground size of a pixel in metres."""


_L30 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B09", "B10", "B11")
_OLI = ("B01", "B02", "B03", "B04", "B05", "B06", "B07")
_TM = ("B01", "B02", "B03", "B04", "B05", "B07")

_ALL = (
    Sensor("hls-l30", "hls-l30", _L30, 1e-4, 0.0, -9999, "SR", 30),
    Sensor("hls-s30", "hls-s30", _S2_ORDER, 1e-4, 0.0, -9999, "SR", 30),
    Sensor("sentinel-2-l1c", "sentinel-2", _S2_ORDER, 1e-4, 0.0, 0, "TOA", 10),
    Sensor("sentinel-2-l2a", "sentinel-2", tuple(b for b in _S2_ORDER if b != "B10"), 1e-4, 0.0, 0, "SR", 10),
    Sensor("landsat-8-espa-sr", "landsat-8", _OLI, 1e-4, 0.0, -9999, "SR", 30),
    Sensor("landsat-457-espa-sr", "landsat-457", _TM, 1e-4, 0.0, -9999, "SR", 30),
    Sensor("landsat-8-c2-l2", "landsat-8", _OLI, 2.75e-5, -0.2, 0, "SR", 30),
    Sensor("landsat-9-c2-l2", "landsat-8", _OLI, 2.75e-5, -0.2, 0, "SR", 30),
    Sensor("landsat-457-c2-l2", "landsat-457", _TM, 2.75e-5, -0.2, 0, "SR", 30),
)
SENSORS: Mapping[str, Sensor] = MappingProxyType({sensor.name: sensor for sensor in _ALL})
"""Name to sensor; the names are what `--sensor` takes."""


def sensor(name: str) -> Sensor:
    """The sensor of that name.

    Raises:
        ConfigError: there is none (with the nearest names).

    """
    return SENSORS[one_of(name, SENSORS, "there is no sensor")]
