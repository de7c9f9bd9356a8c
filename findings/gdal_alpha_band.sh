#!/usr/bin/env bash
# Which band ALPHA=YES tags, and when GDAL uses an alpha band as a mask.
#
# Guess: a GeoTIFF of seven bands written with ALPHA=YES has its last band as alpha, and wherever a band is tagged alpha
# GDAL's mask (read_masks, masked=True) follows it.
# Seen: the second band is tagged (the first "extra sample"), which may be green; a seventh band that is tagged alpha by
# hand is no mask for GDAL, whose read_masks calls every pixel valid: it uses alpha only as the second of two or the
# fourth of four bands of 8 or 16 unsigned bits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rasterio==1.4.3" "numpy==2.3.5"
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import rasterio
from rasterio.enums import ColorInterp

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
place = rasterio.transform.from_origin(600_000, 4_200_000, 10, 10)
base = dict(driver="GTiff", height=4, width=4, dtype="uint16", crs="EPSG:32630", transform=place)


def write(name, count, **more):
    pixels = np.full((count, 4, 4), 500, np.uint16)
    pixels[-1, 0] = 0
    with rasterio.open(name, "w", **base, count=count, **more) as raster:
        raster.write(pixels)


write("seven.tif", 7, alpha="YES")
with rasterio.open("seven.tif") as raster:
    tagged = [number for number, colour in enumerate(raster.colorinterp, 1) if colour == ColorInterp.alpha]
print("ALPHA=YES on seven bands tags band", tagged)
found = {}
for count in (4, 7):
    name = f"last{count}.tif"
    write(name, count)
    with rasterio.open(name, "r+") as raster:
        raster.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * (count - 2), ColorInterp.alpha]
    with rasterio.open(name) as raster:
        assert raster.colorinterp[-1] == ColorInterp.alpha
        found[count] = int((raster.read_masks(1) == 0).sum()), raster.mask_flag_enums[0]
        print(f"alpha as band {count} of {count}: {found[count][0]} of 4 transparent pixels are masked, {found[count][1]}")
assert tagged == [2] and found[4][0] == 4 and found[7][0] == 0
PY
