#!/usr/bin/env bash
# rioxarray: names of bands after bands were chosen or put in another order.
# Guess: `long_name`, where open_rasterio puts the descriptions of a file's bands, goes with the bands.
# Seen:  rioxarray 0.19.0 leaves it as it was (xarray copies attributes). Reversed, it names each band after another one,
#        and to_raster writes these wrong descriptions into the new file, without a word. A choice of bands it refuses to
#        write at all ("Number of names in the 'long_name' attribute"). The band coordinate holds the true numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rioxarray==0.19.0" "rasterio==1.4.4" "numpy==2.2.6" "xarray==2025.6.1"
cd "$folder"
cat > see.py <<'PYTHON'
import sys

import numpy as np
import rasterio
import rioxarray
from rasterio.transform import from_origin

names = ("blue", "green", "red")
with rasterio.open(
    "in.tif", "w", driver="GTiff", width=8, height=8, count=3, dtype="int16", crs="EPSG:32630",
    transform=from_origin(600_000, 4_200_000, 10, 10),
) as raster:
    raster.write(np.stack([np.full((8, 8), value, "int16") for value in (1, 2, 3)]))
    raster.descriptions = names
print("rioxarray", rioxarray.__version__)
turned = rioxarray.open_rasterio("in.tif").isel(band=slice(None, None, -1))
print("values", turned.values[:, 0, 0], "band", turned.band.values, "long_name", turned.attrs["long_name"])
turned.rio.to_raster("turned.tif")
with rasterio.open("turned.tif") as raster:
    written = dict(zip(raster.descriptions, (int(value) for value in raster.read()[:, 0, 0])))
print("in turned.tif", written)
try:
    rioxarray.open_rasterio("in.tif").sel(band=[3, 1]).rio.to_raster("two.tif")
    refused = ""
except rioxarray.exceptions.RioXarrayError as error:
    refused = str(error)
print("two bands    ", refused or "written")
same = turned.attrs["long_name"] == names and written == {"blue": 3, "green": 2, "red": 1} and "long_name" in refused
sys.exit(0 if same else "this changed")
PYTHON
"$folder/venv/bin/python" -W ignore see.py
