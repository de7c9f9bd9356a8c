#!/usr/bin/env bash
# Reading a window that lies wholly inside a rotated raster, with boundless=True.
#
# Guess: the pixels of the window; boundless only fills what lies beyond the raster's edge.
# Seen: other pixels, without a word, from half a degree of rotation on (none of the values is that of its place); the same
# window without boundless is right. At 90 degrees it raises ZeroDivisionError. windows.from_bounds raises WindowError for
# rasters whose rows run from south to north.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rasterio==1.4.4" "affine==2.4.0" "numpy==2.3.5"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window, WindowError, from_bounds

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
values = np.arange(200 * 200, dtype="int32").reshape(200, 200)
window, true = Window(50, 60, 80, 70), values[60:130, 50:130]
seen = {}
for degrees in (0, 0.5, 10, 90):
    place = Affine.translation(500000, 4000000) * Affine.rotation(degrees) * Affine.scale(10, -10)
    profile = {"driver": "GTiff", "count": 1, "height": 200, "width": 200, "dtype": "int32", "crs": "EPSG:32631"}
    with rasterio.open("raster.tif", "w", transform=place, **profile) as raster:
        raster.write(values, 1)
    with rasterio.open("raster.tif") as raster:
        assert (raster.read(1, window=window) == true).all()
        try:
            seen[degrees] = float((raster.read(1, window=window, boundless=True) == true).mean())
        except ZeroDivisionError as error:
            seen[degrees] = f"ZeroDivisionError: {error}"
    print(f"rotated by {degrees} degrees: {seen[degrees]} of the pixels are right with boundless=True")
assert seen[0] == 1
assert seen[0.5] < 0.5 and seen[10] < 0.5, "changed: rotated rasters are read right"
assert isinstance(seen[90], str), "changed: a raster turned by 90 degrees is read"
try:
    from_bounds(500100, 4000100, 500200, 4000200, Affine(10, 0, 500000, 0, 10, 4000000))
except WindowError as error:
    print("from_bounds of a south-up raster:", error)
else:
    raise SystemExit("changed: from_bounds takes rasters whose rows run north")
PY
