"""What stored values mean: reflectance = (value + offset) / scale, said by the user, the file or the product.

Scale and offset are looked up one after the other, for each band of each date: what the user says, then what the file
says of the band (GDAL's scale and offset, a STAC item's, an array's `scale_factor` and `add_offset`), then what the
product usually has. Where two of them say different numbers the first counts, and a warning says both.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prithvi.catalog import Sensor
from prithvi.errors import SceneError

if TYPE_CHECKING:
    from prithvi.scenes.layout import FileBand, Layout

OFFSET_SINCE = dt.date(2022, 1, 25)
"""When processing baseline 04.00 of Sentinel-2 began, whose values are 1,000 higher."""
_SAME = 1e-6
"""Relative difference of numbers that are one number in float32."""

Linear = tuple[float, float]
"""Gain and bias: reflectance = value x gain + bias."""


@dataclass(frozen=True)
class Scales:
    """What is said of a band's values, before the user is heard."""

    tag: Linear | None
    """By the file, item or array itself; None where it says nothing."""
    usual: Linear | None = None
    """By the product; None where that is unknown."""
    product: str = ""
    offset: float | None = None
    """What is known to be added to each stored value; None where a tag without an offset leaves it open."""
    settled: bool = False
    """Whether `offset` stands whatever the user says (an item from before Sentinel-2's 1,000)."""

    def of(self, product: Sensor | None) -> Scales:
        """The same of a product, where that is known."""
        return self if product is None else replace(self, usual=(product.gain, product.bias), product=product.name)


@dataclass(frozen=True)
class Settled:
    """What is taken for the values of a scene, to which those of all bands are brought when they are read."""

    gain: float | None
    """None where nobody states it."""
    bias: float
    offset: float | None
    """What is added to each stored value, where somebody says so."""
    unknown: tuple[str, ...]
    """Bands of which nobody states the scale, while others have one."""


def scale_tag(scale: float, offset: float) -> Scales:
    """GDAL's scale and offset of a band, of which 1 and 0 also stand for 'not stated'."""
    if (scale, offset) == (1.0, 0.0):
        return Scales(None)
    return Scales((scale, offset), offset=offset / scale if offset and scale else None)


def settle(layout: Layout, scale: float | None, offset: float | None) -> Settled:
    """The rule of precedence for the bands of a scene; sets what brings each to one scale (`layout.adjust`).

    Args:
        layout: of the scene. To what the first band of the last date has the values of all are brought.
        scale: value = reflectance x scale, as the user says.
        offset: added to every value before it is scaled, as the user says.

    Raises:
        SceneError: an offset without any scale, or a scale that is not above 0.

    Warns:
        UserWarning: the user's, the file's and the product's numbers differ.

    """
    bands, where = layout.scales, layout.where
    names = {entry: name for step in layout.steps for name, entry in step.items()}
    found: dict[FileBand, Linear] = {}
    offsets: dict[FileBand, float | None] = {}
    for key, said in bands.items():
        base = said.tag or said.usual
        added = said.offset if offset is None or said.settled else offset
        if scale is not None:
            found[key] = 1 / scale, (added or 0.0) / scale
        elif base is not None:
            if not base[0] > 0:
                raise SceneError(f"{where} states the scale {base[0]:g} of {names[key]}: say --scale.")
            found[key] = base[0], base[1] if added is None else added * base[0]
        offsets[key] = added
    if not found:
        if offset is not None:
            raise SceneError(f"{where}: an offset of {offset} needs a scale or a sensor beside it.")
        return Settled(None, 0.0, None, ())
    _tell_differences(bands, found, where, names)
    # One gain and bias for the whole scene; a band that has others is brought to these when it is read.
    reference = next((key for key in layout.steps[-1].values() if key in found), next(iter(found)))
    gain, bias = found[reference]
    layout.adjust = {
        key: (own[0] / gain, (own[1] - bias) / gain)
        for key, own in found.items()
        if abs(own[0] / gain - 1) > _SAME or abs(own[1] - bias) > _SAME * max(abs(bias), gain)
    }
    known = None if None in offsets.values() else offsets[reference]
    return Settled(gain, bias, known, tuple(names[key] for key in bands if key not in found))


def _tell_differences(
    bands: Mapping[FileBand, Scales], found: Mapping[FileBand, Linear], where: str, names: Mapping[FileBand, str]
) -> None:
    """Warns where what is taken is not what the file states, or not what its product has."""
    told = set()
    for key, (gain, bias) in found.items():
        tag, usual = bands[key].tag, bands[key].usual
        # A tag without an offset leaves it open whether the values carry one, which the user then says.
        if tag is not None and not _same(tag, (gain, bias if bands[key].offset is not None else tag[1])):
            word, other = "it states", tag
        elif tag is not None and usual is not None and not _same(usual, tag):
            # Sentinel-2 files that state their offset, and bands that are no reflectance, differ from no product.
            if abs(usual[0] / tag[0] - 1) <= _SAME and bands[key].product.startswith("sentinel-2"):
                continue
            word, other = f"{bands[key].product} usually has", usual
        else:
            continue
        if names[key].startswith(("thermal", "cirrus")) or (word, other) in told:
            continue
        told.add((word, other))
        warnings.warn(
            f"{where}: {names[key]} is taken for {_formula(gain, bias)}, and {word} {_formula(*other)}.", stacklevel=4
        )


def _same(one: Linear, other: Linear) -> bool:
    return abs(one[0] / other[0] - 1) <= 1e-3 and abs(one[1] - other[1]) <= 1e-3 * max(abs(one[1]), one[0])


def _formula(gain: float, bias: float) -> str:
    return f"value x {gain:.6g}" + (f" {'+' if bias > 0 else '-'} {abs(bias):.6g}" if bias else "")
