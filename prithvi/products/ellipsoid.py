"""Areas on the WGS 84 ellipsoid, of geometries and of pixels in any CRS.

Coordinates are projected to the ellipsoid's cylindrical equal-area plane, where planar areas are areas on the ground.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS, Transformer

_MAJOR = 6_378_137.0
_FLATTENING = 1 / 298.257223563
_SQUARED = _FLATTENING * (2 - _FLATTENING)
_ECCENTRICITY = _SQUARED**0.5
_POLE = 91.0
"""Largest latitude: half a pixel of a grid of degrees may lie beyond a pole, and nothing else."""

Floats = npt.NDArray[np.float64]
Ragged = tuple[Floats, tuple[npt.NDArray[np.int64], ...]]
"""Polygons as `shapely.to_ragged_array` gives them: (n, 2) coordinates, and offsets: where each ring begins among the
coordinates, each polygon among the rings and, of multipolygons, each of them among the polygons."""


def geometry_areas(geometries: npt.NDArray[Any], crs: Any) -> Floats:
    """(n,) areas of polygons in square metres; NaN for one with a corner that is nowhere on Earth.

    Edges are straight in `crs`, and are densified to steps of about 1 km before projection, which leaves errors of
    centimetres across an edge. Polygons that contain a pole are not supported.

    Args:
        geometries: (n,) shapely polygons.
        crs: their CRS, in any form that pyproj accepts.

    """
    if len(geometries) == 0:
        return np.zeros(0)
    _, points, offsets = shapely.to_ragged_array(geometries)
    return ragged_areas((points, offsets), crs)


def ragged_areas(polygons: Ragged, crs: Any) -> Floats:
    """(n,) areas of polygons that are given by their coordinates; see `geometry_areas`."""
    # All rings are worked on as one array of coordinates: what shapely offers for single steps (segmentize,
    # set_coordinates) builds every geometry anew, and takes far more than linear time for one with many holes.
    crs = CRS.from_user_input(crs)
    points, (rings, outsides, *multi) = polygons
    shapes = outsides[multi[0]] if multi else outsides  # first ring of each geometry
    number = len(shapes) - 1
    nowhere = np.abs(points[:, 1]) > _POLE if crs.is_geographic else np.zeros(len(points), bool)
    if nowhere.any():
        # What is in metres by mistake would become as many points as it has kilometres.
        whose = np.repeat(np.arange(number), np.diff(rings[shapes]))
        lost = np.unique(whose[nowhere])
        areas = ragged_areas((np.where(np.isin(whose, lost)[:, None], 0.0, points), polygons[1]), crs)
        areas[lost] = np.nan
        return areas
    points, rings = _densified(points, rings.astype(np.int64), step_of(crs))
    owner = np.repeat(np.arange(number), np.diff(shapes))
    first = np.repeat(rings[shapes[owner]], np.diff(rings))
    x, y = _equal_area(crs, points[:, 0], points[:, 1], first)
    x, y = x - x[first], y - y[first]  # small numbers, whose products keep their last digits
    doubled = x[:-1] * y[1:] - x[1:] * y[:-1]
    doubled[rings[1:-1] - 1] = 0.0  # from the end of a ring to the next one
    outside = np.full(len(owner), -1.0)
    outside[outsides[:-1][np.diff(outsides) > 0]] = 1.0
    areas = np.abs(np.add.reduceat(doubled, rings[:-1])) / 2 if len(owner) else np.zeros(0)
    return np.bincount(owner, weights=areas * outside, minlength=number).astype(np.float64)


def _densified(points: Floats, rings: npt.NDArray[np.int64], step: float) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Closed rings with no edge longer than `step`.

    Args:
        points: (n, 2) coordinates of the rings one after the other.
        rings: (rings + 1,) index of the first point of each, and n.
        step: in the units of the points.

    Returns:
        The same with points added, evenly along an edge.

    """
    along = np.diff(points, axis=0, append=points[-1:])
    along[rings[1:] - 1] = 0.0
    parts = np.maximum(1, np.ceil(np.hypot(along[:, 0], along[:, 1]) / step)).astype(np.int64)
    if parts.max(initial=1) == 1:
        return points, rings
    begins = np.append(0, np.cumsum(parts))
    nth = np.arange(begins[-1]) - np.repeat(begins[:-1], parts)
    along /= parts[:, None]
    return np.repeat(points, parts, axis=0) + np.repeat(along, parts, axis=0) * nth[:, None], begins[rings]


class PixelAreas:
    """Areas of the pixels of a raster in square metres.

    They are computed at pixels 5 km apart and interpolated between them (relative error about 2e-7).

    Args:
        transform: affine transform of the raster.
        crs: CRS of the raster, in any form that pyproj accepts.
        shape: (rows, columns) of the raster.

    """

    def __init__(self, transform: Affine, crs: Any, shape: tuple[int, int]) -> None:
        self.transform, self.crs = transform, CRS.from_user_input(crs)
        # Pixel areas vary slowly, so a coarse lattice of nodes about 5 km apart is enough. It includes the last row and
        # column, so that nothing is extrapolated.
        step = 5 * step_of(self.crs)
        sizes = (np.hypot(transform.b, transform.e), np.hypot(transform.a, transform.d))
        self.nodes = [
            np.unique(np.append(np.arange(0, length, max(1, int(step / size))), length - 1))
            for length, size in zip(shape, sizes, strict=True)
        ]

    def window(self, row: int, column: int, rows: int, columns: int) -> Floats:
        """(rows, columns) areas of the window that begins at `row` and `column`."""
        across, left, right = _between(self.nodes[1], np.arange(column, column + columns))
        down, above, below = _between(self.nodes[0], np.arange(row, row + rows))
        # Bilinear interpolation between nodes; only the rows of nodes around this window are computed.
        known = self._exact(*np.meshgrid(self.nodes[0][above[0] : below[-1] + 1], self.nodes[1], indexing="ij"))
        above, below = above - above[0], below - above[0]
        lines = known[above] * (1 - down[:, None]) + known[below] * down[:, None]
        areas: Floats = lines[:, left] * (1 - across) + lines[:, right] * across
        return areas

    def _exact(self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Floats:
        """Areas of individual pixels from their four projected corners."""
        # Shoelace formula for a quadrilateral: half the cross product of its diagonals.
        down, across = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
        x, y = to_places(self.transform, columns[..., None] + across, rows[..., None] + down)
        first = np.repeat(np.arange(0, x.size, 4), 4)
        x, y = (flat.reshape(-1, 4) for flat in _equal_area(self.crs, x.ravel(), y.ravel(), first))
        doubled = (x[:, 0] - x[:, 2]) * (y[:, 1] - y[:, 3]) - (x[:, 1] - x[:, 3]) * (y[:, 0] - y[:, 2])
        areas: Floats = np.abs(doubled).reshape(rows.shape) / 2
        return areas


def to_places(transform: Affine, column: npt.NDArray[Any], row: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Map coordinates (x, y) of pixel corners, added in GDAL's order so that results agree to the last bit."""
    x: Floats = transform.c + column * transform.a + row * transform.b
    y: Floats = transform.f + column * transform.d + row * transform.e
    return x, y


def step_of(crs: CRS) -> float:
    """About 1 km in the units of a CRS (0.01 degrees if it is geographic)."""
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    return 0.01 if crs.is_geographic else 1000 / (unit or 1.0)


def metres_of(crs: CRS) -> float:
    """CRS units per metre; for a geographic CRS, degrees of latitude per metre."""
    return step_of(crs) / (1111.95 if crs.is_geographic else 1000)


def _between(
    nodes: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Interpolation weight (0 to 1) of each place between its two nodes, and the indices of the nodes."""
    after = np.clip(np.searchsorted(nodes, places, side="right"), 1, max(1, len(nodes) - 1))
    before = after - 1
    after = np.minimum(after, len(nodes) - 1)
    return (places - nodes[before]) / np.maximum(1, nodes[after] - nodes[before]), before, after


def _equal_area(crs: CRS, x: Floats, y: Floats, first: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Projects points to the equal-area plane, in metres.

    Args:
        crs: CRS of the points.
        x: (n,) coordinates, longitude first.
        y: (n,) coordinates.
        first: (n,) index of the first point of each point's shape.

    """
    # Longitudes are unwrapped to within 180 degrees of the first point of their shape, so that no shape is torn at the
    # antimeridian. The ordinate is Snyder's q (Map Projections, USGS Professional Paper 1395, equation 3-12), which
    # makes planar areas equal to areas on the ellipsoid.
    longitude, latitude = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    latitude = np.where(np.abs(latitude) <= _POLE, np.clip(latitude, -90, 90), np.nan)
    longitude = np.where(np.isfinite(longitude), longitude, np.nan)
    near = x if crs.is_geographic else longitude[first]
    longitude = longitude + 360 * np.round((near - longitude) / 360)
    sine = np.sin(np.radians(latitude))
    height = (1 - _SQUARED) * (sine / (1 - _SQUARED * sine**2) + np.arctanh(_ECCENTRICITY * sine) / _ECCENTRICITY)
    return _MAJOR * np.radians(longitude), _MAJOR * height / 2
