"""Where pixels lie, and whether two rasters lie on the same ones: the one comparison of the whole house.

Where pixels lie is a `GeoBox` of odc-geo: rows and columns, a transform, a coordinate reference system. Files spell the
same system in many ways (an EPSG code, WKT 1 and 2, Esri's WKT, "UTM Zone 15, Northern Hemisphere"), and round their
corners in the last digits, so neither is compared as text or digit by digit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from prithvi.errors import SceneError
from prithvi.scenes.info import name_of

TOLERANCE = 1e-3
"""Pixels that the corners of one and the same grid may lie apart."""
_UNEVEN = 0.1
"""Pixels that coordinates may lie beside even steps: what float32 does to metres, and less than a lost row."""
_UNSTATED = re.compile(r"(unknown|not[ _]specified|unnamed|undefined)", re.I)
_WGS84 = re.compile(r"(world[ _]geodetic[ _]system|wgs)[ _]1984", re.I)
Floats = npt.NDArray[np.float64]
Array = TypeVar("Array", xr.DataArray, xr.Dataset)


def grid_of(raster: Any) -> GeoBox:
    """The grid of an open raster file."""
    return _grid(raster.height, raster.width, raster.transform, raster.crs)


def grid_of_array(array: xr.DataArray) -> GeoBox:
    """The grid of an array with the dimensions y and x, or of a selection of one: slices, every nth pixel, one row.

    Raises:
        SceneError: x or y go in uneven steps; or one row or column of an array that states no size of pixels.

    """
    return _grid(array.sizes["y"], array.sizes["x"], _transform(array), array.rio.crs)


def _grid(height: int, width: int, transform: Affine, crs: Any) -> GeoBox:
    return GeoBox((height, width), transform, None if crs is None else crs.to_wkt())


def difference(one: GeoBox, other: GeoBox) -> str | None:
    """What tells two grids apart, as the end of a sentence; None where they are the same.

    The same are grids with as many rows and columns, with one coordinate reference system by its meaning (see
    `same_crs`; one that is not stated contradicts none), and with corners within a thousandth of a pixel.

    Args:
        one: named first in what is told.
        other: named second.

    """
    # Everything that differs is told at once, so that nobody mends the CRS only to be told of the corners next.
    found = []
    if one.crs is not None and other.crs is not None and not same_crs(one, other):
        found.append(f"their coordinate reference systems are {called(one)} and {called(other)}")
    if one.shape != other.shape:
        found.append(f"they have {one.shape[0]} x {one.shape[1]} and {other.shape[0]} x {other.shape[1]} pixels")
    first, second = _pixel(one), _pixel(other)
    if not np.allclose(first, second, rtol=1e-3):
        found.append(f"their pixels measure {_sides(first)} and {_sides(second)}")
    elif (apart := _apart(one, other)) > TOLERANCE:
        found.append(f"their corners lie up to {apart:.3g} pixels apart")
    return ", ".join([", ".join(found[:-1]) + " and " + found[-1]] if len(found) > 1 else found) or None


def repeats(coarse: GeoBox, fine: GeoBox) -> int | None:
    """How often each pixel of one grid stands beside and below itself on another; None where they do not fit.

    They fit if both begin at one corner, in one coordinate reference system, with pixels that divide each other; the
    coarse one may reach beyond the fine one by less than one of its pixels.
    """
    # If the coarse grid's pixels, divided, are the fine grid's, repeating them is exact.
    larger = abs(coarse.affine.determinant / fine.affine.determinant) ** 0.5
    if not math.isfinite(larger):  # a transform of NaN
        return None
    ratio = max(1, round(larger))
    repeated = GeoBox(fine.shape, coarse.affine @ Affine.scale(1 / ratio), coarse.crs)
    beyond = coarse.shape[0] * ratio - fine.shape[0], coarse.shape[1] * ratio - fine.shape[1]
    fits = difference(repeated, fine) is None and all(0 <= pixels < ratio for pixels in beyond)
    return ratio if fits else None


def same_crs(one: GeoBox, other: GeoBox) -> bool:
    """Whether two grids are counted in the same coordinates, however that is written.

    Names decide nothing. The two need one datum, and projections that give the corners of `one` the same numbers to a
    thousandth of a pixel. A datum that is not stated ("Unknown datum based upon the WGS 84 ellipsoid", as in granules
    of HLS 2.0) goes with any on the same ellipsoid and prime meridian; the realizations of WGS 84 are one datum, as in
    its EPSG ensemble. NAD27, NAD83, ETRS89 and WGS 84 are four.
    """
    assert one.crs is not None
    assert other.crs is not None
    if str(one.crs) == str(other.crs):
        return True
    x, y = _corners(one.affine, one.shape)
    return _same_crs(one.crs.proj, other.crs.proj, tuple(x), tuple(y), TOLERANCE * min(_pixel(one)))


@lru_cache(maxsize=256)
def _same_crs(one: CRS, other: CRS, x: tuple[float, ...], y: tuple[float, ...], tolerance: float) -> bool:
    # PROJ is sure of a yes. Its no is none: it says so of EPSG:3035 and the WKT 1 that GDAL writes of it.
    if one.equals(other, ignore_axis_order=True):
        return True
    (first, shift), (second, other_shift) = _horizontal(one), _horizontal(other)
    if first.geodetic_crs is None or second.geodetic_crs is None or not _same_datum(first, second):
        return False
    if shift != other_shift and any(_UNSTATED.match(_datum(crs)) for crs in (first, second)):
        return False
    try:
        back = Transformer.from_crs(first, first.geodetic_crs, always_xy=True)
        forth = Transformer.from_crs(second.geodetic_crs, second, always_xy=True)
        moved = forth.transform(*back.transform(np.array(x), np.array(y)))
    except ProjError:
        return False
    return bool(np.abs(np.array(moved) - np.array([x, y])).max() <= tolerance)  # what is inf or NaN is not


@lru_cache(maxsize=256)
def has_place(wkt: str) -> bool:
    """Whether coordinates of a CRS lie somewhere on Earth: not those of an engineering CRS, such as the "Undefined
    Cartesian SRS" that GeoPackage (its srs_id -1) has for coordinates of no known system.
    """
    try:
        return CRS.from_wkt(wkt).geodetic_crs is not None and bool(Transformer.from_crs(wkt, "EPSG:4326"))
    except ProjError:
        return False


def _horizontal(crs: CRS) -> tuple[CRS, tuple[float, ...]]:
    """A system without heights and without the shift to WGS 84 that some WKT 1 carries, and that shift."""
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    shift: tuple[float, ...] = ()
    if crs.is_bound and crs.source_crs is not None:
        numbers = crs.coordinate_operation.towgs84 if crs.coordinate_operation is not None else []
        crs, shift = crs.source_crs, tuple(numbers) if any(numbers) else ()
    return (crs.to_2d() if len(crs.axis_info) == 3 else crs), shift


def _same_datum(one: CRS, other: CRS) -> bool:
    bodies = [crs.ellipsoid for crs in (one, other)]
    sizes = [np.array([body.semi_major_metre, body.semi_minor_metre]) if body else np.empty(0) for body in bodies]
    starts = [crs.prime_meridian for crs in (one, other)]
    degrees = [0.0 if at is None else float(at.longitude) * float(at.unit_conversion_factor) for at in starts]
    units = [crs.geodetic_crs.axis_info[0].unit_conversion_factor if crs.geodetic_crs else None for crs in (one, other)]
    # GRS 80 and WGS 84 differ by a tenth of a millimetre at the poles, and are two.
    if 0 in map(len, sizes) or np.abs(sizes[0] - sizes[1]).max() > 1e-5 or abs(degrees[0] - degrees[1]) > 1e-9:
        return False
    # EPSG turned WGS 84 and ETRS89 into ensembles in 2020; WKT 1 knows none, and names the datum without the word.
    names = [_datum(crs).removesuffix(" ensemble") for crs in (one, other)]
    unstated = any(map(_UNSTATED.match, names))
    return units[0] == units[1] and (unstated or names[0] == names[1] or all(map(_WGS84.match, names)))


def _datum(crs: CRS) -> str:
    return crs.datum.name if crs.datum is not None else "unknown"


def called(grid: GeoBox) -> str:
    """The code and name of a grid's coordinate reference system, for a message."""
    if grid.crs is None:
        return "none"
    crs = grid.crs.proj
    code = crs.to_authority()
    return f"{code[0]}:{code[1]} ({crs.name})" if code else f"{crs.name!r}"


def _corners(at: Affine, shape: Sequence[int]) -> Floats:
    """(2, 4) x and y of the outer corners."""
    height, width = float(shape[0]), float(shape[1])
    return np.array([at @ corner for corner in ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))]).T


def _apart(one: GeoBox, other: GeoBox) -> float:
    """Pixels of `one` that the same corners lie apart at most."""
    moved = _corners(~one.affine @ other.affine, one.shape)
    return float(np.abs(moved - _corners(Affine.identity(), one.shape)).max())


def _pixel(grid: GeoBox) -> tuple[float, float]:
    """Width and height of a pixel."""
    at = grid.affine
    return float(np.hypot(at.a, at.d)), float(np.hypot(at.b, at.e))


def _sides(sides: tuple[float, float]) -> str:
    width, height = (f"{side:.6g}" for side in sides)
    return width if width == height else f"{width} x {height}"


def transform_of(scene: xr.DataArray) -> Affine:
    """The transform of `grid_of_array`."""
    return grid_of_array(scene).affine


def is_turned(grid: GeoBox) -> bool:
    """Whether rows do not run along x, or columns not along y, by more than two grids of one place may differ."""
    at = grid.affine
    straight = Affine(at.a, 0.0, at.c, 0.0, at.e, at.f)
    return _apart(grid, GeoBox(grid.shape, straight, grid.crs)) > TOLERANCE


def write_grid(array: Array, grid: GeoBox) -> Array:
    """An array with its transform, and with the coordinates from which slices of it tell their place.

    These are the middles of pixels as long as rows run along x. Turned grids have no such coordinates; theirs count
    pixels from the outer corner, as odc-geo has it. Coordinates that an array of the first kind has already stay.
    """
    x, y = array.sizes["x"], array.sizes["y"]
    if is_turned(grid):
        counted = {axis: (axis, np.arange(size) + 0.5, {"units": "pixel"}) for axis, size in (("x", x), ("y", y))}
        array = array.assign_coords(counted)
    elif not {"x", "y"} <= set(array.coords):
        middle = grid.affine @ Affine.translation(0.5, 0.5)
        array = array.assign_coords(x=middle.a * np.arange(x) + middle.c, y=middle.e * np.arange(y) + middle.f)
    written: Array = array.rio.write_transform(grid.affine)
    return written


def _transform(scene: xr.DataArray) -> Affine:
    # Beside coordinates rioxarray gives their first corner instead of the one that is written.
    written: Affine = scene.drop_vars(["x", "y"], errors="ignore").rio.transform(recalc=False)
    if not {"x", "y"} <= set(scene.coords):
        return written
    # odc-geo looks at two coordinates of each axis, and would take uneven steps for even ones; here all count.
    counted = all(scene[axis].attrs.get("units") == "pixel" for axis in ("x", "y"))
    left, width = _start(scene, "x", 1.0 if counted else written.a)
    top, height = _start(scene, "y", 1.0 if counted else written.e)
    present = Affine(width, 0.0, left, 0.0, height, top)
    if counted:
        return written @ present
    size = scene.sizes["y"], scene.sizes["x"]
    if is_turned(GeoBox(size, written, None)):
        raise SceneError(
            f"{name_of(scene)} states a rotated transform, and x and y of its own, which no rotated grid has: drop one "
            "of the two (array.drop_vars(['x', 'y']))."
        )
    if written.is_identity and 1 in size:
        raise SceneError(
            f"{name_of(scene)} has {size[0]} x {size[1]} pixels and does not say how large they are: write it with "
            "array.rio.write_transform(...)."
        )
    # Coordinates may be rounded (to float32, say): what is written is exact, if it is meant.
    meant = _apart(*(GeoBox(size, at, None) for at in (written, present))) <= _UNEVEN
    return written if not written.is_identity and meant else present


def _start(scene: xr.DataArray, axis: str, written: float) -> tuple[float, float]:
    """Where the first pixel begins, and the step to the next."""
    middles = np.asarray(scene[axis].values, dtype=np.float64)
    steps = len(middles) - 1
    step = (middles[-1] - middles[0]) / steps if steps else written
    beside = np.abs(middles - (middles[0] + step * np.arange(len(middles)))).max()
    if not beside <= _UNEVEN * abs(step):
        raise SceneError(
            f"the {axis} of {name_of(scene)} does not go in even steps (its values lie up to {beside:.3g} beside steps "
            f"of {step:.6g}), so that no map can lie on it: take every pixel or every nth of them, or bring it onto "
            "an even grid ('gdalwarp', array.interp)."
        )
    return float(middles[0] - step / 2), float(step)
