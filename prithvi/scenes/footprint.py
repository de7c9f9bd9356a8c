"""Where a grid lies on the Earth, as GeoJSON wants it said (RFC 7946)."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.polygon import orient

from prithvi.errors import SceneError
from prithvi.scenes.polygons import cut_at_date_line, mend

DECIMALS = 7
"""Of longitudes and latitudes; about a centimetre."""


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
    longitude, latitude = _ring(crs, transform, shape, steps)
    if abs(longitude[-1] - longitude[0]) > 180:  # once around: the grid has a pole in it
        pole = math.copysign(90, latitude.mean())
        longitude = np.concatenate([longitude, longitude[[-1, 0]]])
        latitude = np.concatenate([latitude, [pole, pole]])
    # The outline's longitudes run on past 180 where the grid does; whole turns are cut apart at the antimeridian, as
    # GeoJSON wants it.
    whole = mend([Polygon(np.column_stack([longitude, latitude]))])[0][0]
    west, south, east, north = whole.bounds
    first, last = math.floor((west + 180) / 360), math.ceil((east + 180) / 360) - 1
    cut = [shapely.transform(part, lambda at: np.round(at, DECIMALS)) for part in cut_at_date_line(whole)]
    # What lay a whole turn apart may meet again, around a pole or around the Earth.
    met = shapely.unary_union(cut)
    parts = sorted((orient(part, 1.0) for part in shapely.get_parts(met)), key=lambda part: -part.bounds[0])
    if east - west >= 360:
        west, east = -180.0, 180.0
    else:
        west, east = west - 360 * first, east - 360 * last
    outline = parts[0] if len(parts) == 1 else MultiPolygon(parts)
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(outline))
    return geometry, [round(float(value), DECIMALS) for value in (west, south, east, north)]


def _ring(
    crs: str, transform: Affine, shape: tuple[int, int], steps: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Longitudes, without jumps, and latitudes around the grid, the first corner at both ends."""
    rows, columns = shape
    corners = np.array([(0, 0), (0, rows), (columns, rows), (columns, 0), (0, 0)], dtype=np.float64)
    along = np.arange(steps)[:, None] / steps
    edges = [start + (end - start) * along for start, end in pairwise(corners)]
    column, row = np.concatenate([*edges, corners[:1]]).T
    x = transform.a * column + transform.b * row + transform.c
    y = transform.d * column + transform.e * row + transform.f
    try:
        longitude, latitude = Transformer.from_crs(CRS(crs), "EPSG:4326", always_xy=True).transform(x, y)
    except ProjError as error:
        raise SceneError(f"the grid's place is not known in longitude and latitude ({error}).") from error
    if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
        raise SceneError(
            "the grid reaches to where its coordinate reference system has no longitude and latitude: cut it smaller."
        )
    return np.round(np.unwrap(longitude, period=360), DECIMALS), np.round(latitude, DECIMALS)
