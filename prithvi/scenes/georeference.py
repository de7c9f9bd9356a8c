"""What an array says of its place and dates, in the many ways there are, brought to one: dimensions (time, band, y, x),
a CRS and a transform as rioxarray writes them, and dates as numpy has them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from prithvi.catalog import Sensor
from prithvi.errors import SceneError
from prithvi.scenes.grids import transform_of
from prithvi.scenes.names import common_names

_CALLED = {
    "lat": "y", "latitude": "y", "northing": "y", "Y": "y", "lon": "x", "longitude": "x", "easting": "x", "X": "x",
    "bands": "band", "channel": "band", "channels": "band", "variable": "band", "t": "time", "date": "time",
}  # fmt: skip
"""What others call the dimensions."""
_CRS = ("proj:projjson", "proj:wkt2", "proj:code")
"""Attributes of the Zarr convention geo-proj, the most exact first."""
_STORED = ("scale_factor", "add_offset", "_FillValue", "missing_value", "nodata", "units", "valid_range", "dtype")
"""What an array says of how its values are stored."""


def georeferenced(array: xr.DataArray, where: str) -> xr.DataArray:
    """An array as (time, band, y, x) with its CRS and transform written, nothing of its values changed.

    Args:
        array: dimensions (band, y, x) or (time, band, y, x) in any order, or under other common names.
        where: how to call it in a message.

    Raises:
        SceneError: other dimensions, no coordinate reference system or no place, or uneven coordinates.

    """
    array = _dimensions(array, where)
    attrs = array.attrs
    if array.rio.crs is None:
        stated = next((attrs[key] for key in _CRS if attrs.get(key)), None)
        if stated is None:
            raise SceneError(
                f"{where} has no coordinate reference system: write it with array.rio.write_crs('EPSG:...')."
            )
        try:
            array = array.rio.write_crs(CRS.from_user_input(stated).to_wkt())
        except CRSError as error:
            raise SceneError(f"{where} states a coordinate reference system that is none ({stated!r:.80}).") from error
    if all(_counts_pixels(array, axis) for axis in ("x", "y")):  # numbers of columns and rows are no place
        array = array.drop_vars(["x", "y"])
    if not {"x", "y"} <= set(array.coords):
        written = array.rio.transform(recalc=False)
        array = array.rio.write_transform(_stated(array, where) if written.is_identity else written)
    array = array.assign_attrs(source=attrs.get("source", where))
    transform_of(array)  # says so where x or y go in uneven steps
    whole = array if "time" in array.dims else array.expand_dims("time")
    return whole.transpose("time", "band", "y", "x")


def _dimensions(array: xr.DataArray, where: str) -> xr.DataArray:
    spatial = array.attrs.get("spatial:dimensions")
    if spatial is not None and len(spatial) != 2:
        raise SceneError(
            f"the attribute spatial:dimensions of {where} names {len(spatial)} dimensions "
            f"({', '.join(map(str, spatial))}), and a scene has two, those of rows and of columns: name these two in "
            "it, or leave it out."
        )
    names: dict[Hashable, str] = dict(zip(spatial, ("y", "x"), strict=True)) if spatial is not None else {}
    renamed = {
        name: meant
        for name in array.dims
        if (meant := names.get(name) or _CALLED.get(str(name))) and meant != name and meant not in array.dims
    }
    # A date of an array without a time axis is called so, too.
    array = array.rename(renamed)
    dims = set(array.dims)
    if len(set(renamed.values())) < len(renamed) or not {"band", "y", "x"} <= dims or dims - {"time", "band", "y", "x"}:
        raise SceneError(
            f"{where} has the dimensions ({', '.join(map(str, array.dims))}); a scene has (band, y, x) or (time, band, "
            "y, x): rename them (array.rename({'old': 'band'})), or add one (array.expand_dims('band'))."
        )
    return array


def _counts_pixels(array: xr.DataArray, axis: str) -> bool:
    """Whether an axis only numbers its pixels, from 0 or from the middle of the first, and odc-geo did not do it."""
    if axis not in array.coords or array[axis].attrs.get("units") == "pixel":
        return False
    numbers = np.arange(array.sizes[axis])
    return any(np.array_equal(array[axis].values, numbers + start) for start in (0, 0.5))


def _stated(array: xr.DataArray, where: str) -> Affine:
    """The transform of the Zarr convention spatial; an array without x and y, and without a transform, has no other."""
    attrs = array.attrs
    numbers = [float(number) for number in attrs.get("spatial:transform") or ()]
    if len(numbers) != 6 or not any(numbers):
        raise SceneError(
            f"{where} has a coordinate reference system and no place: give it its coordinates (array.assign_coords(x="
            "..., y=...), the middles of pixels), or write its transform (array.rio.write_transform(Affine(10, 0, "
            "WEST, 0, -10, NORTH)))."
        )
    shape = attrs.get("spatial:shape")
    if shape is not None and list(shape) != [array.sizes["y"], array.sizes["x"]]:
        raise SceneError(
            f"{where} has {array.sizes['y']} x {array.sizes['x']} pixels, and its attribute spatial:transform is that "
            f"of {' x '.join(map(str, shape))}: which part this is cannot be told. Write its own "
            "(array.rio.write_transform(...))."
        )
    at = Affine(*numbers)
    if attrs.get("spatial:registration") == "node":  # the numbers are of the middles of pixels
        at = at @ Affine.translation(-0.5, -0.5)
    return at


def of_dataset(dataset: xr.Dataset, told: Sensor | None) -> xr.DataArray:
    """The one array of a Dataset: its variable with bands, or its variables that are called as bands, one on another.

    Raises:
        SceneError: neither, or bands whose values are not stored alike.

    """
    where = str(dataset.attrs.get("source") or "the Dataset")
    dataset = dataset.set_coords([name for name, values in dataset.data_vars.items() if values.ndim == 0])
    found = {str(name): values for name, values in dataset.data_vars.items()}
    stacks = [name for name, values in found.items() if values.ndim > 2 and "band" in map(_called, values.dims)]
    flat = {name: values for name, values in found.items() if {"y", "x"} <= set(map(_called, values.dims))}
    known = common_names(list(flat), told, where) if flat and not stacks else []
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


def _called(name: Hashable) -> str:
    return _CALLED.get(str(name), str(name))


def _stored(array: xr.DataArray) -> Mapping[str, Any]:
    """How the values of an array are to be read."""
    said = {**array.encoding, **array.attrs}
    return {"dtype": str(array.dtype), **{key: said[key] for key in _STORED if key in said}}


def refuse_plain(source: object) -> None:
    """Raises SceneError for an array that is none of xarray's."""
    shape: Sequence[int] | None = getattr(source, "shape", None)
    if shape is not None and hasattr(source, "dtype"):
        raise SceneError(
            f"a {type(source).__module__.partition('.')[0]} array of the shape {tuple(shape)} was given, which knows "
            "neither its bands nor its place: wrap it (xarray.DataArray(array, dims=('band', 'y', 'x')).rio.write_crs("
            "'EPSG:...').rio.write_transform(Affine(10, 0, WEST, 0, -10, NORTH))), and name the bands."
        )
