#!/usr/bin/env bash
# Opening one item of whole numbers (STAC 1.1, projection 2.0, nodata 255) with stackstac as its documentation shows.
#
# Guess: proj:code, proj:transform and proj:shape give the CRS and the grid; or, if epsg= has to be said, the grid is then that of
# the item. stack(items, rescale=False, fill_value=0, dtype="uint16"), the example of its docstring, gives uint16.
# Seen: proj:code is not known (projection 2.0 has no proj:epsg). With epsg= said, proj:transform and proj:shape are passed over
# too, without a word: the item's bbox in degrees, projected, is cut into pixels of another size (10.0059 m for 10 m), so that
# coordinates drift from the asset's. bounds= and resolution= say them again. With proj:epsg the grid is the asset's.
# Beside NumPy 2 every fill_value that is a Python int is refused ("incompatible with the output dtype uint16"); a NumPy
# scalar, np.uint8(255), is taken.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "stackstac==0.5.1" "pystac==1.14.1" "rasterio==1.4.4" "xarray==2025.11.0" "dask==2025.11.0" \
    "numpy==2.3.5" "setuptools<81"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import os
from importlib.metadata import version

import numpy as np
import rasterio
import stackstac
from rasterio.warp import transform_bounds

for name in ("stackstac", "rasterio", "numpy", "xarray"):
    print(name, version(name))
size, west, north = 512, 500010, 4000010
bounds = (west, north - 10 * size, west + 10 * size, north)
classes = np.random.default_rng(0).integers(0, 3, (size, size)).astype("uint8")
profile = {"driver": "GTiff", "count": 1, "height": size, "width": size, "dtype": "uint8", "crs": "EPSG:32631", "nodata": 255}
with rasterio.open("map.tif", "w", transform=rasterio.transform.from_origin(west, north, 10, 10), **profile) as raster:
    raster.write(classes, 1)
w, s, e, n = transform_bounds("EPSG:32631", "EPSG:4326", *bounds)


def item(**said):
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": "map", "bbox": [w, s, e, n], "links": [],
        "geometry": {"type": "Polygon", "coordinates": [[[w, s], [e, s], [e, n], [w, n], [w, s]]]},
        "stac_extensions": ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        "properties": {
            "datetime": "2022-05-31T00:00:00Z", "proj:shape": [size, size], "proj:transform": [10, 0, west, 0, -10, north],
            "proj:bbox": list(bounds), **said,
        },
        "assets": {"classes": {"href": os.path.abspath("map.tif"), "type": "image/tiff; application=geotiff"}},
    }


def attempt(name, item, **options):
    try:
        array = stackstac.stack([item], rescale=False, snap_bounds=False, **options)
        step = float(array.x[1] - array.x[0])
        values = array.values[0, 0]
        same = step == 10 and values.shape == classes.shape and bool((values == classes).all())
        said = f"{array.dtype}, {array.shape[-2]} x {array.shape[-1]} pixels of {step:.4f} m" + ", the asset's" * same
    except ValueError as error:
        said = f"refused: {str(error).splitlines()[0]}"
    print(f"{name}: {said}")
    return said


code = item(**{"proj:code": "EPSG:32631"})
assert "does not have one" in attempt("proj:code", code), "changed: proj:code is known"
found = attempt("proj:code, epsg=", code, epsg=32631)
assert "asset's" not in found and "refused" not in found, "changed: with epsg= the item's grid is taken"
assert "asset's" in attempt("proj:code, epsg=, bounds=, resolution=", code, epsg=32631, bounds=bounds, resolution=10)
old = item(**{"proj:epsg": 32631})
assert "10.0000 m, the asset's" in attempt("proj:epsg", old), "changed: with proj:epsg the grid is another"
for value, dtype in ((0, "uint16"), (255, "uint8")):
    found = attempt(f"{dtype}, fill_value={value}", old, fill_value=value, dtype=dtype)
    assert "incompatible" in found, "changed: whole numbers of Python are taken"
found = attempt("uint8, fill_value=np.uint8(255)", old, fill_value=np.uint8(255), dtype="uint8")
assert found.startswith("uint8") and found.endswith("the asset's"), "changed: a NumPy scalar is refused"
PY
