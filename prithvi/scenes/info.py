"""What a user says of a source, and what is known of the values of the scene that it becomes.

What stored values mean: reflectance = (value + offset) / scale. Scale and offset are looked up one after the other, for
each band of each date: what the user says, then what the file says of the band (GDAL's scale and offset, a STAC item's,
an array's `scale_factor` and `add_offset`), then what the product usually has. Where two of them say different numbers
the first counts, and a warning says both.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import xarray as xr

from prithvi.bands import check_names
from prithvi.catalog import Sensor
from prithvi.errors import PrithviError, SceneError

if TYPE_CHECKING:
    import pystac

    from prithvi.scenes.layout import Layout
    from prithvi.scenes.raster_files import Plane

OFFSET_SINCE = dt.date(2022, 1, 25)
"""When processing baseline 04.00 of Sentinel-2 began, whose values are 1,000 higher."""
_SAME = 1e-6
"""Relative difference of numbers that are one number in float32."""

Linear = tuple[float, float]
"""Gain and bias: reflectance = value x gain + bias."""


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
    def names(self) -> list[str]:
        """Common names of the bands, in their order.

        Raises:
            BandError: a name means no band.

        """
        return list(check_names(list(self.bands or ()), self.sensor.product if self.sensor else None))


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
    offset_is_final: bool = False
    """Whether `offset` stands whatever the user says (an item from before Sentinel-2's 1,000)."""

    def of(self, product: Sensor | None) -> Scales:
        """The same of a product, where that is known."""
        return self if product is None else replace(self, usual=(product.gain, product.bias), product=product.name)


def scale_tag(scale: float, offset: float) -> Scales:
    """GDAL's scale and offset of a band, of which 1 and 0 also stand for 'not stated'."""
    if (scale, offset) == (1.0, 0.0):
        return Scales(None)
    return Scales((scale, offset), offset=offset / scale if offset and scale else None)


def settle(layout: Layout, scale: float | None, offset: float | None) -> SceneInfo:
    """Gain, bias, offset and bands without a scale, by the rule of precedence; brings the layout's bands to one scale.

    Args:
        layout: of the scene. All values are brought to what the first band of the last date has (`Plane.adjust`).
        scale: value = reflectance x scale, as the user says.
        offset: added to every value before it is scaled, as the user says.

    Raises:
        SceneError: an offset without any scale, or a scale that is not above 0.

    Warns:
        UserWarning: the user's, the file's and the product's numbers differ.

    """
    names = {plane: name for step in layout.steps for name, plane in step.items()}
    found: dict[Plane, Linear] = {}
    offsets: dict[Plane, float | None] = {}
    for plane, name in names.items():
        stated = plane.stated_scale
        base = stated.tag or stated.usual
        added = offsets[plane] = stated.offset if offset is None or stated.offset_is_final else offset
        if scale is not None:
            found[plane] = 1 / scale, (added or 0.0) / scale
        elif base is not None:
            if not base[0] > 0:
                raise SceneError(f"{layout.where} states the scale {base[0]:g} of {name}: say --scale.")
            found[plane] = base[0], base[1] if added is None else added * base[0]
    if not found:
        if offset is not None:
            raise SceneError(f"{layout.where}: an offset of {offset} needs a scale or a sensor beside it.")
        return SceneInfo()
    _tell_differences(found, names, layout.where)
    # One gain and bias for the whole scene; a band that has others is brought to these when it is read.
    reference = next((plane for plane in layout.steps[-1].values() if plane in found), next(iter(found)))
    gain, bias = found[reference]
    adjust = {
        plane: (own[0] / gain, (own[1] - bias) / gain)
        for plane, own in found.items()
        if abs(own[0] / gain - 1) > _SAME or abs(own[1] - bias) > _SAME * max(abs(bias), gain)
    }
    layout.steps = [
        {name: replace(plane, adjust=adjust.get(plane, plane.adjust)) for name, plane in step.items()}
        for step in layout.steps
    ]
    known = None if None in offsets.values() else offsets[reference]
    unscaled = [name for plane, name in names.items() if plane not in found]
    return SceneInfo(gain=gain, bias=bias, offset=known, unscaled=unscaled or ())


def _either(option: str = "--offset", number: float = -1000) -> str:
    """The end of a sentence about the +1,000 of Sentinel-2 archives: which offset to say in which case."""
    return f"say {option} {number:.6g} if it was not (the archive's files), {option} 0 if it was."


def ask_for_offset(
    where: str,
    last: dt.date | None,
    option: str = "--offset",
    number: float = -1000,
    dated: str = "",
    refused: type[PrithviError] = SceneError,
) -> None:
    """Sentinel-2 from 25 January 2022 on carries +1000 unless somebody took it out; only the user can know.

    Args:
        where: how to call the image in a message.
        last: its last date; None where it states none.
        option: that says the offset.
        number: what it would say of values that carry it.
        dated: option that says the date.
        refused: the error.

    """
    if last is None:
        warnings.warn(
            f"{where} has no date; its values are taken not to carry the +1,000 of Sentinel-2 archives since 2022 "
            f"(say {dated}{option} {number:.6g} or 0).",
            stacklevel=3,
        )
    elif last >= OFFSET_SINCE:
        raise refused(
            f"{where} is a Sentinel-2 image after 2022-01-25, whose values are 1,000 too high unless that was taken "
            f"out: {_either(option, number)}"
        )


def offset_of_item(item: pystac.Item, stated: float | None, given: float | None) -> tuple[float | None, bool]:
    """What is to be added to the Sentinel-2 values of an item, None where it does not say it; and whether that stands
    whatever the user says.

    Values of a baseline before 04.00 never carry the 1,000, and what the user says is for the others.

    Args:
        item: of Sentinel-2.
        stated: the offset of one of its bands.
        given: the offset that the user gives.

    Raises:
        SceneError: its values carry the 1,000 unless somebody took it out, and nobody says.

    """
    stating = ("s2:processing_baseline", "processing:version", "sentinel:processing_baseline")
    numbers = (number_in(item.properties.get(name)) for name in stating)
    baseline = next((number for number in numbers if number is not None), None)
    if baseline is not None and baseline < 4:
        return 0.0, True
    applied = item.properties.get("earthsearch:boa_offset_applied", item.properties.get("sentinel:boa_offset_applied"))
    if applied is not None:
        return (0.0 if applied else -1000.0), False
    if stated is not None:
        return float(round(stated)), False
    if baseline is not None and given is None:
        raise SceneError(
            f"{item.id} is of processing baseline {baseline:05.2f}, whose values are 1,000 too high unless that was "
            f"taken out, and the item does not say: {_either()}"
        )
    return None, False


def number_in(value: Any) -> float | None:
    """A number that metadata may write in words of their own; None for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _tell_differences(found: Mapping[Plane, Linear], names: Mapping[Plane, str], where: str) -> None:
    """Warns where what is taken is not what the file states, or not what its product has."""
    warned = set()
    for plane, (gain, bias) in found.items():
        name, stated = names[plane], plane.stated_scale
        # A tag without an offset leaves it open whether the values carry one, which the user then says.
        if stated.tag and not _same(stated.tag, (gain, bias if stated.offset is not None else stated.tag[1])):
            word, other = "it states", stated.tag
        elif stated.tag and stated.usual and not _same(stated.usual, stated.tag):
            # Sentinel-2 files that state their offset, and bands that are no reflectance, differ from no product.
            if abs(stated.usual[0] / stated.tag[0] - 1) <= _SAME and stated.product.startswith("sentinel-2"):
                continue
            word, other = f"{stated.product} usually has", stated.usual
        else:
            continue
        if not name.startswith(("thermal", "cirrus")) and (word, other) not in warned:
            warned.add((word, other))
            taken = f"{where}: {name} is taken for {_formula(gain, bias)}"
            warnings.warn(f"{taken}, and {word} {_formula(*other)}.", stacklevel=4)


def _same(one: Linear, other: Linear) -> bool:
    return abs(one[0] / other[0] - 1) <= 1e-3 and abs(one[1] - other[1]) <= 1e-3 * max(abs(one[1]), one[0])


def _formula(gain: float, bias: float) -> str:
    return f"value x {gain:.6g}" + (f" {'+' if bias > 0 else '-'} {abs(bias):.6g}" if bias else "")
