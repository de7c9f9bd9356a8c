#!/usr/bin/env bash
# Guess: rioxarray's array.rio.transform(recalc=False), the default, gives the transform that write_transform wrote.
# Seen (rioxarray 0.19.0): beside x and y it gives their first corner and only the pixel size of what was written; one
# row of a raster whose transform was written keeps its size, and float32 coordinates move the corner. To read what is
# written, drop x and y first.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q rioxarray==0.19.0 xarray==2025.6.1 rasterio==1.4.4
"$work/venv/bin/python" - <<'PY'
import numpy as np
import rioxarray
import xarray as xr
from affine import Affine

written = Affine(0.0003, 0, 102.0, 0, -0.0003, 45.0)
x, y = 102.0 + 0.0003 * (np.arange(50) + 0.5), 45.0 - 0.0003 * (np.arange(40) + 0.5)
array = xr.DataArray(np.zeros((40, 50)), dims=("y", "x"), coords={"y": y.astype("float32"), "x": x.astype("float32")})
array = array.rio.write_crs(4326).rio.write_transform(written)
found, bare = array.rio.transform(recalc=False), array.drop_vars(["x", "y"]).rio.transform(recalc=False)
moved = max(abs(found.c - written.c), abs(found.f - written.f)) / 0.0003
print("rioxarray", rioxarray.__version__)
print(f"written {tuple(written)[:6]}\nfound   {tuple(found)[:6]} ({moved:.3f} pixels off)\nwithout x and y {tuple(bare)[:6]}")
print("guessed: what was written")
raise SystemExit(0 if found != written and moved > 0.001 and bare == written else 1)
PY
