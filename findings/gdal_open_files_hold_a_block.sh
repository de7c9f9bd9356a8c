#!/usr/bin/env bash
# rasterio 1.4.4 (GDAL 3.10.3), numpy 2.2.6: memory of GeoTIFFs that stay open after they were read.
#
# One would guess: what GDAL keeps of open files is bounded by GDAL_CACHEMAX, here 8 MB for all of them.
# Seen: a file whose bands are interleaved by pixel holds one unpacked block of all its bands beside that cache until it is
# closed, 16.8 MB each for 64 bands of bytes in blocks of 512 (as embeddings are stored), so that twenty open files hold
# a third of a gigabyte; the same pixels interleaved by band hold next to nothing. Whoever keeps files open (xarray
# keeps up to 128) pays for each.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "rasterio==1.4.4" "numpy==2.2.6"
"$work/venv/bin/python" - "$work" <<'PYTHON'
import gc
import os
import sys

import numpy as np
import rasterio
from rasterio.transform import from_origin

FILES, BANDS, BLOCK, SIZE = 20, 64, 512, 64


def held() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
found = {}
for interleave in ("band", "pixel"):
    paths = [f"{sys.argv[1]}/{interleave}_{number}.tif" for number in range(FILES)]
    for path in paths:
        with rasterio.open(
            path, "w", driver="GTiff", width=SIZE, height=SIZE, count=BANDS, dtype="uint8", tiled=True, blockxsize=BLOCK,
            blockysize=BLOCK, interleave=interleave, compress="deflate", crs="EPSG:32631",
            transform=from_origin(600_000, 5_000_000, 10, 10),
        ) as raster:
            raster.write(np.ones((BANDS, SIZE, SIZE), np.uint8))
    gc.collect()
    with rasterio.Env(GDAL_CACHEMAX=8_000_000):
        before, files = held(), [rasterio.open(path) for path in paths]
        for file in files:
            file.read()
        gc.collect()
        found[interleave] = (held() - before) / FILES
        for file in files:
            file.close()
    print(f"interleaved by {interleave}: {found[interleave]:.1f} MB for each open file")

block = BANDS * BLOCK * BLOCK / 1e6
assert found["pixel"] > 0.7 * block, "open files hold no block any more: this has changed"
assert found["band"] < 0.2 * block, "files by band hold a block, too: this has changed"
print(f"a block of all bands has {block:.1f} MB: each open file interleaved by pixel holds one beside the cache")
PYTHON
