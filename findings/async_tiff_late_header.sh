#!/usr/bin/env bash
# What async-tiff fetches to open a tiled GeoTIFF that was given a scale after its pixels: GDAL then writes the table of
# blocks anew, at the end of the file.
#
# Guess: some tens of kilobytes, as GDAL: the first bytes say where the table is, and the next request goes there.
# Seen: everything from the beginning up to the table, which is the whole file, before the first pixel. Without the scale,
# or as a COG, opening is one request.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "async-tiff==0.7.2" "obstore==0.12.1" "rasterio==1.4.4" "numpy==2.2.6"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import asyncio
from importlib.metadata import version

import numpy as np
import rasterio
from async_tiff import TIFF
from obstore.store import LocalStore

print("async-tiff", version("async-tiff"), "obstore", version("obstore"), "GDAL", rasterio.__gdal_version__)
values = np.random.default_rng(0).integers(0, 9999, (2048, 2048)).astype("int16")
for name, form in (
    ("scaled.tif", {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}),
    ("plain.tif", {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}),
    ("cog.tif", {"driver": "COG", "blocksize": 256, "compress": "deflate", "overviews": "none"}),
):
    place = rasterio.transform.from_origin(600000, 5000000, 30, 30)
    profile = {"count": 1, "height": 2048, "width": 2048, "dtype": "int16", "crs": "EPSG:32631", "transform": place}
    with rasterio.open(name, "w", **profile, **form) as raster:
        raster.write(values, 1)
        if name == "scaled.tif":
            raster.scales = (1e-4,)


class Counting:
    """Hands ranges on, and counts them."""

    def __init__(self):
        self.store, self.fetched = LocalStore("."), []

    async def get_range_async(self, path, *, start, end=None, length=None):
        end = end if end is not None else start + length
        self.fetched.append((start, end))
        return await self.store.get_range_async(path, start=start, end=end)

    async def get_ranges_async(self, path, *, starts, ends=None, lengths=None):
        ends = ends if ends is not None else [start + length for start, length in zip(starts, lengths)]
        self.fetched += zip(starts, ends)
        return await self.store.get_ranges_async(path, starts=starts, ends=ends)


async def opened(name):
    counting = Counting()
    await TIFF.open(name, store=counting, prefetch=32768)
    return counting.fetched


from pathlib import Path

fetched = {name: asyncio.run(opened(name)) for name in ("scaled.tif", "plain.tif", "cog.tif")}
for name, ranges in fetched.items():
    size, got = Path(name).stat().st_size, sum(end - start for start, end in ranges)
    print(f"{name}: {size:,} bytes, opening asks {len(ranges)} times for {got:,} bytes: {ranges[:4]} ...")
size = Path("scaled.tif").stat().st_size
assert sum(min(end, size) - start for start, end in fetched["scaled.tif"]) > 0.9 * size
for name in ("plain.tif", "cog.tif"):
    assert sum(end - start for start, end in fetched[name]) <= 32768
PY
