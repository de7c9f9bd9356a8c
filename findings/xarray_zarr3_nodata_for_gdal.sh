#!/usr/bin/env bash
# Which nodata GDAL states of integers that xarray wrote to Zarr with a `_FillValue`, in format 2 and in format 3.
#
# Guess: the `_FillValue`, as of netCDF and of format 2.
# Seen: in format 3 xarray keeps `_FillValue` as an attribute and leaves the array's own fill_value at 0, and GDAL's nodata
# is the latter: 0. What is 0 is lost for whoever masks by it, and -9999 counts as data. With encoding={"fill_value": -9999}
# beside the attribute both are right. An array without any `_FillValue` has the nodata 0 in format 3, and none in 2.
set -euo pipefail
for python in python3.13 python3.12; do
    "$python" -c "" 2>/dev/null && break
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "xarray==2026.9.0" "zarr==3.4.2" "rasterio==1.5.2"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import rasterio
import xarray as xr

values = np.arange(-1, 4095, dtype="int16").reshape(64, 64)
values[0, 0] = -9999
found = {}
for name, encoding in (("none", {}), ("attribute", {"_FillValue": -9999}), ("both", {"_FillValue": -9999})):
    for version in (2, 3):
        array = xr.DataArray(values, dims=("y", "x"), attrs=dict(encoding))
        array.encoding = {"fill_value": -9999} if name == "both" and version == 3 else {}
        array.to_dataset(name="image").to_zarr(f"{name}{version}.zarr", zarr_format=version)
        with rasterio.open(f'ZARR:"{name}{version}.zarr":/image') as raster:
            found[name, version] = raster.nodata
            kept = int((raster.read_masks(1) > 0).sum())
        print("GDAL", rasterio.__gdal_version__, f"format {version}, {name}: nodata {raster.nodata}, {kept} pixels with data")
assert found == {
    ("none", 2): None, ("none", 3): 0, ("attribute", 2): -9999, ("attribute", 3): 0, ("both", 2): -9999, ("both", 3): -9999,
}
PY
