"""MGRS tiles against the published list, the mgrs package (NGA's GEOTRANS) and a true granule's corner."""

from __future__ import annotations

import importlib.resources
import random
import zipfile

import mgrs
import numpy as np
import pytest
import shapely
from shapely.geometry import MultiPolygon, Point, Polygon, box

from prithvi.errors import SceneError
from prithvi.hls.tiles import tile_footprints, tile_grid, tiles_in


@pytest.fixture(scope="module")
def published() -> dict[str, tuple[int, float, float, MultiPolygon]]:
    """Tile to EPSG code, upper left corner and outline in longitude and latitude, cut at the date line.

    Sentinel-2's tiling grid, S2A_OPER_GIP_TILPAR version 0007, as the package s2tiling carries it.
    """
    source = importlib.resources.files("s2tiling") / "data" / "s2_tiling.zip"
    with source.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    tiles = {}
    for placemark in text.split("<Placemark>")[1:]:
        name, epsg, _, square, *_ = (cell.partition("<")[0] for cell in placemark.split('COLOR="#008000">')[1:])
        left, top = square.removeprefix("MULTIPOLYGON(((").partition(",")[0].split()
        lines = [part.partition("<")[0].split() for part in placemark.split("<coordinates>")[1:]]
        rings = [[place.split(",")[:2] for place in line] for line in lines if len(line) > 1]  # one is the middle
        shape = MultiPolygon([Polygon(np.array(ring, dtype=float)) for ring in rings])
        tiles[name] = (int(epsg), float(left), float(top), shape)
    return tiles


def test_every_tile_of_the_published_list_lies_where_it_says(
    published: dict[str, tuple[int, float, float, MultiPolygon]],
) -> None:
    assert len(published) == 56_686
    assert tiles_in((-180, -90, 180, 90)) == sorted(published)
    for name in random.Random(0).sample(sorted(published), 1500):
        epsg, left, top, _ = published[name]
        grid = tile_grid(name)
        assert (grid.crs.epsg, grid.affine.c, grid.affine.f) == (epsg, left, top), name
    some = [*random.Random(1).sample(sorted(published), 150), "01CCV", "01KAB", "60KYG", "31XFF", "01CDH", "60DWG"]
    for name, shape in zip(some, tile_footprints(some).geometry, strict=True):
        # The list joins corners by straight lines, which a true edge leaves by up to 0.05 degrees near a pole.
        other = published[name][3]
        assert shape.symmetric_difference(other).area < 0.05 * other.area, name


PLACES = {
    "the date line": (179.2, -60, 180.8, 75), "Norway": (2, 55, 13, 65), "Svalbard": (-2, 71, 43, 83.5),
    "anywhere": (-180, -82, 180, 84),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_box_touches_the_tiles_that_the_published_list_has_there(
    place: str, published: dict[str, tuple[int, float, float, MultiPolygon]]
) -> None:
    names = np.array(list(published))
    tree = shapely.STRtree([entry[3] for entry in published.values()])
    chance = random.Random(place)
    west, south, east, north = PLACES[place]
    for _ in range(30):
        left, low = chance.uniform(west, east), chance.uniform(south, north)
        right, top = left + chance.uniform(0.11, 1.5), low + chance.uniform(0.11, 1)
        turned = [(side + 180) % 360 - 180 for side in (left, right)]
        found = set(tiles_in((turned[0], low, turned[1], top)))
        whole = [box(left + turn, low, right + turn, top) for turn in (-360, 0, 360)]
        # Surely in the box, or surely beside it: by more than a true edge leaves the list's straight one.
        inside, near = (
            set(names[np.unique(tree.query([part.buffer(by) for part in whole], predicate="intersects")[1])])
            for by in (-0.05, 0.1)
        )
        assert inside <= found <= near


def test_every_square_is_where_geotrans_puts_it() -> None:
    oracle, known, looked_at = mgrs.MGRS(), set(tiles_in((-180, -90, 180, 90))), 0
    for zone in range(1, 61):
        for latitude in range(-79, 84, 3):
            name = oracle.toMGRS(latitude, zone * 6 - 183 + 0.7, MGRSPrecision=5)
            if name[:5] not in known:
                continue  # a square at the edge of a latitude band, which the list names by the other one
            looked_at += 1
            _, hemisphere, easting, northing = oracle.MGRSToUTM(name)
            box = tile_grid(name[:5]).extent.boundingbox
            left, bottom = easting // 1e5 * 1e5, northing // 1e5 * 1e5
            assert 0 <= left - box.left < 60, name
            assert 0 <= box.top - (bottom + 1e5) < 60, name
            assert (box.right - box.left, box.top - box.bottom) == (109_800, 109_800)
            assert tile_grid(name[:5]).crs.epsg == (32700 if hemisphere == "S" else 32600) + int(name[:2])
    assert looked_at > 2500


def test_a_place_lies_in_each_of_the_tiles_found_for_it() -> None:
    chance = random.Random(1)
    places = [(chance.uniform(-179, 178), chance.uniform(-79, 83)) for _ in range(60)]
    for longitude, latitude in [*places, (5.0, 60.0), (8.0, 77.0), (32.8, 77.4), (0.1, 51.5), (179.9999, -16.5)]:
        found = tiles_in((longitude, latitude, longitude + 1e-4, latitude + 1e-4))
        assert found
        for shape in tile_footprints(found).geometry:
            assert shape.distance(Point(longitude, latitude)) < 2e-3


def test_a_footprint_at_the_date_line_does_not_go_around_the_world() -> None:
    for shape in tile_footprints(["01CCV", "60CWV"]).geometry:
        assert shape.area < 30


def test_a_box_across_the_date_line_is_that_of_its_two_halves() -> None:
    across = tiles_in((179, -17, -179, -16))
    assert across == sorted({*tiles_in((179, -17, 180, -16)), *tiles_in((-180, -17, -179, -16))})
    assert {name[:2] for name in across} == {"01", "60"}


def test_names_that_are_no_tile_are_refused() -> None:
    for name in ("31UIS", "61UDS", "31UDW", "31ADS", "31UD", "banana"):
        with pytest.raises(SceneError, match="is no MGRS tile"):
            tile_grid(name)
    with pytest.raises(
        SceneError, match="is no tile of the Sentinel-2 grid: the square at the edge of its band is 45QVG"
    ):
        tile_grid("45RVG")
    with pytest.raises(SceneError, match=r"32VKH is no tile of the Sentinel-2 grid\."):
        tile_grid("32VKH")
    for edges, message in (
        ((3.4, 41.2, 3.4, 41.5), "is empty"), ((3.4, 41.5, 3.6, 41.2), "is empty"),
        ((179, 0, 181, 1), "leaves the Earth"), ((float("nan"), 0, 1, 1), "leaves the Earth"),
        ((3.4, 41.2, 3.0, 41.5), "exchange west and east"),
    ):  # fmt: skip
        with pytest.raises(SceneError, match=message):
            tiles_in(edges)
