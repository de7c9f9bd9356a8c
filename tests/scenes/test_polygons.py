"""Polygons are mended by one rule for areas, zones, labels and searches, and kept together at the date line."""

from __future__ import annotations

import warnings

import geopandas as gpd
import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box

from prithvi.errors import SceneError
from prithvi.scenes.polygons import clip, cut_at_date_line, in_degrees, mend, near_longitudes, sound, whole_turns

SQUARE = [(0, 0), (4, 0), (4, 4), (0, 4)]
ODD = {
    "a district drawn twice round": (Polygon([*SQUARE, (0, 0), *SQUARE]), 16),
    "a second, smaller round": (Polygon([*SQUARE, (0, 0), (3, 1), (3, 3), (1, 3)]), 16),
    "a ring that overlaps itself": (Polygon([(0, 0), (4, 0), (4, 4), (2, 4), (2, 1), (6, 1), (6, 2), (0, 2)]), 14),
    "a bow-tie": (Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]), 2),
    "one part twice": (MultiPolygon([box(0, 0, 4, 4), box(0, 0, 4, 4)]), 16),
    "parts that overlap": (MultiPolygon([box(0, 0, 4, 4), box(2, 0, 6, 4)]), 24),
    "a part within another": (MultiPolygon([box(0, 0, 4, 4), box(1, 1, 2, 2)]), 16),
    "a hole in a hole": (Polygon(box(0, 0, 9, 9).exterior, [box(1, 1, 8, 8).exterior, box(3, 3, 6, 6).exterior]), 32),
    "a hole beside it": (Polygon(SQUARE, [box(5, 5, 6, 6).exterior]), 17),
    "a spike": (Polygon([(0, 0), (4, 0), (4, 4), (8, 4), (4, 4), (0, 4)]), 16),
    "no area": (Polygon([(0, 0), (1, 1), (2, 2)]), 0),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_drawn_twice_counts_once(case: str) -> None:
    shape, area = ODD[case]
    assert not shape.is_valid
    (mended,), (broken,) = mend([shape])
    assert broken
    assert mended.is_valid
    assert mended.geom_type in ("Polygon", "MultiPolygon")
    assert mended.area == pytest.approx(area)


def test_shapely_takes_a_place_that_is_enclosed_twice_for_a_hole_unless_it_is_told() -> None:
    """docs/areas.md says so; the five-pointed star is enclosed twice in its middle."""
    star = Polygon([(np.cos(turn), np.sin(turn)) for turn in 0.8 * np.pi * np.arange(5)])
    assert not shapely.make_valid(star).contains(Point(0, 0))
    assert shapely.make_valid(star, method="structure").contains(Point(0, 0))
    assert mend([star])[0][0].contains(Point(0, 0))


def test_sound_shapes_stay_as_they_are() -> None:
    shapes = [box(0, 0, 1, 1), None, Polygon(), Point(1, 2), MultiPolygon([box(0, 0, 1, 1), box(2, 0, 3, 1)])]
    same, broken = mend(shapes)
    assert not broken.any()
    assert all(one is other for one, other in zip(same, shapes, strict=True))


def test_a_note_names_what_was_mended_and_how_large_it_is() -> None:
    shapes = gpd.GeoSeries([box(0, 0, 1000, 1000), ODD["a bow-tie"][0], None], crs="EPSG:32631")
    with pytest.warns(UserWarning, match="1 of 3 features cross or cover themselves") as said:
        sound(shapes.affine_transform([1000, 0, 0, 1000, 500_000, 0]), "districts.gpkg")
    assert "districts.gpkg: " in str(said[0].message)
    assert "Check that the areas are what was meant: number 2 has 2.0" in str(said[0].message)
    many = gpd.GeoSeries([ODD["a bow-tie"][0]] * 5, crs="EPSG:4326")
    with pytest.warns(UserWarning, match=r"number 1 has .*, number 3 has .* km2, and 2 more\."):
        sound(many, "districts.gpkg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sound(shapes[:1], "districts.gpkg")


def test_a_polygon_around_the_earth_is_told() -> None:
    """Drawn from 179.9 to -179.9 without a cut: nobody knows which way round was meant."""
    shapes = gpd.GeoSeries([box(-179.9, -17, 179.9, -16)], crs="EPSG:4326")
    with pytest.warns(UserWarning, match=r"a.geojson: 1 polygons are more than 180 degrees wide .* at 180 and -180"):
        sound(shapes, "a.geojson")
    cut = gpd.GeoSeries([MultiPolygon([box(179.9, -17, 180, -16), box(-180, -17, -179.9, -16)])], crs="EPSG:4326")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sound(cut, "a.geojson")


@pytest.mark.parametrize(("left", "right"), [(179.9, 180.2), (-180.1, -179.8), (539.9, 540.2)])
def test_what_goes_on_past_the_date_line_is_cut_there(left: float, right: float) -> None:
    parts = sorted((part.bounds for part in cut_at_date_line(box(left, -17, right, -16))), key=lambda at: at[0])
    assert np.allclose(parts, [(-180, -17, -179.8, -16), (179.9, -17, 180, -16)])
    near = near_longitudes(shapely.union_all(cut_at_date_line(box(left, -17, right, -16))), 179, 181)
    assert near.bounds == pytest.approx((179.9, -17, 180.2, -16))
    assert near_longitudes(box(10, 0, 20, 1), 179, 181).is_empty


def test_turns_of_longitudes() -> None:
    assert whole_turns(-180, 180) == whole_turns(3, 4) == whole_turns(179.9, 180 + 1e-12) == (0,)
    assert whole_turns(0, 360) == whole_turns(179, 180.2) == (0, 1)
    assert whole_turns(190, 200) == (1,)
    assert whole_turns(-180.1, -179.8) == (-1, 0)


@pytest.mark.parametrize("crs", ["EPSG:32760", "EPSG:32701", "EPSG:4326", "EPSG:3832"])
def test_polygons_of_any_projection_come_in_degrees(crs: str) -> None:
    whole = shapely.segmentize(box(179.9, -17, 180.2, -16), 0.01)
    shapes = gpd.GeoSeries([whole, None, Polygon()], crs="EPSG:4326").to_crs(crs)
    found = shapely.union_all(in_degrees(shapes))
    assert found.geom_type == "MultiPolygon"
    expected = shapely.union_all(cut_at_date_line(whole))
    assert found.symmetric_difference(expected).area < 1e-3 * expected.area
    pole = gpd.GeoSeries([box(-5e5, -5e5, 5e5, 5e5)], crs="EPSG:3031")
    with pytest.raises(SceneError, match=r"around a pole: give it in longitude and latitude \(EPSG:4326\)"):
        in_degrees(pole)
    world = gpd.GeoSeries([box(-2.0037508342e7, -1e7, 2.0037508342e7, 1e7)], crs="EPSG:3857")
    assert shapely.union_all(in_degrees(world)).bounds == pytest.approx((-180, -66.4, 180, 66.4), abs=0.2)


def test_clipped_shapes_keep_their_kind() -> None:
    shapes = np.array([box(0, 0, 1, 1), Point(0.5, 0.5), Point(5, 5), box(2, 0, 3, 1), LineString([(0, 0), (9, 0)])])
    touching = Polygon([(0, 0), (4, 0), (4, 2), (2, 1), (0, 2)])  # within the frame, and along its border
    inside = clip(np.append(shapes, touching), box(0, 0, 2, 9))
    assert [shape.is_empty for shape in inside] == [False, False, True, True, False, False]
    assert inside[5].area == pytest.approx(3)
