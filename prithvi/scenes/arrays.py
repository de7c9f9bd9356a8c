"""Arrays as scenes: what a user already has in memory or opened with rioxarray."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr

from prithvi.bands import check_names
from prithvi.catalog import Sensor
from prithvi.errors import BandError, SceneError
from prithvi.scenes.dates import agree, dated, days_of
from prithvi.scenes.georeference import georeferenced
from prithvi.scenes.labels import ask_for_bands
from prithvi.scenes.layout import FileBand, Layout, refuse_numbers, values_of
from prithvi.scenes.names import are_unnamed
from prithvi.scenes.scales import Scales, scale_tag


def from_array(
    array: xr.DataArray,
    bands: list[str] | dict[str, int] | None,
    told: Sensor | None,
    dates: list[dt.date] | None,
    nodata: float | None,
) -> tuple[xr.DataArray, Layout]:
    """A DataArray as a scene; see `prithvi.open_scene` for the arguments.

    Raises:
        SceneError: other dimensions, no place, or another number of dates.
        BandError: bands that cannot be named.

    """
    where = str(array.attrs.get("source") or array.name or "the array")
    array = georeferenced(array, where)
    steps, count = array.sizes["time"], array.sizes["band"]
    if dates is not None:
        if len(dates) != steps:
            raise SceneError(f"{where} has {steps} dates and {len(dates)} were given.")
        known = days_of(array)
        for day, given in zip(dates if known is None else known, dates, strict=True):
            agree(day, given, f"a step of {where}, by its time,")
        if known is None:
            array = array.assign_coords(time=np.array(dates, dtype="datetime64[ns]"))
    array = _with_dates(array, where)
    names: list[str | None]
    numbers = list(range(count))
    unnamed = bool(array.attrs.get("unnamed"))
    if isinstance(bands, dict):
        refuse_numbers(bands, count, where)
        numbers, names = [number - 1 for number in bands.values()], list(bands)
        array = array.isel(band=numbers)
    elif bands is not None:
        if len(bands) != count:
            raise BandError(f"{where} has {count} bands, and {len(bands)} were named: name each of them.")
        names = list(check_names(bands, told.product if told else None))
    else:
        own = _own_names(array)
        names = ask_for_bands(own, count, told, where)
        unnamed |= own is None or are_unnamed(own)
    missing = values_of(
        nodata,
        array.rio.nodata,
        array.rio.encoded_nodata,
        told.nodata if told else None,
        *array.attrs.get("missing", ()),
    )
    stored = array.drop_attrs(deep=False)
    floats = (
        stored.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64) if array.dtype.kind in "iub" else stored
    )
    floats = (
        without(floats, stored, missing).assign_coords(band=[name or "" for name in names]).assign_attrs(array.attrs)
    )
    kept = [index for index, name in enumerate(names) if name]
    step = {str(names[index]): FileBand(where, numbers[index] + 1) for index in kept}
    stated = _scales(array, count)
    scales = {entry: stated[entry.index - 1].of(told) for entry in step.values()}
    dtype = str(array.attrs.get("dtype", array.dtype))
    layout = Layout([step], {}, None, told, dict.fromkeys(scales, missing), where, dtype, scales, unnamed=unnamed)
    return floats.isel(band=kept), layout


def _with_dates(array: xr.DataArray, where: str) -> xr.DataArray:
    try:
        found = dated(array)
        if "time" not in found.coords or found["time"].dtype.kind == "M":
            return found
        cause = None
    except SceneError as error:
        cause = error
    first = array["time"].values.flat[0]
    raise SceneError(
        f"the time of {where} is no date ({first!r}): give the dates (dates=['2022-05-31', ...])."
    ) from cause


def adjusted(scene: xr.DataArray, layout: Layout) -> xr.DataArray:
    """An array with all bands brought to one scale."""
    if not layout.adjust:
        return scene
    pairs = [layout.adjust.get(entry, (1.0, 0.0)) for entry in layout.steps[0].values()]
    factor, summand = (
        xr.DataArray(np.array(values, scene.dtype), dims="band", coords={"band": scene["band"]})
        for values in zip(*pairs, strict=True)
    )
    attributes = scene.attrs
    result: xr.DataArray = (scene * factor + summand).transpose(*scene.dims).assign_attrs(attributes)
    return result


def _scales(array: xr.DataArray, count: int) -> list[Scales]:
    """What an array says of each band's values: in its attributes where they are as stored, in its encoding where
    xarray or rioxarray has already made reflectance of them (`mask_and_scale=True`).
    """
    said, decoded = array.attrs, array.encoding
    if "gain" in said:  # what `open_scene` gave
        return [Scales((said["gain"], said.get("bias", 0.0)), offset=said.get("offset"))] * count
    stored = [_numbers(said, one, many, count) for one, many in _SAID]
    found = [scale_tag(*pair) for pair in zip(stored[0] or [1.0] * count, stored[1] or [0.0] * count, strict=True)]
    if any(own.tag is not None for own in found):
        return found
    made = [_numbers(decoded, one, many, count) for one, many in _SAID]
    pairs = zip(made[0] or [1.0] * count, made[1] or [0.0] * count, strict=True)
    # Reflectance itself, of which nothing is to be taken away any more.
    return [
        Scales(None) if pair == (1.0, 0.0) else Scales((1.0, 0.0), offset=0.0 if pair[1] else None) for pair in pairs
    ]


_SAID = (("scale_factor", "scales"), ("add_offset", "offsets"))
"""Attributes for all bands and, where rioxarray finds that they differ, for each."""


def _numbers(said: Mapping[Any, Any], one: str, many: str, count: int) -> list[float] | None:
    value = said.get(many, said.get(one))
    try:
        numbers = [float(number) for number in np.atleast_1d(value)] if value is not None else []
    except (TypeError, ValueError):
        return None
    return numbers * count if len(numbers) == 1 else numbers if len(numbers) == count else None


def _own_names(array: xr.DataArray) -> list[str | None] | None:
    """Band names out of the band coordinate, or out of `long_name`, where rioxarray puts a file's descriptions.

    `long_name` stays as it was when bands are chosen or reordered; the coordinate of rioxarray, which numbers the
    file's bands, says which of them are left.
    """
    coordinate = array["band"].values if "band" in array.coords else np.arange(1, array.sizes["band"] + 1)
    if coordinate.dtype.kind in "UO":
        return [str(name) for name in coordinate]
    if not np.array_equal(coordinate, coordinate.astype(int)):
        return None
    described = array.attrs.get("long_name")
    if isinstance(described, (tuple, list)) and coordinate.min() >= 1 and coordinate.max() <= len(described):
        return [str(described[number - 1]) for number in coordinate.astype(int)]
    return None


def without(values: xr.DataArray, stored: xr.DataArray, nodata: Sequence[float]) -> xr.DataArray:
    """`values` with NaN where the stored array has one of the nodata values."""
    for value in nodata:
        if not np.isnan(value):
            values = values.where(stored != value)
    return values
