#!/usr/bin/env bash
# Which GDAL opens an array of 16-bit floats that xarray wrote to a Zarr store of format 2.
#
# Guess: GDAL 3.12, which has 16-bit floats of its own, opens what GDAL 3.10 (which has none, and gives 32 bits) opens.
# Seen: xarray takes NaN for the fill value of floats; of `<f2` GDAL 3.12 refuses it ("Invalid fill_value"), while 3.10
# opens the array, and both open one whose `_FillValue` was set to None, and one of 32-bit floats with NaN.
set -euo pipefail
for python in python3.13 python3.12; do # rasterio 1.5 wants 3.12 or later
    "$python" -c "" 2>/dev/null && break
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 1.4.4 1.5.2; do
    "$python" -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "rasterio==$version" "numpy==2.3.5"
done
"$folder/1.5.2/bin/pip" install -q "zarr==3.1.6" "xarray==2025.9.0"
cd "$folder"
1.5.2/bin/python -W ignore - <<'PY'
import json

import numpy as np
import xarray as xr

for name, kind, more in (("plain", "f2", {}), ("none", "f2", {"_FillValue": None}), ("wide", "f4", {})):
    values = xr.DataArray(np.arange(4096, dtype=kind).reshape(64, 64), dims=("y", "x"), name="image")
    values.encoding |= more
    values.to_dataset().to_zarr(f"{name}.zarr", zarr_format=2)
    print(name, json.load(open(f"{name}.zarr/image/.zarray"))["fill_value"])
PY
for version in 1.4.4 1.5.2; do
    "$version/bin/python" -W ignore - <<'PY'
import rasterio

found = {}
for name in ("plain", "none", "wide"):
    try:
        with rasterio.open(f'ZARR:"{name}.zarr":/image') as raster:
            found[name] = f"{raster.dtypes[0]} {int(raster.read(1)[1, 1])}"
    except rasterio.errors.RasterioIOError as error:
        found[name] = str(error)
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, found)
new = rasterio.__gdal_version__.startswith("3.12")
assert found["plain"] == ("Invalid fill_value" if new else "float32 65")
assert (found["none"], found["wide"]) == (f"float{16 if new else 32} 65", "float32 65")
PY
done
