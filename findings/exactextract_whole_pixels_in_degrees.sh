#!/usr/bin/env bash
# What exactextract counts in polygons that were made of the very raster, where that lies in degrees.
#
# Guess: the pixels that each was made of, to rounding: its edges run along edges of pixels, and a coordinate that is off by
# the last digit of a double moves an area by 1e-12 of a pixel.
# Seen: in some of the polygons whole pixels too many or too few: a pixel outside, or a hole of one pixel, counts as
# covered (coverage 1.0). On the same grid in whole numbers (one pixel is 1, the corner 0) every count is right, and GEOS
# has every area right in degrees too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "exactextract==0.3.0" "rasterio==1.4.4" "shapely==2.1.2" "numpy==2.3.5"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import rasterio
import shapely
from exactextract import exact_extract
from rasterio.features import shapes
from rasterio.transform import Affine

for name in ("exactextract", "rasterio", "shapely", "numpy"):
    print(name, version(name))
# Blobs of some tens of pixels, as classes of a map are.
noise = np.random.default_rng(0).normal(size=(300, 300))
smooth = sum(np.roll(noise, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3))
classes = (smooth > 3).astype("uint8")
size = 8.983152841195215e-05  # 10 m, in degrees
grids = {
    "degrees": (Affine(size, 0, -0.7818936232976315, 0, -size, 38.12881257139627), "EPSG:4326"),
    "pixels": (Affine(1, 0, 0, 0, -1, 300), None),
}
wrong = {}
for name, (transform, crs) in grids.items():
    path, pixel = f"{name}.tif", abs(transform.a * transform.e)
    profile = {"driver": "GTiff", "count": 1, "height": 300, "width": 300, "dtype": "uint8", "crs": crs}
    with rasterio.open(path, "w", transform=transform, **profile) as raster:
        raster.write(classes, 1)
    made = [shape for shape, value in shapes(classes, transform=transform) if value == 1]
    pixels = np.array([round(shapely.geometry.shape(shape).area / pixel) for shape in made])
    assert pixels.sum() == classes.sum() and all(shapely.geometry.shape(shape).is_valid for shape in made)
    features = [{"type": "Feature", "geometry": shape, "properties": {}} for shape in made]
    counted = np.array([each["properties"]["count"] for each in exact_extract(path, features, ["count"])])
    off = counted - pixels
    wrong[name] = int((abs(off) > 1e-3).sum())
    print(f"{name}: {len(made)} polygons of {pixels.sum()} pixels; {wrong[name]} counted wrong, by up to {abs(off).max():.3f}")
assert wrong["degrees"] > 0, "changed: every polygon is counted right in degrees"
assert wrong["pixels"] == 0, "changed: polygons are counted wrong in whole numbers"
PY
