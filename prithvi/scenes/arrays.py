"""Arrays as scenes: what a user already has in memory or opened with rioxarray."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr

from prithvi.bands import check_names
from prithvi.catalog import Sensor
from prithvi.errors import BandError, SceneError
from prithvi.scenes.dates import agree, dated, days_of
from prithvi.scenes.layout import Layout, ask_for_bands, refuse_numbers


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
    if "band" not in array.dims or not {"y", "x"} <= set(array.dims):
        raise SceneError(f"{where} has dimensions {array.dims}; a scene has (band, y, x) or (time, band, y, x).")
    if array.rio.crs is None:
        raise SceneError(f"{where} has no coordinate reference system: set it with array.rio.write_crs(...).")
    if "time" not in array.dims:
        array = array.expand_dims("time")
    array = array.transpose("time", "band", "y", "x")
    steps, count = array.sizes["time"], array.sizes["band"]
    if dates is not None:
        if len(dates) != steps:
            raise SceneError(f"{where} has {steps} dates and {len(dates)} were given.")
        for stated, given in zip(days_of(array) or (), dates, strict=False):
            agree(stated, given, f"a step of {where}, by its time,")
        if days_of(array) is None:
            array = array.assign_coords(time=np.array(dates, dtype="datetime64[ns]"))
    array = dated(array)
    names: list[str | None]
    if isinstance(bands, dict):
        refuse_numbers(bands, count, where)
        array, names = array.isel(band=[number - 1 for number in bands.values()]), list(bands)
    elif bands is not None:
        if len(bands) != count:
            raise BandError(f"{where} has {count} bands, and {len(bands)} were named: name each of them.")
        names = list(check_names(bands))
    else:
        names = ask_for_bands(_own_names(array), count, told, where)
    missing = {nodata, array.rio.nodata, array.rio.encoded_nodata, told.nodata if told else None}
    missing |= set(array.attrs.get("missing", ()))
    values = (float(value) for value in missing if value is not None)
    known = tuple(value for value in values if not np.isnan(value))
    stored = array.drop_attrs(deep=False)
    floats = (
        stored.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64) if array.dtype.kind in "iub" else stored
    )
    floats = without(floats, stored, known).assign_coords(band=[name or "" for name in names]).assign_attrs(array.attrs)
    kept = [index for index, name in enumerate(names) if name]
    layout = Layout([], {}, None, told, {where: known}, where, str(array.attrs.get("dtype", array.dtype)))
    return floats.isel(band=kept), layout


def _own_names(array: xr.DataArray) -> list[str | None] | None:
    """Band names out of the band coordinate, or out of `long_name`, where rioxarray puts a file's descriptions."""
    if "band" in array.coords and array["band"].dtype.kind in "UO":
        return [str(name) for name in array["band"].values]
    described = array.attrs.get("long_name")
    if isinstance(described, (tuple, list)) and len(described) == array.sizes["band"]:
        return [str(name) for name in described]
    return None


def without(values: xr.DataArray, stored: xr.DataArray, nodata: Sequence[float]) -> xr.DataArray:
    """`values` with NaN where the stored array has one of the nodata values."""
    for value in nodata:
        if not np.isnan(value):
            values = values.where(stored != value)
    return values
