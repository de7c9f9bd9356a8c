"""Fmask, the quality layer of HLS: one byte a pixel, a bit a condition.

Source: HLS v2.0 user guide, table of the quality layer. Bit 0 is reserved in version 2.0 and cirrus in version 1.x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prithvi.errors import ConfigError, nearest

BITS = {"cirrus": 0, "cloud": 1, "adjacent": 2, "shadow": 3, "snow": 4, "water": 5}
"""Condition to bit. `adjacent` lies next to a cloud or a shadow; `cirrus` only means something in version 1.x."""
AEROSOL = ("climatology", "low", "moderate", "high")
"""What the values 0 to 3 of bits 6 and 7 stand for."""
FILL = 255
"""Outside the swath: no condition is known."""
BAD = ("cloud", "shadow")
"""What the published recipe counts as not good; adjacent and snow count as good (facts: its list of 64 values)."""

Mask = npt.NDArray[np.bool_]


def flag(fmask: npt.NDArray[np.uint8], condition: str) -> Mask:
    """Where a condition of `BITS` holds, never where there is fill. Same shape, bool.

    Raises:
        ConfigError: there is no such condition.

    """
    if condition not in BITS:
        raise ConfigError(f"Fmask has no condition {condition!r}: {nearest(condition, BITS)}")
    values = _bytes(fmask)
    found: Mask = ((values >> BITS[condition]) & 1).astype(bool) & (values != FILL)
    return found


def aerosol(fmask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Aerosol level of each pixel, an index into `AEROSOL`; 255 where there is fill. Same shape, uint8."""
    values = _bytes(fmask)
    return np.where(values == FILL, np.uint8(FILL), values >> 6)


def decode(fmask: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """Every condition by name (bool), `aerosol` (uint8) and `fill` (bool), each of the mask's shape."""
    flags: dict[str, npt.NDArray[Any]] = {name: flag(fmask, name) for name in BITS}
    return {**flags, "aerosol": aerosol(fmask), "fill": _bytes(fmask) == FILL}


def good(fmask: npt.NDArray[np.uint8], bad: Sequence[str] = BAD) -> Mask:
    """Where there is data and none of the `bad` conditions holds: by default neither cloud nor cloud shadow.

    Same shape, bool.
    """
    values = _bytes(fmask)
    bits = 0
    for name in bad:
        if name not in BITS:
            raise ConfigError(f"Fmask has no condition {name!r}: {nearest(name, BITS)}")
        bits |= 1 << BITS[name]
    clear: Mask = ((values & bits) == 0) & (values != FILL)
    return clear


def _bytes(fmask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if fmask.dtype != np.uint8:
        raise ConfigError(f"an Fmask is a uint8 layer, and this one is {fmask.dtype}: give the layer as it is stored.")
    return fmask
