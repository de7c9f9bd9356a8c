#!/usr/bin/env bash
# xarray since 2025.11 keeps attributes in arithmetic, `scale_factor` and `add_offset` among them.
#
# Guess: reflectance computed as `array * scale_factor + add_offset` has no scale any more, as in every xarray before, and
# `rio.to_raster` writes it without one.
# Seen: the attributes stay, rioxarray writes them as GDAL's scale and offset, and whoever reads the file by its tags
# (rioxarray with mask_and_scale, GDAL's unscale, QGIS) scales it a second time: 0.1 becomes -0.09999.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "xarray==2025.12.0" "rioxarray==0.19.0" "rasterio==1.4.3" "numpy==2.3.5"
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import rasterio
import rioxarray
import xarray

print("xarray", xarray.__version__, "rioxarray", rioxarray.__version__, "GDAL", rasterio.__gdal_version__)
place = rasterio.transform.from_origin(600_000, 4_200_000, 10, 10)
with rasterio.open(
    "stored.tif", "w", driver="GTiff", height=2, width=2, count=1, dtype="int16", crs="EPSG:32630", transform=place
) as raster:
    raster.write(np.full((1, 2, 2), 2000, np.int16))
    raster.scales, raster.offsets = [1e-4], [-0.1]
stored = rioxarray.open_rasterio("stored.tif")
reflectance = stored * stored.attrs["scale_factor"] + stored.attrs["add_offset"]
reflectance.rio.to_raster("reflectance.tif")
again = rioxarray.open_rasterio("reflectance.tif", mask_and_scale=True)
print("computed:", float(reflectance.values[0, 0, 0]), "its attributes:", dict(reflectance.attrs))
with rasterio.open("reflectance.tif") as raster:
    print("written with scale", raster.scales, "and offset", raster.offsets)
print("read again by its tags:", float(again.values[0, 0, 0]))
assert reflectance.attrs["scale_factor"] == 1e-4 and abs(float(again.values[0, 0, 0]) + 0.09999) < 1e-6
PY
