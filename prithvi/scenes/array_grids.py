"""Where arrays lie: their dimensions, coordinate reference system and coordinates, however they state them."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.errors import CRSError as RasterioCRSError

from prithvi.errors import SceneError, first_line
from prithvi.scenes.grids import grid_of_array, write_grid

_CALLED = {
    "lat": "y", "latitude": "y", "northing": "y", "Y": "y", "lon": "x", "longitude": "x", "easting": "x", "X": "x",
    "bands": "band", "channel": "band", "channels": "band", "variable": "band", "t": "time", "date": "time",
}  # fmt: skip
"""What others call the dimensions."""
_CRS = ("proj:projjson", "proj:wkt2", "proj:code")
"""Attributes of the Zarr convention geo-proj, the most exact first."""


def georeferenced(array: xr.DataArray, where: str) -> xr.DataArray:
    """An array as (time, band, y, x) with its CRS and transform written, nothing of its values changed.

    Args:
        array: dimensions (band, y, x) or (time, band, y, x) in any order, or under other common names.
        where: how to call it in a message.

    Raises:
        SceneError: other dimensions, no coordinate reference system or no place, or uneven coordinates.

    """
    # The place may stand in rioxarray's spatial_ref, in a coordinate or attribute `crs`, in the Zarr conventions
    # geo-proj and spatial, or in x and y: in the end it is written in the first form, from which slices tell theirs.
    array, attrs = readable(_dimensions(array, where), where), array.attrs
    try:
        array = with_spatial_ref(array)
    except (RasterioCRSError, ValueError) as error:
        raise SceneError(
            f"{where} states a coordinate reference system that is none ({attrs.get('crs', str(error))!r:.80})."
        ) from error
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
    array = _of_middles(array)
    array = array.assign_attrs(source=attrs.get("source", where))
    if not {"x", "y"} <= set(array.coords):
        written = array.rio.transform(recalc=False)
        array = array.rio.write_transform(_stated(array, where) if written.is_identity else written)
    array = write_grid(array, grid_of_array(array))
    whole = array if "time" in array.dims else array.expand_dims("time")
    return whole.transpose("time", "band", "y", "x")


def readable(array: xr.DataArray, where: str) -> xr.DataArray:
    """The array; its coordinates `band` and `time` are looked at.

    Raises:
        SceneError: one cannot be read.

    """
    # A store whose words are damaged opens without complaint; with pandas 3 pyarrow looks at their letters when they
    # are asked for, and its errors are neither ValueErrors nor UnicodeErrors.
    for name in ("band", "time"):
        try:
            _ = array[name].values if name in array.coords else None
        except Exception as error:
            raise SceneError(
                f"the coordinate '{name}' of {where} cannot be read ({first_line(error)}): is the store damaged? Give "
                f"it anew (array.assign_coords({name}=[...]))."
            ) from error
    return array


def with_spatial_ref(array: xr.DataArray) -> xr.DataArray:
    """An array whose CRS, where it has one, stands in the coordinate `spatial_ref`, and in no other."""
    # A coordinate of another name (`crs` of openEO and of CF) counts because the encoding or an attribute names it, and
    # stackstac's CRS is an attribute itself. Both are lost with the first calculation; `spatial_ref` is found without.
    crs, named = array.rio.crs, array.rio.grid_mapping
    if crs is None or array.drop_attrs(deep=False).drop_encoding().rio.crs == crs:
        return array
    written: xr.DataArray = array.rio.write_crs(crs, grid_mapping_name="spatial_ref")
    return written if named == "spatial_ref" else written.drop_vars(named, errors="ignore")


def _dimensions(array: xr.DataArray, where: str) -> xr.DataArray:
    spatial = array.attrs.get("spatial:dimensions")
    if spatial is not None and len(spatial) != 2:
        raise SceneError(
            f"the attribute spatial:dimensions of {where} names {len(spatial)} dimensions "
            f"({', '.join(map(str, spatial))}), and a scene has two, those of rows and of columns: name these two in "
            "it, or leave it out."
        )
    names = _CALLED if spatial is None else {**_CALLED, **dict(zip(spatial, ("y", "x"), strict=True))}
    meant = {name: names.get(str(name), name) for name in array.dims}
    renamed = {name: other for name, other in meant.items() if other not in array.dims}
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


def _of_middles(array: xr.DataArray) -> xr.DataArray:
    """An array with the middles of its pixels in x and y, where these are their upper left corners, as stackstac writes
    them by default; the transform in its attributes tells which.
    """
    stated = array.attrs.get("transform")
    numbers = list(stated)[:6] if isinstance(stated, (Affine, tuple, list)) else []
    numeric = len(numbers) == 6 and all(isinstance(number, (int, float, np.number)) for number in numbers)
    if not numeric or not numbers[0] * numbers[4] or not {"x", "y"} <= set(array.coords):
        return array
    (width, _, left), (_, height, top) = numbers[:3], numbers[3:]
    moved = {}
    for axis, start, step in (("x", left, width), ("y", top, height)):
        values = array[axis].values.astype(np.float64)
        places = (values - start) / step
        # Of every second pixel, or of means over two, it cannot be told: corners of the one are middles of the other.
        if np.abs(places - np.round(places)).max() > 0.1 or np.abs(np.abs(np.diff(places)) - 1).max(initial=0) > 0.1:
            return array
        moved[axis] = values + step / 2
    return array.assign_coords(moved)


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


def called(name: Hashable) -> str:
    """What a dimension is called here; its own name where that is no common one."""
    return _CALLED.get(str(name), str(name))
