"""Areas on the WGS 84 ellipsoid, of geometries and of pixels in any coordinate reference system.

Longitude and latitude go to the ellipsoid's cylindrical equal-area plane, where an area is what a ruler says.
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

Floats = npt.NDArray[np.float64]


def geometry_areas(geometries: npt.NDArray[Any], crs: Any) -> Floats:
    """Square metres of polygons.

    Edges are followed as they lie in `crs`, in steps of a kilometre, which a straight line on the ground leaves by
    centimetres. A polygon around a pole is beyond it.

    Args:
        geometries: (n,) shapely polygons.
        crs: theirs, whatever pyproj takes.

    """
    crs = CRS.from_user_input(crs)
    dense = shapely.segmentize(geometries, step_of(crs))
    coordinates, owner = shapely.get_coordinates(dense, return_index=True)
    first = np.searchsorted(owner, np.arange(len(geometries)))[owner]
    x, y = _equal_area(crs, coordinates[:, 0], coordinates[:, 1], first)
    planar = shapely.set_coordinates(dense, np.stack([x, y], axis=1))
    areas: Floats = shapely.area(planar)
    return areas


class PixelAreas:
    """Square metres of the pixels of a raster.

    They are taken from pixels five kilometres apart, and those between are interpolated (to about 1 in 5 million).

    Args:
        transform: of the raster.
        crs: of the raster, whatever pyproj takes.
        shape: (rows, columns) of the raster.

    """

    def __init__(self, transform: Affine, crs: Any, shape: tuple[int, int]) -> None:
        self.transform, self.crs = transform, CRS.from_user_input(crs)
        # Pixel areas change slowly: they are computed at nodes some 5 km apart, the last row and column included.
        step = 5 * step_of(self.crs)
        sizes = (np.hypot(transform.b, transform.e), np.hypot(transform.a, transform.d))
        self.nodes = [
            np.unique(np.append(np.arange(0, length, max(1, int(step / size))), length - 1))
            for length, size in zip(shape, sizes, strict=True)
        ]

    def window(self, row: int, column: int, rows: int, columns: int) -> Floats:
        """(rows, columns) areas from `row` and `column` on."""
        across, left, right = _between(self.nodes[1], np.arange(column, column + columns))
        down, above, below = _between(self.nodes[0], np.arange(row, row + rows))
        # Between nodes they are interpolated bilinearly, from those rows of nodes alone that this window needs.
        known = self._exact(*np.meshgrid(self.nodes[0][above[0] : below[-1] + 1], self.nodes[1], indexing="ij"))
        above, below = above - above[0], below - above[0]
        lines = known[above] * (1 - down[:, None]) + known[below] * down[:, None]
        areas: Floats = lines[:, left] * (1 - across) + lines[:, right] * across
        return areas

    def _exact(self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Floats:
        """Areas of single pixels, by their corners."""
        down, across = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
        x, y = to_places(self.transform, columns[..., None] + across, rows[..., None] + down)
        first = np.repeat(np.arange(0, x.size, 4), 4)
        x, y = (flat.reshape(-1, 4) for flat in _equal_area(self.crs, x.ravel(), y.ravel(), first))
        doubled = (x[:, 0] - x[:, 2]) * (y[:, 1] - y[:, 3]) - (x[:, 1] - x[:, 3]) * (y[:, 0] - y[:, 2])
        areas: Floats = np.abs(doubled).reshape(rows.shape) / 2
        return areas


def to_places(transform: Affine, column: npt.NDArray[Any], row: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Pixel corners as coordinates, summed in the order that GDAL has."""
    x: Floats = transform.c + column * transform.a + row * transform.b
    y: Floats = transform.f + column * transform.d + row * transform.e
    return x, y


def step_of(crs: CRS) -> float:
    """About a kilometre in the units of a coordinate reference system."""
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    return 0.01 if crs.is_geographic else 1000 / (unit or 1.0)


def metres_of(crs: CRS) -> float:
    """Units of a coordinate reference system in a metre; of degrees, those of latitude."""
    return step_of(crs) / (1111.95 if crs.is_geographic else 1000)


def _between(
    nodes: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How far (0 to 1) each place lies between two nodes, and the indices of the two."""
    after = np.clip(np.searchsorted(nodes, places, side="right"), 1, max(1, len(nodes) - 1))
    before = after - 1
    after = np.minimum(after, len(nodes) - 1)
    return (places - nodes[before]) / np.maximum(1, nodes[after] - nodes[before]), before, after


def _equal_area(crs: CRS, x: Floats, y: Floats, first: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Metres on the equal-area plane; `first`: where each point's shape begins, so that none is torn at 180 degrees."""
    # Every point's longitude is brought within half a turn of its shape's first. The plane's height is Snyder's q
    # (Map Projections, USGS 1395, equation 3-12): areas on it are those on the ellipsoid.
    longitude, latitude = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    near = x if crs.is_geographic else longitude[first]
    longitude = longitude + 360 * np.round((near - longitude) / 360)
    sine = np.sin(np.radians(latitude))
    height = (1 - _SQUARED) * (sine / (1 - _SQUARED * sine**2) + np.arctanh(_ECCENTRICITY * sine) / _ECCENTRICITY)
    return _MAJOR * np.radians(longitude), _MAJOR * height / 2
