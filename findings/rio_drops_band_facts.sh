#!/usr/bin/env bash
# rasterio's own command line: which facts about bands come through its tools.
# Guess: tools that copy pixels of one file to another (convert, clip, warp, stack) copy what belongs to them: band
#        descriptions, scale and offset, nodata, as gdal_translate and gdalwarp do.
# Seen:  rasterio 1.4.4 keeps nodata only. Descriptions are gone, scale is 1 and offset 0, without a word: integers that
#        meant reflectance x 10,000 - 1,000 are plain numbers afterwards. edit-info, which writes in place, keeps all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rasterio==1.4.4" "numpy==2.2.6"
cd "$folder"
cat > see.py <<'PYTHON'
import subprocess
import sys

import numpy as np
import rasterio
from rasterio.transform import from_origin

with rasterio.open(
    "in.tif", "w", driver="GTiff", width=64, height=64, count=2, dtype="int16", crs="EPSG:32630",
    transform=from_origin(600_000, 4_200_000, 10, 10), nodata=-9999,
) as raster:
    raster.write(np.arange(2 * 64 * 64).reshape(2, 64, 64).astype("int16"))
    raster.descriptions = ("B02", "B03")
    raster.scales, raster.offsets = (1e-4, 1e-4), (-0.1, -0.1)


def facts(path):
    with rasterio.open(path) as raster:
        return raster.descriptions, raster.scales, raster.offsets, raster.nodatavals


print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
print("in       ", facts("in.tif"))
commands = {
    "convert": ["convert", "in.tif", "convert.tif"],
    "clip": ["clip", "in.tif", "clip.tif", "--bounds", "600000 4199680 600320 4200000"],
    "warp": ["warp", "in.tif", "warp.tif", "--like", "in.tif"],
    "stack": ["stack", "in.tif", "-o", "stack.tif"],
}
lost = ((None, None), (1.0, 1.0), (0.0, 0.0), (-9999.0, -9999.0))
same = True
for name, command in commands.items():
    subprocess.run([sys.executable.replace("python3", "rio").replace("python", "rio"), *command], check=True,
                   stderr=subprocess.DEVNULL)
    print(f"{name:9}", facts(f"{name}.tif"))
    same &= facts(f"{name}.tif") == lost
subprocess.run([sys.executable.replace("python3", "rio").replace("python", "rio"), "edit-info", "in.tif", "--nodata",
                "-1"], check=True)
print("edit-info", facts("in.tif"))
same &= facts("in.tif") == (("B02", "B03"), (1e-4, 1e-4), (-0.1, -0.1), (-1.0, -1.0))
sys.exit(0 if same else "this changed")
PYTHON
"$folder/venv/bin/python" see.py
