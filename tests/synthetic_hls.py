"""A synthetic archive of HLS granules whose every pixel can be computed again from its place, band and date.

For correctness and scale only: real names, grids, bands, Fmask bits, seasons, clouds, swath edges and holes over a
made-up ground. Nothing learned on it says anything about the Earth, and no accuracy is ever reported on it.

    python tests/synthetic_hls.py OUT --tiles 31UDS 32ULC --dates 12 --size 768
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.features import shapes
from shapely import segmentize
from shapely.geometry import MultiPolygon, Polygon, box, shape

from prithvi.bands import PRITHVI_BANDS
from prithvi.hls.granules import Granule
from prithvi.hls.items import granule_items
from prithvi.scenes.polygons import cut_at_date_line

COVER = ("water", "forest", "maize", "wheat", "grass", "bare")
"""Land cover by number; maize and wheat lie in rectangular fields."""
FIRST_ROWS = {
    "C": -93, "D": -80, "E": -71, "F": -62, "G": -53, "H": -44, "J": -35, "K": -27, "L": -18, "M": -9,
    "N": 0, "P": 9, "Q": 18, "R": 27, "S": 35, "T": 44, "U": 53, "V": 62, "W": 71, "X": 80,
}  # fmt: skip
"""The first row of 100 km squares, counted from the equator, of each latitude band of the MGRS."""
FIELD = 720.0
"""Metres along a field."""
_BASE = np.array([
    # blue green red nir_narrow swir_1 swir_2, reflectance
    [0.050, 0.060, 0.040, 0.020, 0.010, 0.008],
    [0.025, 0.045, 0.030, 0.300, 0.140, 0.060],
    [0.060, 0.090, 0.100, 0.220, 0.260, 0.200],
    [0.055, 0.085, 0.080, 0.280, 0.230, 0.150],
    [0.040, 0.075, 0.060, 0.330, 0.220, 0.110],
    [0.100, 0.140, 0.180, 0.250, 0.320, 0.280],
])  # fmt: skip
_GREEN = np.array([0.0, 0.35, 1.0, 0.9, 0.6, 0.0])
"""How strongly a cover follows its season."""
_PEAK = np.array([180, 190, 210, 140, 160, 180])
"""Day of the year on which it is greenest."""
_SHIFT = np.array([-0.010, 0.000, -0.030, 0.160, -0.060, -0.050])
"""What full green adds to each band."""
Grid = np.ndarray


def cover(x: Grid, y: Grid) -> Grid:
    """Land cover number at UTM coordinates in metres."""
    wave = np.sin(x / 2900) + np.cos(y / 3700) + np.sin((x + 2 * y) / 5300)
    column, row = np.floor(x / FIELD).astype(np.int64), np.floor(y / FIELD).astype(np.int64)
    crop = 2 + ((column * 7919 + row * 104_729) % 17 % 2)
    return np.where(wave > 1.5, 1, np.where(wave < -1.6, 5, np.where(np.abs(wave) < 0.12, 4, crop))).astype(np.uint8)


def _river(x: Grid, y: Grid) -> Grid:
    """Metres from the middle of the river."""
    return np.abs((x % 12_000) - 6000 - 900 * np.sin(y / 2100))


def flood(x: Grid, y: Grid, date: dt.date) -> Grid:
    """Where there is water: the river, three times as wide in spring."""
    return _river(x, y) < (360 if date.month in (3, 4) else 120)


def burn(x: Grid, y: Grid, date: dt.date) -> Grid:
    """Where the ground has burnt: discs from July on."""
    near = ((x % 9000) - 3000) ** 2 + ((y % 9000) - 5000) ** 2 < 1500**2
    return near & (_river(x, y) > 360) & (date.timetuple().tm_yday >= 182)


def surface(x: Grid, y: Grid, date: dt.date, band: str) -> Grid:
    """Reflectance of the ground at UTM coordinates."""
    kind, place = cover(x, y), PRITHVI_BANDS.index(band)
    day = date.timetuple().tm_yday
    green = _GREEN[kind] * np.clip(np.cos((day - _PEAK[kind]) / 365.25 * 2 * np.pi), 0, 1)
    value = _BASE[kind, place] + green * _SHIFT[place] + 0.01 * np.sin(x / 410 + place) * np.cos(y / 530)
    value = np.where(burn(x, y, date), 0.35 * value + 0.06 * (place > 3), value)
    return np.where(flood(x, y, date), _BASE[0, place], value)


def expected_dn(x: Grid, y: Grid, date: dt.date, band: str) -> Grid:
    """What a cloudless pixel stores: reflectance x 10,000 with a noise that belongs to the place, band and date."""
    cell = (x // 30).astype(np.int64) * 73_856_093 ^ (y // 30).astype(np.int64) * 19_349_663
    noise = (cell ^ (date.toordinal() * 83_492_791 + PRITHVI_BANDS.index(band) * 2_654_435_761)) % 61 - 30
    return np.clip(np.rint(surface(x, y, date, band) * 10_000) + noise, 1, 10_000).astype(np.int16)


def pixel_centres(affine: Affine, height: int, width: int) -> tuple[Grid, Grid]:
    """Coordinates of all pixel centres of a grid."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return affine * (columns, rows)


def tile_grid(tile: str, resolution: int = 30) -> GeoBox:
    """The pixels of an MGRS tile: a 100 km square's corner moved outwards to multiples of 60 m, 109.8 km wide."""
    zone, (band, column_letter, row_letter) = int(tile[:2]), tile[2:]
    column = 1 + ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3].index(column_letter)
    first = FIRST_ROWS[band]
    row = first + ("ABCDEFGHJKLMNPQRSTUV".index(row_letter) - (5 if zone % 2 == 0 else 0) - first) % 20
    left, top = math.floor(column * 100_000 / 60) * 60, math.ceil((row + 1) * 100_000 / 60) * 60
    top += 10_000_000 * (row < 0)
    epsg = (32700 if row < 0 else 32600) + zone
    return GeoBox.from_bbox(
        (left, top - 109_800, left + 109_800, top), f"EPSG:{epsg}", resolution=resolution, tight=True
    )


def tile_footprints(tiles: Sequence[str]) -> gpd.GeoDataFrame:
    """One row a tile: `tile` and its square in longitude and latitude, cut at the date line."""
    shapes = []
    for tile in tiles:
        grid = tile_grid(tile)
        ring = segmentize(box(*grid.boundingbox), 10_980).exterior.coords.xy
        to_degrees = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True)
        longitude, latitude = to_degrees.transform(*map(np.array, ring))
        middle = int(tile[:2]) * 6 - 183
        parts = cut_at_date_line(Polygon(np.c_[(longitude - middle + 180) % 360 - 180 + middle, latitude]))
        shapes.append(parts[0] if len(parts) == 1 else MultiPolygon(parts))
    return gpd.GeoDataFrame({"tile": list(tiles)}, geometry=shapes, crs="EPSG:4326")


@dataclass(frozen=True)
class Archive:
    """What was made."""

    root: Path
    items: list[pystac.Item]
    catalog: Path
    """A static, self-contained STAC catalog."""
    fields: Path
    """GeoPackage of the crop fields: columns crop, part."""
    truth: dict[str, Path] = field(default_factory=dict)
    """Tile to the raster of its land cover."""


def make_archive(
    root: Path,
    tiles: Sequence[str],
    *,
    dates: int = 6,
    start: dt.date = dt.date(2022, 3, 1),
    every_days: int = 12,
    size: int = 3660,
    seed: int = 0,
    cloud: float = 0.15,
    holes: int = 6,
    swath: bool = True,
) -> Archive:
    """Writes granules of the upper left `size` x `size` pixels of each tile, L30 and S30 by turns."""
    root.mkdir(parents=True, exist_ok=True)
    truth = {}
    for tile in tiles:
        grid = tile_grid(tile)[:size, :size]
        x, y = pixel_centres(grid.affine, size, size)
        for number in range(dates):
            chance = np.random.default_rng([seed, number, zlib.crc32(tile.encode())])
            when = dt.datetime.combine(start + dt.timedelta(days=number * every_days), dt.time(10), dt.UTC)
            when += dt.timedelta(seconds=int(chance.integers(0, 3600)))
            granule = Granule(tile, when, "S30" if number % 2 else "L30")
            share = 0.0 if number % 3 == 0 else cloud * float(chance.uniform(0.2, 2.5))
            _write_granule(root / str(granule), granule, grid, x, y, share, chance, holes, swath and number % 4 == 3)
        truth[tile] = root / "truth" / f"cover_{tile}.tif"
        _write(truth[tile], cover(x, y), grid, None)
    items = granule_items(root)
    for item in items:
        item.collection_id = f"HLS{item.id[4:7]}_2.0"
    return Archive(root, items, _write_catalog(root, items), _write_fields(root, tiles, size), truth)


def _write_granule(
    folder: Path, granule: Granule, grid: object, x: Grid, y: Grid, share: float, chance: np.random.Generator,
    holes: int, swath: bool,
) -> None:  # fmt: skip
    date, size = granule.time.date(), x.shape[0]
    phase = chance.uniform(0, 6.28, 4)
    field_of_clouds = sum(
        np.sin(x / (900 + 700 * i) + phase[i]) * np.cos(y / (1100 + 500 * i) - phase[i]) for i in range(4)
    )
    limit = np.quantile(field_of_clouds, 1 - min(share, 0.98)) if share > 0 else np.inf
    clouds = field_of_clouds > limit
    shadow = np.roll(clouds, (8, 5), (0, 1)) & ~clouds
    adjacent = (field_of_clouds > limit - 0.1) & ~clouds & ~shadow
    outside = x - x.min() > (x.max() - x.min()) * 0.93 - (y - y.min()) * 0.05 if swath else np.zeros_like(clouds)
    snow = (cover(x, y) == 5) & (date.month in (12, 1, 2))
    water = flood(x, y, date)
    level = ((np.sin(x / 20_000) + 1) * 2).astype(np.uint8).clip(0, 3)
    fmask = (clouds * 2 + adjacent * 4 + shadow * 8 + snow * 16 + water * 32 + (level << 6)).astype(np.uint8)
    fmask[fmask == 255] = 191  # 255 means fill
    fmask[outside] = 255
    good = (fmask & 0b1010) == 0
    tags = {
        "cloud_coverage": f"{100 * float((~good & ~outside).sum() / max(1, (~outside).sum())):.4f}",
        "spatial_coverage": f"{100 * float((~outside).mean()):.4f}",
        "SENSING_TIME": granule.time.isoformat(),
    }
    spots = [
        (chance.integers(0, size), chance.integers(0, size), chance.integers(1, 6), chance.integers(0, 6))
        for _ in range(holes)
    ]
    for place, band in enumerate(PRITHVI_BANDS):
        values = expected_dn(x, y, date, band)
        values[clouds] = np.clip(values[clouds].astype(np.int32) + 5500, 1, 10_000)
        values[shadow] //= 2
        values[outside] = -9999
        for row, column, wide, which in spots:
            if which == place:
                values[row : row + wide, column : column + wide] = -9999
        _write(folder / granule.file_name(band), values, grid, -9999, tags, scale=1e-4)
    _write(folder / granule.file_name("fmask"), fmask, grid, 255, tags)


def _write(
    path: Path, values: Grid, grid: object, nodata: float | None, tags: dict[str, str] | None = None, scale: float = 1.0
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "COG", "height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype,
        "crs": f"EPSG:{grid.crs.epsg}", "transform": grid.affine, "nodata": nodata, "compress": "deflate", "level": 1,
        "blocksize": 256, "overviews": "auto", "num_threads": 1,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(values, 1)
        raster.update_tags(**(tags or {}))
        raster.scales = (scale,)


def _write_catalog(root: Path, items: Sequence[pystac.Item]) -> Path:
    """The item collection, and a static catalog of both products with relative addresses."""
    plain = [item.to_dict(include_self_link=False, transform_hrefs=False) for item in items]
    (root / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": plain}))
    catalog = pystac.Catalog("synthetic-hls", "Made-up granules for tests")
    for name, product in (("HLSL30_2.0", "Landsat"), ("HLSS30_2.0", "Sentinel-2")):
        mine = [item.clone() for item in items if item.collection_id == name]
        if not mine:
            continue
        bounds = np.array([item.bbox for item in mine])
        west, south, east, north = [*bounds[:, :2].min(axis=0).tolist(), *bounds[:, 2:].max(axis=0).tolist()]
        times = [item.datetime for item in mine]
        extent = pystac.Extent(
            pystac.SpatialExtent([[west, south, east, north]]), pystac.TemporalExtent([[min(times), max(times)]])
        )
        collection = pystac.Collection(name, f"Made-up {product} granules", extent, license="CC0-1.0")
        collection.add_items(mine)
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(root / "catalog"))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return root / "catalog" / "catalog.json"


def _write_fields(root: Path, tiles: Sequence[str], size: int) -> Path:
    """The crop fields as exact polygons in longitude and latitude, with a column of parts by their column of ground."""
    frames = []
    for tile in tiles:
        grid = tile_grid(tile)[:size, :size]
        left, bottom, right, top = grid.extent.boundingbox
        rows = []
        for column in range(int(left // FIELD) + 1, int(right // FIELD)):
            for row in range(int(bottom // FIELD) + 1, int(top // FIELD)):
                kind = 2 + ((column * 7919 + row * 104_729) % 17 % 2)
                corner = (column * FIELD, row * FIELD)
                part = "val" if column * FIELD > left + 0.5 * (right - left) else "train"
                rows.append(
                    {"crop": COVER[kind], "part": part, "geometry": box(*corner, corner[0] + FIELD, corner[1] + FIELD)}
                )
        frames.append(gpd.GeoDataFrame(rows, crs=f"EPSG:{grid.crs.epsg}").to_crs("EPSG:4326"))
    path = root / "truth" / "fields.gpkg"
    frame = gpd.GeoDataFrame(
        {k: [v for f in frames for v in f[k]] for k in ("crop", "part", "geometry")}, crs="EPSG:4326"
    )
    frame.to_file(path)
    return path


def burn_perimeters(grid: object, size: int, date: dt.date) -> gpd.GeoDataFrame:
    """Polygons of the burnt ground, exact to the pixel, in the grid's CRS."""
    x, y = pixel_centres(grid.affine, size, size)
    burnt = burn(x, y, date).astype(np.uint8)
    found = [shape(geometry) for geometry, value in shapes(burnt, burnt == 1, transform=grid.affine) if value]
    return gpd.GeoDataFrame({"state": ["burnt"] * len(found)}, geometry=found, crs=f"EPSG:{grid.crs.epsg}")


@contextmanager
def serve_stac(archive: Archive) -> Iterator[str]:
    """A real STAC API (rustac serve) over the archive on this machine; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        collections = [
            json.loads(path.read_text()) for path in sorted(archive.catalog.parent.glob("*/collection.json"))
        ]
        hrefs = []
        for plain in collections:
            plain["links"] = []
            hrefs.append(Path(folder, f"{plain['id']}.json"))
            hrefs[-1].write_text(json.dumps(plain))
        command = [str(Path(sys.executable).with_name("rustac")), "serve", "--addr", f"127.0.0.1:{port}"]
        server = subprocess.Popen(
            [*command, *map(str, hrefs), str(archive.root / "items.json")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            for _ in range(200):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/collections", timeout=2) as answer:
                        if answer.status == 200:
                            break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


def main() -> None:
    """Writes an archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiles", nargs="+", default=["31UDS", "32ULC"])
    parser.add_argument("--dates", type=int, default=12)
    parser.add_argument("--size", type=int, default=3660)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    archive = make_archive(given.out, given.tiles, dates=given.dates, size=given.size, seed=given.seed)
    sys.stdout.write(f"{len(archive.items)} granules in {archive.root}\n")


if __name__ == "__main__":
    main()
