"""Areas on the ellipsoid: those of geodesics between close points, whatever the polygons are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import pytest
import shapely

from prithvi.products.ellipsoid import geometry_areas

RING = shapely.Point(500_000, 4_200_000).buffer(40_000).difference(shapely.box(490_000, 4_190_000, 500_000, 4_200_000))
POLYGONS = [
    shapely.box(400_000, 4_100_000, 480_000, 4_160_000),  # edges of many steps
    RING,
    shapely.Polygon(),
    shapely.box(500_000, 4_200_000, 500_010, 4_200_010),
]
MULTI = shapely.MultiPolygon([RING, shapely.box(600_000, 4_200_000, 600_500, 4_260_000)])


def geodesic(polygon: Any, crs: str) -> float:
    """Karney's area of the polygon with a point every 100 m."""
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    close = shapely.segmentize(polygon, 100 if crs != "EPSG:4326" else 0.001)
    degrees = shapely.transform(close, lambda points: np.stack(to_degrees.transform(*points.T), axis=1))
    parts = [shapely.orient_polygons(part) for part in shapely.get_parts(degrees) if not part.is_empty]
    return sum(abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(part)[0]) for part in parts)


@pytest.mark.parametrize("polygons", [POLYGONS, [*POLYGONS, MULTI], [MULTI, shapely.MultiPolygon()], POLYGONS[2:3]])
def test_areas_are_those_of_geodesics_between_close_points(polygons: list[Any]) -> None:
    found = geometry_areas(np.array(polygons), "EPSG:32630")
    assert found.tolist() == pytest.approx([geodesic(polygon, "EPSG:32630") for polygon in polygons], rel=1e-6)


def test_a_polygon_across_the_antimeridian_is_not_torn() -> None:
    polygon = shapely.box(179.5, -17, 180.5, -16).difference(shapely.box(179.9, -16.6, 180.1, -16.4))
    (area,) = geometry_areas(np.array([polygon]), "EPSG:4326")
    assert area == pytest.approx(geodesic(shapely.affinity.translate(polygon, -100), "EPSG:4326"), rel=1e-6)


def test_no_polygons_have_no_areas() -> None:
    assert geometry_areas(np.array([], dtype=object), "EPSG:32630").shape == (0,)


def test_polygons_that_are_nowhere_leave_the_others_as_they_are() -> None:
    here = shapely.union(
        shapely.box(10, 50, 11, 51).difference(shapely.box(10.2, 50.2, 10.3, 50.3)), shapely.box(20, 1, 21, 2)
    )
    far = shapely.box(500_000, 4_100_000, 900_000, 4_200_000)  # metres
    areas = geometry_areas(np.array([here, far, shapely.Polygon(), here]), "EPSG:4326")
    assert np.isnan(areas).tolist() == [False, True, False, False]
    assert areas[[0, 3]] == pytest.approx(geometry_areas(np.array([here]), "EPSG:4326").repeat(2))
