#!/usr/bin/env bash
# Reflectance of a raster with a scale for each band, opened by rioxarray with mask_and_scale=True, written to netCDF or Zarr.
#
# Guess: what is read back is what was written (with one scale for all bands it is).
# Seen: the values are cut to whole numbers, reflectance of 0 to 1 to nothing but 0, and nothing is said: the encoding keeps the
# file's int16, while the scales of the bands stand in it as `scales`, which xarray does not know. Clearing the encoding
# (.drop_encoding()) keeps the values.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rioxarray==0.19.0" "rasterio==1.4.4" "xarray==2025.11.0" "zarr==3.1.5" "netCDF4==1.7.3" "numpy==2.2.6"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import rasterio
import rioxarray
import xarray

for name in ("rioxarray", "xarray", "zarr", "netCDF4"):
    print(name, version(name))
stored = np.random.default_rng(0).integers(100, 5000, (2, 32, 32)).astype("int16")
profile = {"driver": "GTiff", "count": 2, "height": 32, "width": 32, "dtype": "int16", "crs": "EPSG:32631", "nodata": -9999}


def kept(scales, drop=False):
    with rasterio.open("in.tif", "w", transform=rasterio.transform.from_origin(500000, 4000000, 10, 10), **profile) as raster:
        raster.write(stored)
        raster.scales = scales
    image = rioxarray.open_rasterio("in.tif", mask_and_scale=True).rename("image").load()
    assert np.allclose(image, stored * np.array(scales)[:, None, None])
    image = image.drop_encoding() if drop else image
    image.to_netcdf("out.nc")
    image.to_zarr("out.zarr", mode="w")
    with xarray.open_dataset("out.nc") as one, xarray.open_zarr("out.zarr") as other:
        found = [one["image"].values, other["image"].values]
    print(f"scales {scales}{', encoding dropped' * drop}: {image.values[0, 0, 0]:.4f} comes back as", *(f"{each[0, 0, 0]:.4f}" for each in found))
    return [bool(np.allclose(each, image, atol=1e-6)) for each in found]


assert all(kept((0.0001, 0.0001)))
assert not any(kept((0.0001, 0.001))), "changed: scales of bands come back"
assert all(kept((0.0001, 0.001), drop=True))
PY
