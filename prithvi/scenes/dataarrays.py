"""Arrays as scenes: what a user already has in memory or opened with rioxarray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr

from prithvi.catalog import Sensor
from prithvi.errors import BandError, SceneError, counted
from prithvi.scenes.array_grids import called, georeferenced
from prithvi.scenes.band_naming import are_unnamed, ask_for_bands, common_names
from prithvi.scenes.info import Given, Scales, SceneInfo, scale_tag
from prithvi.scenes.layout import Layout, refuse_numbers
from prithvi.scenes.names import agree, dated, days_of
from prithvi.scenes.raster_files import Plane, floating, values_of


def from_array(source: xr.DataArray | xr.Dataset, given: Given) -> tuple[xr.DataArray, Layout]:
    """A DataArray as a scene, or the one array of a Dataset; see `prithvi.open_scene` for what is given.

    Raises:
        SceneError: other dimensions, no place, or another number of dates.
        BandError: bands that cannot be named.

    """
    sensor, bands, dates = given.sensor, given.bands, given.dates
    array = _of_dataset(source, sensor) if isinstance(source, xr.Dataset) else source
    where = str(SceneInfo.of(array).source or array.name or "the array")
    array = georeferenced(array, where)
    steps, count, scales = array.sizes["time"], array.sizes["band"], _scales(array, where)
    if dates is not None:
        if len(dates) != steps:
            raise SceneError(f"{where} has {counted(steps, 'date')} and {len(dates)} were given.")
        known = days_of(array)
        if known is None:
            array = array.assign_coords(time=np.array(dates, dtype="datetime64[ns]"))
        for day, said in zip(known or dates, dates, strict=True):
            agree(day, said, f"a step of {where}, by its time,")
    array = _in_order_of_time(_with_dates(array, where))
    names: list[str | None]
    numbers = list(range(1, count + 1))
    unnamed = bool(array.attrs.get("unnamed"))
    if isinstance(bands, dict):
        refuse_numbers(bands, count, where)
        numbers, names = list(bands.values()), list(bands)
        array = array.isel(band=[number - 1 for number in numbers])
    elif bands is not None:
        if len(bands) != count:
            raise BandError(f"{where} has {count} bands, and {len(bands)} were named: name each of them.")
        names = list(given.names)
    else:
        own = _own_names(array)
        names = ask_for_bands(own, count, sensor, where)
        unnamed |= own is None or are_unnamed(own)
    declared = array.rio.nodata, array.rio.encoded_nodata, *array.attrs.get("missing", ())
    missing = values_of(given.nodata, sensor.nodata if sensor else None, *declared)
    # Nodata is compared with the values as they are stored, and NaN is put into their float form: an integer type has
    # none, and a float one may not hold the stored value exactly.
    stored = array.drop_attrs(deep=False)
    floats = stored.astype(floating(array.dtype)) if array.dtype.kind in "iub" else stored
    for value in missing:
        floats = floats.where(stored != value)
    floats = floats.assign_coords(band=[name or "" for name in names]).assign_attrs(array.attrs)
    # Bands whose names say nothing (masks, angles) are left out, as of files.
    kept = [index for index, name in enumerate(names) if name]
    dtype = str(array.attrs.get("dtype", array.dtype))
    step = {
        str(name): Plane(where, number, dtype, missing, scales[number - 1].of(sensor))
        for name, number in zip(names, numbers, strict=True)
        if name
    }
    return floats.isel(band=kept), Layout([step], {}, None, sensor, where, unnamed=unnamed)


def _with_dates(array: xr.DataArray, where: str) -> xr.DataArray:
    cause = None
    try:
        array = dated(array)
    except SceneError as error:
        cause = error
    if "time" in array.coords and array["time"].dtype.kind != "M":
        first = array["time"].values.flat[0]
        raise SceneError(
            f"the time of {where} is no date ({first!r}): give the dates (dates=['2022-05-31', ...])."
        ) from cause
    return array


def _in_order_of_time(array: xr.DataArray) -> xr.DataArray:
    """As of files, however they are listed: models of several dates are made for the earliest first."""
    if "time" not in array.coords:
        return array
    order = np.argsort(array["time"].values, kind="stable")
    return array if np.array_equal(order, np.arange(order.size)) else array.isel(time=order)


def adjusted(scene: xr.DataArray, layout: Layout) -> xr.DataArray:
    """An array with all bands brought to one scale."""
    pairs = [plane.adjust for plane in layout.steps[0].values()]
    if set(pairs) <= {(1.0, 0.0)}:
        return scene
    # Each band has one pair of numbers, laid along the band axis, so that a lazy array stays lazy.
    factor, summand = (
        xr.DataArray(np.array(values, scene.dtype), dims="band", coords={"band": scene["band"]})
        for values in zip(*pairs, strict=True)
    )
    result: xr.DataArray = (scene * factor + summand).transpose(*scene.dims).assign_attrs(scene.attrs)
    return result


_SAID = (("scale_factor", "scales", 1.0), ("add_offset", "offsets", 0.0))
"""Attributes for all bands and, where rioxarray finds that they differ, for each; and what is meant without them."""


def _scales(array: xr.DataArray, where: str) -> list[Scales]:
    """What an array says of each band's values: in its attributes where they are as stored, in its encoding where
    xarray or rioxarray has already made reflectance of them (`mask_and_scale=True`).

    Raises:
        BandError: it has a scale for each band of a file, and which are those of its own cannot be told.

    """
    count, places = array.sizes["band"], _places_in_file(array)
    if "gain" in array.attrs:  # what `open_scene` gave
        said = array.attrs
        return [Scales((said["gain"], said.get("bias", 0.0)), offset=said.get("offset"))] * count
    # Values as stored keep their scale in attrs. Decoded ones (mask_and_scale=True) keep it in their encoding, as a
    # note of what was done, and are reflectance by now.
    stored, decoded = (
        list(zip(*(_number_of_each_band(said, *names, count, places, where) for names in _SAID), strict=True))
        for said in (array.attrs, array.encoding)
    )
    found = [scale_tag(*pair) for pair in stored]
    if any(own.tag is not None for own in found):
        return found
    # Reflectance itself, of which nothing is to be taken away any more.
    return [
        Scales(None) if pair == (1.0, 0.0) else Scales((1.0, 0.0), offset=0.0 if pair[1] else None) for pair in decoded
    ]


def _number_of_each_band(
    said: Mapping[Any, Any], one: str, many: str, usual: float, count: int, places: Sequence[int] | None, where: str
) -> list[float]:
    value = said.get(many, said.get(one))
    try:
        numbers = [float(number) for number in np.atleast_1d(value)] if value is not None else []
    except (TypeError, ValueError):
        numbers = []
    if len(set(numbers)) <= 1:
        return [numbers[0] if numbers else usual] * count
    # rioxarray keeps the numbers of all bands of a file when bands are chosen or reordered.
    if places and max(places) <= len(numbers):
        return [numbers[place - 1] for place in places]
    if len(numbers) != count:
        raise BandError(
            f"{where} has {counted(count, 'band')} and {len(numbers)} {many}, one for each band of its file: whose "
            "they are cannot be told. Name the bands last: array.sel(band=[3, 2, 1]) with their numbers in the file, "
            "then open_scene(array, bands=[...])."
        )
    return numbers


def _places_in_file(array: xr.DataArray) -> list[int] | None:
    """The numbers of the bands in their file, counted from 1, which rioxarray has as their coordinate, or where that
    holds the file's descriptions, by their places among these; None where they are not known.
    """
    if "band" not in array.coords:
        return None
    stated, described = array["band"].values, array.attrs.get("long_name")
    if stated.dtype.kind in "UOT" and isinstance(described, (tuple, list)):
        places = {str(name): place for place, name in enumerate(described, start=1)}
        known = len(places) == len(described) and set(map(str, stated)) <= set(places)
        return [places[str(name)] for name in stated] if known else None
    if stated.dtype.kind not in "iuf" or not stated.size or not np.array_equal(stated, stated.astype(int)):
        return None
    return stated.astype(int).tolist() if stated.min() >= 1 else None


def _own_names(array: xr.DataArray) -> list[str | None] | None:
    """Band names out of the band coordinate, or out of `long_name`, where rioxarray puts a file's descriptions.

    `long_name` stays as it was when bands are chosen or reordered; the coordinate of rioxarray, which numbers the
    file's bands, says which of them are left.
    """
    if "band" in array.coords and array["band"].dtype.kind in "UOT":  # the last are numpy's strings of any length,
        return [str(name) for name in array["band"].values]  # which Zarr 3 gives
    described = array.attrs.get("long_name")
    places = _places_in_file(array) if "band" in array.coords else list(range(1, array.sizes["band"] + 1))
    if places and isinstance(described, (tuple, list)) and max(places) <= len(described):
        return [str(described[place - 1]) for place in places]
    return None


_STORED = ("scale_factor", "add_offset", "_FillValue", "missing_value", "nodata", "units", "valid_range", "dtype")
"""What an array says of how its values are stored."""


def _of_dataset(dataset: xr.Dataset, sensor: Sensor | None) -> xr.DataArray:
    """The one array of a Dataset: its variable with bands, or its variables that are called as bands, one on another.

    Raises:
        SceneError: neither, or bands whose values are not stored alike.

    """
    where = str(dataset.attrs.get("source") or "the Dataset")
    dataset = dataset.set_coords([name for name, values in dataset.data_vars.items() if values.ndim == 0])
    found = {str(name): values for name, values in dataset.data_vars.items()}
    # Either one variable has all the bands, or each band is a variable. A Dataset with both is ambiguous unless there
    # is exactly one stack.
    stacks = [name for name, values in found.items() if values.ndim > 2 and "band" in map(called, values.dims)]
    flat = {name: values for name, values in found.items() if {"y", "x"} <= set(map(called, values.dims))}
    known = common_names(list(flat), sensor, where) if flat and not stacks else []
    chosen = [name for name, common in zip(flat, known, strict=True) if common] if known else []
    if len(stacks) != 1 and not chosen:
        raise SceneError(
            f"{where} has {', '.join(found) or 'nothing'}; a scene is one array with bands, or variables that are "
            "called as bands (blue, B02, ...): take the array out of it (dataset['NAME'])."
        )
    attrs = {key: value for key, value in dataset.attrs.items() if key.startswith(("proj:", "spatial:"))}
    if len(stacks) == 1:
        array = found[stacks[0]]
    else:
        first = _stored(found[chosen[0]])
        for name in chosen[1:]:
            if _stored(found[name]) != first:
                raise SceneError(
                    f"{where}: {name} is stored in another way than {chosen[0]} ({_stored(found[name])} and {first}): "
                    "bring both to reflectance first, and give one array."
                )
        parts = [found[name].drop_attrs() for name in chosen]
        array = xr.concat(parts, dim="band", join="exact", coords="minimal", compat="override")
        array = array.assign_coords(band=chosen).assign_attrs(found[chosen[0]].attrs)
        array.encoding = dict(found[chosen[0]].encoding)
    if array.rio.crs is None and dataset.rio.crs is not None:
        array = array.rio.write_crs(dataset.rio.crs)
    return array.assign_attrs({**attrs, **array.attrs})


def _stored(array: xr.DataArray) -> Mapping[str, Any]:
    """How the values of an array are to be read, in a form of which two can be compared."""
    said = {**array.encoding, **array.attrs}
    return {"dtype": str(array.dtype), **{key: _comparable(said[key]) for key in _STORED if key in said}}


def _comparable(value: Any) -> Any:
    # NaN, which xarray writes as the fill of every float variable, differs from itself, and of two ranges numpy says of
    # each number whether it is the same.
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "biuf":
        return str(value)
    plain = ["NaN" if number != number else number for number in numbers.ravel().tolist()]
    return plain[0] if len(plain) == 1 else plain


def refuse_plain(source: Any) -> NoReturn:
    """Raises SceneError for an array that is none of xarray's."""
    raise SceneError(
        f"a {type(source).__module__.partition('.')[0]} array of the shape {tuple(source.shape)} was given, which "
        "knows neither its bands nor its place: wrap it (xarray.DataArray(array, dims=('band', 'y', 'x'))"
        ".rio.write_crs('EPSG:...').rio.write_transform(Affine(10, 0, WEST, 0, -10, NORTH))), and name the bands."
    )
