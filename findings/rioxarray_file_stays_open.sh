#!/usr/bin/env bash
# When a file closes that rioxarray.open_rasterio opened, once nobody holds its array any more.
#
# Guess: at once, as with the last reference to a dataset of rasterio; at the latest after .load(), when all is read.
# Seen: not before Python's garbage collector looks for cycles, with and without chunks, read or not. A process that
# collects rarely keeps a file open for each call (a service here kept three more a request). .close() and `with` close it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rioxarray==0.19.0" "rasterio==1.4.4" "xarray==2025.11.0" "dask==2025.11.0" "numpy==2.2.6"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import gc
import os

import numpy as np
import rasterio
import rioxarray
import xarray

print("rioxarray", rioxarray.__version__, "xarray", xarray.__version__, "rasterio", rasterio.__version__)
path = os.path.abspath("m.tif")
place = rasterio.transform.from_origin(500000, 4000000, 10, 10)
profile = {"driver": "GTiff", "count": 1, "height": 64, "width": 64, "dtype": "uint8", "crs": "EPSG:32631"}
with rasterio.open(path, "w", transform=place, **profile) as raster:
    raster.write(np.ones((1, 64, 64), "uint8"))


def times_open():
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sum(os.path.realpath(link) == path for link in links)


def after_five(how):
    gc.collect()
    gc.disable()
    for _ in range(5):
        how()
    stay = times_open()
    gc.enable()
    gc.collect()
    return stay, times_open()


def closed():
    with rioxarray.open_rasterio(path) as array:
        array.load()


ways = {
    "rasterio.open": lambda: rasterio.open(path).read(),
    "open_rasterio": lambda: rioxarray.open_rasterio(path),
    "open_rasterio, .load()": lambda: rioxarray.open_rasterio(path).load(),
    "open_rasterio with chunks": lambda: rioxarray.open_rasterio(path, chunks={"y": 32}),
    "open_rasterio in a with": closed,
}
found = {name: after_five(how) for name, how in ways.items()}
for name, (stay, left) in found.items():
    print(f"{name}: after five calls {stay} stay open, after a collection {left}")
assert found["rasterio.open"] == (0, 0) == found["open_rasterio in a with"]
assert all(found[name] == (5, 0) for name in found if name.startswith("open_rasterio") and " with" not in name)
assert found["open_rasterio with chunks"] == (5, 0)
PY
