"""MGRS tiles as Sentinel-2 and HLS cut them: 109.8 km squares in UTM, each 100 km square with its overlap.

The tile's upper left corner is the 100 km square's, moved outwards to a multiple of 60 m; the tile reaches 109.8 km
east and south of it. Letters follow the MGRS: columns in sets of three zones, rows in cycles of 2,000 km that start at
A in odd and at F in even zones.

Which squares are tiles is the published list's choice (Sentinel-2 tiling grid S2A_OPER_GIP_TILPAR, 56,686 tiles, 84 S
to 84 N): a square has one name, although two latitude bands may share it, and a square that lies in its own zone by a
corner only is left to the neighbouring zone's tile, which covers that corner by its overlap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely import affinity

from prithvi.errors import SceneError
from prithvi.scenes.polygons import box_in_degrees, cut_at_date_line

_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_TILE = re.compile(r"^T?(\d{1,2})([C-HJ-NP-X])([A-HJ-NP-Z][A-HJ-NP-V])$")
SIDE = 109_800
"""Metres along one side of a tile."""
_BANDS = {
    -93: "C", -80: "D", -71: "E", -62: "F", -53: "G", -44: "H", -35: "J", -27: "K", -18: "L", -9: "M",
    0: "N", 9: "P", 18: "Q", 27: "R", 35: "S", 44: "T", 53: "U", 62: "V", 71: "W", 80: "X",
}  # fmt: skip
"""The first row of squares (100 km, counted from the equator) that the list names by each latitude band."""
_LETTERS = "".join(_BANDS.values())
Runs = dict[int, tuple[tuple[int, int], ...]]
_USUAL: Runs = {
    2: ((-47, 46),), 3: ((-71, 70),), 4: ((-91, 90),), 5: ((-93, 93),), 6: ((-81, 80),), 7: ((-60, 59),),
    8: ((-29, 28),),
}  # fmt: skip
"""The list's squares of most zones: column (of 100 km) to its first and last rows."""
_BETWEEN: Runs = {4: ((-91, 78),), 5: ((-93, 79),), 6: ((-81, 79),)}
"""Zones 32, 34 and 36, which Svalbard's wide zones leave without band X."""
_WIDE: Runs = {3: ((-71, 70), (79, 85)), 4: ((-91, 93),)}
"""The west of zones 33, 35 and 37, which are wide at Svalbard."""
_OWN: dict[int, Runs] = {
    # The list begins at zone 1, which therefore keeps both its edges; zone 60 leaves both to its neighbours.
    1: {1: ((-29, 28),), 2: ((-60, 59),), 3: ((-81, 80),), 4: ((-93, 93),)},
    60: {5: ((-91, 90),), 6: ((-71, 70),), 7: ((-47, 46),), 8: ()},
    31: {6: ((-81, 62), (70, 90)), 7: ((-60, 59), (79, 80))},
    32: {**_BETWEEN, 2: ((-47, 46), (63, 70))},
    33: {**_WIDE, 6: ((-81, 90),), 7: ((-60, 59), (79, 80))},
    34: _BETWEEN,
    35: {**_WIDE, 6: ((-81, 90),), 7: ((-60, 59), (79, 80))},
    36: _BETWEEN,
    37: _WIDE,
}
"""Where a zone differs from most: the date line, Norway and Svalbard."""


def tile_grid(tile: str, resolution: int = 30) -> GeoBox:
    """The pixels of a tile: 3,660 x 3,660 of 30 m, in its UTM zone.

    South of the equator the CRS is the southern zone's (EPSG:327xx, as Sentinel-2 has it); files may say the same place
    in the northern zone with negative northings, as Landsat does.

    Raises:
        SceneError: the published list has no such tile.

    """
    zone, column, row = _square(tile)
    left, top = _corner(column, row)
    south = row < 0
    epsg = (32700 if south else 32600) + zone
    top += 10_000_000 * south  # multiples of 60 m are counted from the equator, also in the south
    return GeoBox.from_bbox((left, top - SIDE, left + SIDE, top), crs=f"EPSG:{epsg}", resolution=resolution, tight=True)


def tile_footprints(tiles: Iterable[str]) -> gpd.GeoDataFrame:
    """One row a tile: `tile` and its square in longitude and latitude (EPSG:4326), cut at the date line.

    Raises:
        SceneError: the published list has no such tile.

    """
    names = [name.removeprefix("T") for name in tiles]
    shapes = []
    for name in names:
        zone, column, row = _square(name)
        parts = cut_at_date_line(shapely.Polygon(_outlines(zone, [(column, row)])[0]))
        shapes.append(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))
    return gpd.GeoDataFrame({"tile": names}, geometry=shapes, crs="EPSG:4326")


def tiles_in(bbox: Sequence[float]) -> list[str]:
    """Names of the tiles whose square touches a box.

    Args:
        bbox: west, south, east, north in degrees; west is greater than east in a box across the date line.

    Raises:
        SceneError: the box is none.

    """
    west, south, east, north = bbox
    boxes = box_in_degrees(*bbox)
    if west > east:
        east += 360
    wanted = shapely.union_all([affinity.translate(part, turn) for part in boxes for turn in (-360, 0, 360)])
    shapely.prepare(wanted)
    found = []
    # A zone's tiles reach 410 km, 3.7 degrees at the equator, to both sides of its middle.
    reach = 3.7 / math.cos(math.radians(min(85.0, max(abs(south), abs(north)) + 2)))
    for zone in range(1, 61):
        if (zone * 6 - 183 - west + reach) % 360 > east - west + 2 * reach:
            continue
        # A degree of latitude is 111 km; a tile's side and the bend of its edges are less than two.
        near = {name: at for name, at in _tiles_of(zone).items() if south - 2 < at[1] / 1.11 < north + 2}
        if near:
            touched = shapely.intersects(shapely.polygons(_outlines(zone, list(near.values()))), wanted)
            found += [name for name, here in zip(near, touched, strict=True) if here]
    return sorted(found)


@lru_cache(maxsize=60)
def _tiles_of(zone: int) -> dict[str, tuple[int, int]]:
    """Names of a zone's tiles to their columns and rows, of 100 km from the false easting and the equator."""
    runs = {**_USUAL, **_OWN.get(zone, {})}
    squares = ((column, row) for column in runs for first, last in runs[column] for row in range(first, last + 1))
    return {_name(zone, *square): square for square in squares}


def _corner(column: int, row: int) -> tuple[int, int]:
    """Easting and northing (negative in the south) of a tile's upper left corner."""
    return math.floor(column * 100_000 / 60) * 60, math.ceil((row + 1) * 100_000 / 60) * 60


def _outlines(zone: int, squares: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
    """(squares, points, 2) longitudes and latitudes around tiles; longitudes do not jump at the date line."""
    steps = np.arange(10) / 10 * SIDE
    still, full = np.zeros(10), np.full(10, SIDE)
    across = np.concatenate([steps, full, SIDE - steps, still, [0]])
    down = np.concatenate([still, steps, full, SIDE - steps, [0]])
    left, top = np.array([_corner(*square) for square in squares], dtype=np.float64).T
    back = Transformer.from_crs(f"EPSG:{32600 + zone}", "EPSG:4326", always_xy=True)
    longitude, latitude = back.transform(left[:, None] + across, top[:, None] - down)
    middle = zone * 6 - 183
    return np.stack([(longitude - middle + 180) % 360 - 180 + middle, latitude], axis=-1)


def _band(row: int) -> str:
    return _BANDS[max(first for first in _BANDS if first <= row)]


def _name(zone: int, column: int, row: int) -> str:
    letter = _ROWS[(row + (5 if zone % 2 == 0 else 0)) % 20]
    return f"{zone:02d}{_band(row)}{_COLUMNS[(zone - 1) % 3][column - 1]}{letter}"


def _square(tile: str) -> tuple[int, int, int]:
    """Zone, column and row of a tile."""
    match = _TILE.match(tile)
    if match is None or not 1 <= int(match[1]) <= 60:
        raise SceneError(f"{tile} is no MGRS tile: expected a zone, a latitude band and two letters, such as 31UDS.")
    zone, band, letters = int(match[1]), match[2], match[3]
    known = _tiles_of(zone)
    name = f"{zone:02d}{band}{letters}"
    if name in known:
        return (zone, *known[name])
    # A square that two latitude bands share has the name of one of them.
    place = _LETTERS.index(band)
    beside = [f"{zone:02d}{other}{letters}" for other in _LETTERS[max(0, place - 1) : place + 2]]
    told = next((f": the square at the edge of its band is {other}" for other in beside if other in known), "")
    raise SceneError(f"{tile} is no tile of the Sentinel-2 grid{told}.")
