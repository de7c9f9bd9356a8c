"""Pixels of a six-band granule from a server that answers 50 ms late over a line as fast as the machine."""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.flood_scene import read_sample
from benchmarks.slow_server import count_of, slow_server
from benchmarks.suite.jobs import Work, need
from prithvi.bands import PRITHVI_BANDS
from prithvi.hls.granules import Granule
from prithvi.scenes import crop, open_scene, read
from tests.synthetic_hls import tile_grid

SIDE, DELAY, THREADS = 3660, 0.05, 18
GRANULE = Granule("31UDS", dt.datetime(2022, 3, 1, 10, tzinfo=dt.UTC), "S30")
SETTINGS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "GDAL_HTTP_MULTIRANGE": "YES", "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES", "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "VSI_CACHE": "TRUE",
}  # fmt: skip


def make(size: int, folder: Path) -> None:
    """The granule as HLS stores it: int16, deflate, a file a band, blocks of 256 x 256, their table at the end."""
    (folder / "granule").mkdir()
    grid = tile_grid("31UDS")
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1, "dtype": "int16", "nodata": -9999,
               "crs": str(grid.crs), "transform": grid.affine, "compress": "deflate", "tiled": True,
               "blockxsize": 256, "blockysize": 256}  # fmt: skip
    for name, band in zip(PRITHVI_BANDS, read_sample(), strict=True):
        with rasterio.open(folder / "granule" / GRANULE.file_name(name), "w", **profile) as raster:
            raster.write(np.tile(band, (8, 8))[:SIDE, :SIDE].astype(np.int16), 1)
            raster.scales = (1e-4,)


def with_ours(paths: list[str], part: slice) -> Any:
    scene = open_scene(paths)
    whole = part.stop - part.start == SIDE
    return scene.values[0] if whole else read(crop(scene, part, part))[0]


def with_rasterio(paths: list[str], part: slice) -> Any:
    """18 threads, a band and a third of the rows each."""
    side = part.stop - part.start
    rows = sorted({0, side, *(side // 3 // 256 * 256 * third for third in (1, 2))})
    found = np.empty((len(paths), side, side), np.int16)

    def one(task: tuple[int, int]) -> None:
        band, number = task
        top, bottom = rows[number], rows[number + 1]
        window = Window(part.start, part.start + top, side, bottom - top)
        with rasterio.open(paths[band]) as raster:
            raster.read(1, window=window, out=found[band, top:bottom])

    with rasterio.Env(**SETTINGS), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, itertools.product(range(len(paths)), range(len(rows) - 1))))
    return found


def with_odc(paths: list[str], part: slice) -> Any:
    import odc.stac
    import pystac
    from odc.geo.geobox import GeoBox

    item = pystac.Item("granule", None, [1.5, 50, 3, 52], GRANULE.time, {})
    item.geometry = {"type": "Polygon", "coordinates": [[[1, 50], [3, 50], [3, 52], [1, 52], [1, 50]]]}
    for name, path in zip(PRITHVI_BANDS, paths, strict=True):
        item.add_asset(name, pystac.Asset(path, media_type=pystac.MediaType.COG))
    grid = tile_grid("31UDS")
    box = GeoBox((SIDE, SIDE), grid.affine, grid.crs)[part, part]
    odc.stac.configure_rio(cloud_defaults=True, **SETTINGS)
    found = odc.stac.load(
        [item], bands=PRITHVI_BANDS, geobox=box, dtype="int16", nodata=-9999, pool=THREADS, resampling="nearest"
    )
    return np.stack([found[name].values[0] for name in PRITHVI_BANDS])


def prepare(way: str, size: int, folder: Path) -> Work:
    """A square in the middle, or the whole; every time under addresses that nobody has in a cache."""
    if way == "odc-stac":
        need("odc-stac", module="odc.stac")
    files = [GRANULE.file_name(name) for name in PRITHVI_BANDS]
    start = 0 if size == SIDE else 1500
    part = slice(start, start + size)
    reader: Callable[[list[str], slice], Any]
    reader = {"rasterio": with_rasterio, "odc-stac": with_odc}.get(way, with_ours)
    if way == "disk":
        return lambda: {"sum": float(reader([str(folder / "granule" / file) for file in files], part).sum(dtype=float))}
    server = contextlib.ExitStack()
    atexit.register(server.close)
    base, turns = server.enter_context(slow_server(folder, DELAY)), itertools.count()

    def work() -> dict[str, float]:
        link = folder / f"{way}-{next(turns)}"
        link.symlink_to(folder / "granule")
        count_of(base)
        found = reader([f"{base}/{link.name}/{file}" for file in files], part)
        count = count_of(base)
        return {"requests": float(count.requests), "MB sent": count.sent / 1e6, "sum": float(found.sum(dtype=float))}

    return work
