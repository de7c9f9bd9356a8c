"""MGRS tiles against the mgrs package (NGA's GEOTRANS) and a true granule's corner."""

from __future__ import annotations

import random

import mgrs
import pytest
from shapely.geometry import Point

from prithvi.errors import SceneError
from prithvi.hls.tiles import tile_footprints, tile_grid, tiles_in


def test_the_grid_of_a_true_granule() -> None:
    """T10SFE: the HLS v1.5 granule's own attributes say ULX 600000, ULY 4000020."""
    grid = tile_grid("T10SFE")
    assert grid.shape == (3660, 3660)
    assert (grid.affine.c, grid.affine.f, grid.affine.a, grid.affine.e) == (600_000, 4_000_020, 30, -30)
    assert grid.crs == "EPSG:32610"


def test_every_square_is_where_geotrans_puts_it() -> None:
    oracle = mgrs.MGRS()
    for zone in range(1, 61):
        for latitude in range(-79, 84, 3):
            name = oracle.toMGRS(latitude, zone * 6 - 183 + 0.7, MGRSPrecision=5)
            _, hemisphere, easting, northing = oracle.MGRSToUTM(name)
            box = tile_grid(name[:5]).extent.boundingbox
            left, bottom = easting // 1e5 * 1e5, northing // 1e5 * 1e5
            assert 0 <= left - box.left < 60, name
            assert 0 <= box.top - (bottom + 1e5) < 60, name
            assert (box.right - box.left, box.top - box.bottom) == (109_800, 109_800)
            assert tile_grid(name[:5]).crs.epsg == (32700 if hemisphere == "S" else 32600) + int(name[:2])


def test_a_place_lies_in_one_of_the_tiles_found_for_it() -> None:
    oracle, chance = mgrs.MGRS(), random.Random(1)
    places = [(chance.uniform(-179, 178), chance.uniform(-79, 83)) for _ in range(60)]
    for longitude, latitude in [*places, (5.0, 60.0), (8.0, 77.0), (32.8, 77.4), (0.1, 51.5)]:
        found = tiles_in((longitude, latitude, longitude + 1e-4, latitude + 1e-4))
        assert oracle.toMGRS(latitude, longitude, MGRSPrecision=0)[:5] in found
        for shape in tile_footprints(found).geometry:
            assert shape.distance(Point(longitude, latitude)) < 2e-3


def test_a_footprint_at_the_date_line_does_not_go_around_the_world() -> None:
    for shape in tile_footprints(["01CCV", "60CWV"]).geometry:
        assert shape.area < 30


def test_names_that_are_no_tile_are_refused() -> None:
    for name in ("31UIS", "61UDS", "31UDW", "31ADS", "31UD", "banana"):
        with pytest.raises(SceneError, match="is no MGRS tile"):
            tile_grid(name)
    with pytest.raises(SceneError, match="is no box"):
        tiles_in((3.4, 41.2, 3.0, 41.5))
