"""Polygons as people draw them, and outlines of grids: mended, and kept together or cut at the date line.

Outlines are said as GeoJSON wants it (RFC 7946).
"""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError
from shapely.affinity import translate
from shapely.geometry.polygon import orient

from prithvi.errors import SceneError

Coordinates = npt.NDArray[np.float64]
_POLYGONAL = (3, 6)
"""shapely's type numbers of Polygon and MultiPolygon."""
_COLLECTION = 7
_NAMED = 3
"""Mended features that a note names."""
_DECIMALS = 7
"""Of longitudes and latitudes of outlines; about a centimetre."""
RASTERIO_LOCK = threading.Lock()
"""To be held while rasterio burns or warps: it silences a warning of its own then, and Python's warning filter is not
thread-safe, so that two threads at once undo that for one another.
"""


def sound(shapes: gpd.GeoSeries, source: str) -> npt.NDArray[Any]:
    """The geometries of some features, valid; a note says which were mended, and how large they are now.

    Args:
        shapes: of any kind and with a reference system; None and empty ones stay what they are.
        source: what the note calls them.

    Warns:
        UserWarning: features were mended, or reach around the Earth.

    """
    result, broken = mend(shapes.to_numpy())
    if shapes.crs.is_geographic:
        parts = shapely.bounds(shapely.get_parts(result[~shapely.is_missing(result)]))
        around = int((parts[:, 2] - parts[:, 0] > 180).sum())
        if around:
            warnings.warn(
                f"{source}: {around} polygons are more than 180 degrees wide and are taken as they are drawn, around "
                "the Earth. One that was meant to cross the date line has to be cut there, at 180 and -180 degrees.",
                stacklevel=3,
            )
    if broken.any():
        some = np.flatnonzero(broken)[:_NAMED]
        sizes = ", ".join(f"number {at + 1} has {_square_kilometres(result[at], shapes.crs):.4g} km2" for at in some)
        more = f", and {broken.sum() - len(some)} more" if broken.sum() > len(some) else ""
        warnings.warn(
            f"{source}: {broken.sum()} of {len(shapes)} features cross or cover themselves and were mended; what is "
            f"drawn twice counts once. Check that the areas are what was meant: {sizes}{more}.",
            stacklevel=3,
        )
    return result


def clip(shapes: npt.NDArray[Any], frame: Any) -> npt.NDArray[Any]:
    """What of valid geometries lies in a frame, each of the kind that it was; empty where a border only touches it."""
    inside: npt.NDArray[Any] = shapely.intersection(shapes, frame)
    for at in np.flatnonzero(shapely.get_type_id(inside) == _COLLECTION):
        parts = shapely.get_parts(inside[at])
        inside[at] = shapely.union_all(parts[shapely.get_dimensions(parts) == shapely.get_dimensions(shapes[at])])
    inside[shapely.get_dimensions(inside) < shapely.get_dimensions(shapes)] = shapely.Polygon()
    return inside


def mend(shapes: Sequence[Any] | npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Geometries made valid, and which of them were not.

    A polygon keeps what its outlines enclose, once, less its holes (GEOS's method "structure"; its older one takes a
    place that is enclosed twice for a hole). Lines and points that are left of it go.
    """
    result = np.array(shapes, dtype=object)
    # Only broken geometries are touched: GEOS may move the corners of sound ones.
    broken: npt.NDArray[np.bool_] = ~(shapely.is_valid(result) | shapely.is_missing(result))
    for at in np.flatnonzero(broken):
        whole = shapely.make_valid(result[at], method="structure", keep_collapsed=False)
        parts = shapely.get_parts(whole)
        flat = np.isin(shapely.get_type_id(parts), _POLYGONAL)
        result[at] = shapely.union_all(parts[flat]) if len(parts) > 1 and not flat.all() else whole
    return result, broken


def box_in_degrees(west: float, south: float, east: float, north: float) -> tuple[Any, ...]:
    """The box with these edges; two where it lies across the date line: its west is greater than its east (RFC 7946).

    Raises:
        SceneError: there is no such box, or it looks as if west and east were exchanged.

    """
    given = f"the box {west:g},{south:g},{east:g},{north:g}"
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= 90 and -90 <= north <= 90):
        raise SceneError(
            f"{given} leaves the Earth: give west, south, east, north in degrees, longitudes -180 to 180 and "
            "latitudes -90 to 90."
        )
    if south >= north or west == east:
        raise SceneError(f"{given} is empty: give west, south, east, north, south below north.")
    if west < east:
        return (shapely.box(west, south, east, north),)
    if west - east < 180:
        raise SceneError(
            f"{given} would be {360 - west + east:g} degrees wide across the date line: exchange west and east, or ask "
            "for its two halves."
        )
    halves = ((west, 180.0), (-180.0, east))
    return tuple(shapely.box(left, south, right, north) for left, right in halves if left < right)


def cut_at_date_line(shape: Any) -> list[Any]:
    """The parts of a geometry in degrees, at longitudes from -180 to 180.

    What goes on past the date line (to 180.2, or from 0 to 360) is cut there, as RFC 7946 wants it.
    """
    west, _, east, _ = shapely.bounds(shape)
    if not np.isfinite(west):
        return []
    # Each whole turn around the Earth that the shape reaches into is cut out and moved back to -180 to 180.
    turns = whole_turns(west, east)
    if turns == (0,):
        return [part for part in shapely.get_parts(shape) if not part.is_empty]
    return [
        translate(part, -360 * turn)
        for turn in turns
        for part in shapely.get_parts(
            clip(np.array([shape]), shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90))[0]
        )
        if not part.is_empty
    ]


def whole_turns(west: float, east: float) -> tuple[int, ...]:
    """Whole turns around the Earth that longitudes lie in: 0 from -180 to 180, and 1 from there to 540.

    Raises:
        SceneError: they are none, being more than ten turns away.

    """
    if max(abs(west), abs(east)) > 3600:
        raise SceneError(f"coordinates reach from {west:g} to {east:g} degrees, which are no longitudes.")
    first, last = int(np.floor((west + 180) / 360 + 1e-9)), int(np.ceil((east + 180) / 360 - 1e-9)) - 1
    return tuple(range(first, max(first, last) + 1))


def in_degrees(shapes: gpd.GeoSeries) -> list[Any]:
    """The parts of some features in longitude and latitude (WGS 84), cut at the date line as above.

    Raises:
        SceneError: a polygon of another projection goes around a pole.

    """
    shapes = shapes[~(shapes.isna() | shapes.is_empty)]
    if shapes.crs.is_geographic:
        moved = shapes.to_crs("EPSG:4326").to_numpy()
    else:
        # A projection may go on where longitudes jump: short steps tell a jump from a long edge.
        steps = np.maximum(np.ptp(shapes.bounds.to_numpy().reshape(-1, 2, 2), axis=1).max(axis=1) / 64, 1e-9)
        dense = gpd.GeoSeries(shapely.segmentize(shapes.to_numpy(), steps), crs=shapes.crs)
        moved = [unwrapped(shape) for shape in dense.to_crs("EPSG:4326")]
    return [part for shape in moved for part in cut_at_date_line(shape)]


def unwrapped(shape: Any) -> Any:
    """A geometry in degrees whose longitudes do not jump from one point to the next, but go on past 180.

    Raises:
        SceneError: it goes around a pole.

    """

    def moved(places: Coordinates) -> Coordinates:
        # A step of more than half a turn from one point to the next is a jump of the numbers and not of the place.
        turns = np.append(0.0, -np.round(np.diff(places[:, 0]) / 360).cumsum())
        continued: Coordinates = places + np.column_stack([360 * turns, np.zeros(len(turns))])
        return continued

    try:
        return shapely.transform(shape, moved)
    except shapely.errors.GEOSException as error:  # the ring does not close
        raise SceneError("a polygon goes around a pole: give it in longitude and latitude (EPSG:4326).") from error


def near_longitudes(shape: Any, west: float, east: float) -> Any:
    """The parts of a geometry in degrees, or their copies a whole turn away, that meet these longitudes."""
    near = []
    for part in shapely.get_parts(shape):
        left, _, right, _ = part.bounds if not part.is_empty else (np.nan,) * 4
        near += [translate(part, turn) for turn in (-360, 0, 360) if left + turn < east and right + turn > west]
    return shapely.union_all(near)


def frames(outline: Coordinates, back: Transformer) -> list[Any]:
    """Boxes in other coordinates that the inside of an outline lies in, and a little around it. Where these are degrees
    there may be two, as they are cut at the date line; around a pole it is a cap.

    Args:
        outline: (points, 2) around a scene, in order, the first point again at the end.
        back: from the outline's coordinates to the others.

    """
    x, y = (np.asarray(values) for values in back.transform(*outline.T))
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return []
    x, y = x[known], y[known]
    margin = 0.05 * max(np.ptp(y), 1e-9)
    low, high = y.min() - margin, y.max() + margin
    if back.target_crs is None or not back.target_crs.is_geographic:
        wide = 0.05 * max(np.ptp(x), 1e-9)
        return [shapely.box(x.min() - wide, low, x.max() + wide, high)]
    x = np.unwrap(x, period=360)
    if abs(x[-1] - x[0]) > 180:  # once around: there is a pole in it
        return [shapely.box(-180, low, 180, 90) if y.mean() > 0 else shapely.box(-180, -90, 180, high)]
    wide = 0.05 * max(np.ptp(x), 1e-9)
    if np.ptp(x) + 2 * wide >= 360:
        return [shapely.box(-180, low, 180, high)]
    return cut_at_date_line(shapely.box(x.min() - wide, low, x.max() + wide, high))


def ring(left: float, low: float, right: float, high: float) -> Coordinates:
    """(84, 2) points around a box."""
    steps = np.linspace(0, 1, 21)
    x, y = left + (right - left) * steps, low + (high - low) * steps
    sides = [(x, np.full(21, low)), (np.full(21, right), y), (x[::-1], np.full(21, high)), (np.full(21, left), y[::-1])]
    return np.concatenate([np.column_stack(side) for side in sides])


def _square_kilometres(shape: Any, crs: Any) -> float:
    place = gpd.GeoSeries([shape], crs=crs).to_crs("EPSG:4326").iloc[0]
    square = Geod(ellps="WGS84").geometry_area_perimeter(shapely.orient_polygons(place))[0]
    return abs(float(square)) / 1e6


def footprint(
    crs: str, transform: Affine, shape: tuple[int, int], steps: int = 32
) -> tuple[dict[str, Any], list[float]]:
    """Outline of a grid in longitude and latitude (WGS 84).

    Args:
        crs: of the grid, as WKT or a code.
        transform: (column, row) to x and y; it may be rotated.
        shape: rows and columns.
        steps: points along each edge, as a straight edge of a grid is a curve in longitude and latitude.

    Returns:
        A GeoJSON Polygon, or a MultiPolygon that is cut where it crosses the antimeridian; and west, south, east,
        north, west being greater than east where it crosses.

    Raises:
        SceneError: an edge of the grid lies where its CRS has no longitude and latitude.

    """
    longitude, latitude = _outline_in_degrees(crs, transform, shape, steps)
    if abs(longitude[-1] - longitude[0]) > 180:  # once around: the grid has a pole in it
        pole = math.copysign(90, latitude.mean())
        longitude = np.concatenate([longitude, longitude[[-1, 0]]])
        latitude = np.concatenate([latitude, [pole, pole]])
    # The outline's longitudes run on past 180 where the grid does; whole turns are cut apart at the antimeridian, as
    # GeoJSON wants it.
    whole = mend([shapely.Polygon(np.column_stack([longitude, latitude]))])[0][0]
    west, south, east, north = whole.bounds
    first, last = math.floor((west + 180) / 360), math.ceil((east + 180) / 360) - 1
    cut = [shapely.transform(part, lambda at: np.round(at, _DECIMALS)) for part in cut_at_date_line(whole)]
    # What lay a whole turn apart may meet again, around a pole or around the Earth.
    met = shapely.unary_union(cut)
    parts = sorted((orient(part, 1.0) for part in shapely.get_parts(met)), key=lambda part: -part.bounds[0])
    if east - west >= 360:
        west, east = -180.0, 180.0
    else:
        west, east = west - 360 * first, east - 360 * last
    outline = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(outline))
    return geometry, [round(float(value), _DECIMALS) for value in (west, south, east, north)]


def _outline_in_degrees(
    crs: str, transform: Affine, shape: tuple[int, int], steps: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Longitudes, without jumps, and latitudes around the grid, the first corner at both ends."""
    rows, columns = shape
    corners = np.array([(0, 0), (0, rows), (columns, rows), (columns, 0), (0, 0)], dtype=np.float64)
    along = np.arange(steps)[:, None] / steps
    edges = [start + (end - start) * along for start, end in pairwise(corners)]
    column, row = np.concatenate([*edges, corners[:1]]).T
    x, y = transform @ (column, row)
    try:
        longitude, latitude = Transformer.from_crs(CRS(crs), "EPSG:4326", always_xy=True).transform(x, y)
    except ProjError as error:
        raise SceneError(f"the grid's place is not known in longitude and latitude ({error}).") from error
    if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
        raise SceneError(
            "the grid reaches to where its coordinate reference system has no longitude and latitude: cut it smaller."
        )
    return np.round(np.unwrap(longitude, period=360), _DECIMALS), np.round(latitude, _DECIMALS)
