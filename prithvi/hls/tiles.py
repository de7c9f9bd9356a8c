"""MGRS tiles as Sentinel-2 and HLS cut them: 109.8 km squares in UTM, each 100 km square with its overlap.

The tile's upper left corner is the 100 km square's, moved outwards to a multiple of 60 m; the tile reaches 109.8 km
east and south of it. Letters follow the MGRS: columns in sets of three zones, rows in cycles of 2,000 km that start at
A in odd and at F in even zones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import geopandas as gpd
import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.geom import box
from pyproj import Transformer

from prithvi.errors import SceneError

_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_TILE = re.compile(r"^T?(\d{1,2})([C-HJ-NP-X])([A-HJ-NP-Z])([A-HJ-NP-V])$")
SIDE = 109_800
"""Metres along one side of a tile."""


def tile_grid(tile: str, resolution: int = 30) -> GeoBox:
    """The pixels of a tile: 3,660 x 3,660 of 30 m, in its UTM zone.

    South of the equator the CRS is the southern zone's (EPSG:327xx, as Sentinel-2 has it); files may say the same place
    in the northern zone with negative northings, as Landsat does.

    Raises:
        SceneError: no such tile.

    """
    zone, band, easting, northing = _square(tile)
    left, top = math.floor(easting / 60) * 60, math.ceil((northing + 100_000) / 60) * 60
    south = band < "N"
    epsg = (32700 if south else 32600) + zone
    top += 10_000_000 * south  # multiples of 60 m are counted from the equator, also in the south
    return GeoBox.from_bbox((left, top - SIDE, left + SIDE, top), crs=f"EPSG:{epsg}", resolution=resolution, tight=True)


def tile_footprints(tiles: Iterable[str]) -> gpd.GeoDataFrame:
    """One row a tile: `tile` and its square in longitude and latitude (EPSG:4326), cut at the date line.

    Raises:
        SceneError: no such tile.

    """
    names = [name.removeprefix("T") for name in tiles]
    shapes = [
        tile_grid(name).extent.to_crs("EPSG:4326", resolution=SIDE / 10, wrapdateline=True).geom for name in names
    ]
    return gpd.GeoDataFrame({"tile": names}, geometry=shapes, crs="EPSG:4326")


def tiles_in(bbox: Sequence[float]) -> list[str]:
    """Names of the tiles whose square touches a box (west, south, east, north, in degrees).

    Raises:
        SceneError: the box is none.

    """
    west, south, east, north = bbox
    if not (-180 <= west < east <= 180 and -80 <= south < north <= 84):
        raise SceneError(
            f"({west}, {south}, {east}, {north}) is no box: west, south, east, north in degrees, 80 S to 84 N."
        )
    wanted = box(west, south, east, north, "EPSG:4326").geom
    found = []
    for zone in range(max(1, int((west + 180) // 6) - 1), min(60, int((east + 180) // 6) + 3) + 1):
        for name in _squares_near(zone, west, south, east, north):
            if tile_footprints([name]).geometry.iloc[0].intersects(wanted):
                found.append(name)
    return sorted(set(found))


def _squares_near(zone: int, west: float, south: float, east: float, north: float) -> list[str]:
    """100 km squares of a zone around a box that hold a piece of the zone, named by the latitude band of that piece."""
    middle = zone * 6 - 183
    low, high = max(west, middle - 7.0), min(east, middle + 7.0)
    if low > high:
        return []
    forward = Transformer.from_crs("EPSG:4326", f"EPSG:{32600 + zone}", always_xy=True)
    xs, ys = forward.transform(np.tile(np.linspace(low, high, 9), 9), np.repeat(np.linspace(south, north, 9), 9))
    back = Transformer.from_crs(f"EPSG:{32600 + zone}", "EPSG:4326", always_xy=True)
    names = set()
    for column in range(max(1, int(min(xs) // 1e5) - 1), min(8, int(max(xs) // 1e5) + 1) + 1):
        for row in range(int(min(ys) // 1e5) - 1, int(max(ys) // 1e5) + 2):
            across, along = np.meshgrid((1e3, 50e3, 99e3), (1e3, 50e3, 99e3))
            places = back.transform(column * 1e5 + across.ravel(), row * 1e5 + along.ravel())
            for longitude, latitude in zip(*places, strict=True):
                if -80 <= latitude < 84 and _zone(longitude, latitude) == zone:
                    names.add(_name(zone, latitude, column, row))
    return sorted(names)


def _zone(longitude: float, latitude: float) -> int:
    """The UTM zone of a place, Norway's and Svalbard's own included."""
    if 56 <= latitude < 64 and 3 <= longitude < 12:
        return 32
    if latitude >= 72 and 0 <= longitude < 42:
        return 31 if longitude < 9 else 33 if longitude < 21 else 35 if longitude < 33 else 37
    return int((longitude + 180) // 6) % 60 + 1


def _name(zone: int, latitude: float, column: int, row: int) -> str:
    band = _BANDS[min(19, int((latitude + 80) // 8))]
    letters = _ROWS[(row + (5 if zone % 2 == 0 else 0)) % 20]
    return f"{zone:02d}{band}{_COLUMNS[(zone - 1) % 3][column - 1]}{letters}"


def _square(tile: str) -> tuple[int, str, int, int]:
    """Zone, latitude band, easting and northing (negative in the south) of the lower left corner of the square."""
    match = _TILE.match(tile)
    if match is None or not 1 <= int(match[1]) <= 60 or match[3] not in _COLUMNS[(int(match[1]) - 1) % 3]:
        raise SceneError(f"{tile} is no MGRS tile: expected a zone, a latitude band and two letters, such as 31UDS.")
    zone, band = int(match[1]), match[2]
    easting = (_COLUMNS[(zone - 1) % 3].index(match[3]) + 1) * 100_000
    row = (_ROWS.index(match[4]) - (5 if zone % 2 == 0 else 0)) % 20
    lowest = -80 + 8 * _BANDS.index(band)
    highest = 84 if band == "X" else lowest + 8
    # The northing repeats every 2,000 km: the one whose square meets the latitude band is meant.
    forward = Transformer.from_crs("EPSG:4326", f"EPSG:{32600 + zone}", always_xy=True)
    central = zone * 6 - 183
    bottom = min(forward.transform(central, lowest)[1], forward.transform(central + 3, lowest)[1])
    top = max(forward.transform(central, highest)[1], forward.transform(central + 3, highest)[1])
    for cycle in range(-5, 6):
        northing = row * 100_000 + cycle * 2_000_000
        if northing + 100_000 > bottom and northing < top:
            return zone, band, easting, northing
    raise SceneError(f"{tile} is no MGRS tile: row {match[4]} does not exist in latitude band {band} of zone {zone}.")
